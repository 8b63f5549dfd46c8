package rpcerror

import (
	"google.golang.org/grpc/codes"

	"github.com/lacre-metrology/lacre/core/reason"
)

// Entry says how one reason travels and what its reader should do about it.
type Entry struct {
	Reason reason.Reason
	Code   codes.Code // the gRPC status code
	// Permanent means that the same bytes, sent again later, cannot be accepted. A meter's outbox moves such a sample to
	// its refused store (rule N2); anything else it keeps and tries again. When in doubt a reason is not permanent:
	// trying in vain costs less than a sample set aside for nothing.
	Permanent bool
	Meaning   string // one sentence for docs/errors.md
	Remedy    string // one sentence for docs/errors.md
}

// Reasons is the whole table, in the order of package reason. A test holds it, package reason and docs/errors.md
// together. Read only.
var Reasons = []Entry{
	{reason.Malformed, codes.InvalidArgument, true, "The bytes cannot be decoded.", "Correct the sender; compare with docs/formats.md."},
	{reason.NotCanonical, codes.InvalidArgument, true, "The bytes can be decoded, but are not the one encoding that is accepted (rule B1).", "Encode with ascending fields, minimal varints and no default, duplicate or unknown fields."},
	{reason.TooLarge, codes.InvalidArgument, true, "A record, raw vector or message is above its limit. gRPC itself answers RESOURCE_EXHAUSTED without a reason when a message exceeds the transport's limit; clients of this project see that as TOO_LARGE too.", "Send less: fewer records in a submission, a shorter or compactly encoded raw vector."},
	{reason.WrongNetwork, codes.InvalidArgument, true, "The network identifier is that of another network.", "Compare the meter's or the statement's network with `lacre trust show`."},
	{reason.Unsigned, codes.InvalidArgument, true, "The sample carries no signature.", "Sign the header with the meter's key."},
	{reason.BadSignature, codes.InvalidArgument, true, "A signature does not verify.", "Check which key is registered and which one signed."},
	{reason.WeakKey, codes.InvalidArgument, true, "The public key is not canonical, of small order or has a torsion component (rule B3).", "Generate the key with a standard library."},
	{reason.UnknownMeter, codes.NotFound, false, "No registration of this meter is on the ledger.", "Have the notified body register the meter; samples wait in the outbox."},
	{reason.MeterNotInService, codes.FailedPrecondition, true, "The meter is suspended, decommissioned or barred.", "Ask the notified body; the sample stays in the refused store as evidence."},
	{reason.OutOfVerification, codes.FailedPrecondition, true, "The sample was captured outside every verification period of the meter.", "Have the meter verified; what was captured before is no legal result."},
	{reason.WrongAlgorithm, codes.FailedPrecondition, false, "The algorithm is not the one that the meter was under at the capture.", "Endorse again: new parameters of the meter may have come in between."},
	{reason.UnknownAlgorithm, codes.FailedPrecondition, false, "No approval on the ledger names this algorithm.", "Have the module approved; an endorser runs nothing else."},
	{reason.AlgorithmNotInForce, codes.FailedPrecondition, true, "The approval was not in force: outside its validity, suspended or withdrawn.", "Ask the notified body which algorithm is in force."},
	{reason.WrongChannelCount, codes.InvalidArgument, true, "The number of channels differs from the registration.", "Correct the meter's configuration or its registration."},
	{reason.WrongSampleRate, codes.InvalidArgument, true, "The sample rate differs from the meter's parameters in force at the capture.", "Correct the meter's configuration or its parameters."},
	{reason.DigestMismatch, codes.InvalidArgument, true, "Bytes do not have the digest that was signed.", "The bytes were altered after signing; look for the fault between meter and gateway."},
	{reason.FutureDated, codes.FailedPrecondition, false, "The capture time is after the block's time plus the bound (rule S2).", "Correct the meter's clock; the sample is accepted once block time has caught up."},
	{reason.BackDated, codes.InvalidArgument, true, "The capture time is before the block that the sample names (rule S2).", "Correct the meter's clock."},
	{reason.TimeNotMonotonic, codes.InvalidArgument, true, "Capture times decrease while counters increase (rule S2).", "Correct the meter's clock."},
	{reason.UnknownBlock, codes.FailedPrecondition, true, "The sample, or a decision on raw vectors, names a block that is not on this ledger.", "Check that meter and gateway belong to the same network; draft the decision again."},
	{reason.Duplicate, codes.AlreadyExists, true, "The same submission is on the ledger already.", "Nothing to do: use the receipt or index that comes with the answer."},
	{reason.Equivocation, codes.AlreadyExists, true, "Another sample bears this counter, or the chain of samples is broken (rule S3); a security event is recorded.", "Examine the meter: its key signed two histories."},
	{reason.CounterOutOfRange, codes.OutOfRange, true, "The counter is below the first counter of the meter's key, or in a gap that was given up (rule S3).", "Examine the meter's stored counter; what came too late for its gap stays in the refused store as evidence."},
	{reason.TooManyGaps, codes.FailedPrecondition, false, "The meter would leave more gaps than the limit.", "Send the missing samples first, oldest first."},
	{reason.WrongDisposition, codes.FailedPrecondition, false, "The measurement is marked late and is not, or the reverse.", "The gateway submits it again with the right mark."},
	{reason.StaleConfig, codes.Aborted, false, "Another network configuration is in force than the one named.", "Build the submission again upon current state."},
	{reason.StaleRegistration, codes.Aborted, false, "At the capture another registration or version of parameters of the meter was in force than the one named.", "Build the submission again upon current state."},
	{reason.StaleApproval, codes.Aborted, false, "Another approval is in force than the one named.", "Build the submission again upon current state."},
	{reason.PolicyNotMet, codes.FailedPrecondition, false, "Fewer distinct organisations endorsed than the approval's policy asks.", "Ask further endorsers."},
	{reason.BadEndorsement, codes.InvalidArgument, false, "Claim, position, root or endorser do not fit together.", "Have the batch endorsed again."},
	{reason.OutOfSequence, codes.FailedPrecondition, false, "The statement is not the next one on its subject (rule S4).", "Draft it again upon the newest statement."},
	{reason.NotAuthorised, codes.PermissionDenied, true, "The statement is signed, but not by those whose signature it takes.", "Collect the missing signatures."},
	{reason.AlreadyReported, codes.AlreadyExists, true, "The event is on the ledger already (rule S3).", "Nothing to do."},
	{reason.BadEvidence, codes.InvalidArgument, true, "The evidence does not prove the event.", "Report only what the attached headers and signatures show."},
	{reason.Expired, codes.InvalidArgument, true, "The validity that the statement gives ended before its block.", "Draft it again with a validity that lasts."},
	{reason.UnknownOrganisation, codes.InvalidArgument, true, "The endorsement policy names an organisation that the network does not have.", "Draft it again with organisations of the configuration in force."},
	{reason.TooSoon, codes.FailedPrecondition, true, "The heartbeat is less than 10 s after the meter's last.", "Nothing to do: the meter has just shown that it lives."},
	{reason.Overlapping, codes.FailedPrecondition, true, "A validity, suspension or version begins before the one in force began or ended, or before a capture that the ledger has already.", "Draft it again with a later time; the detail names the one that stands in the way."},
	{reason.AlreadyRegistered, codes.AlreadyExists, true, "The meter is registered; a registration is never overwritten.", "Choose another id, or change the meter by a statement on it."},
	{reason.KeyInUse, codes.AlreadyExists, true, "The key is or was that of another node or meter, or of the same meter before: one key under two names would count twice.", "Make a new key."},
	{reason.InvalidStatement, codes.InvalidArgument, true, "The statement is well formed and signed, but says what cannot be.", "Read the detail, draft it again."},
	{reason.WrongPlace, codes.InvalidArgument, true, "A record stands where it may not in a submission or block.", "Submit one statement, one event, heartbeats alone, or one endorsement set followed by its measurements."},
	{reason.EvidenceErased, codes.FailedPrecondition, true, "The erasure of this piece of evidence is on the ledger.", "Nothing to do: it is neither kept nor given out, and every proof of the measurement stands."},
	{reason.RetentionNotOver, codes.FailedPrecondition, false, "Raw vectors would expire that the configuration in force still keeps: its retention is not over, or it sets none.", "The detail names both ages; expire fewer blocks, wait, or change the retention with `lacre network change`."},
	{reason.EvidenceUnreadable, codes.InvalidArgument, true, "The bytes are not evidence sealed to an authority's key in force, or do not open under the key given.", "Seal to the evidence key that the network's configuration names; open with the same network, meter, media type and key."},
	{reason.PermissionDenied, codes.PermissionDenied, false, "The caller's key is not registered in a role that may call this method (rule N1).", "Register the node, or use its own key; the detail names both roles."},
	{reason.KeyEnded, codes.PermissionDenied, false, "A statement on the ledger ended the registration of the caller's key, or put another key in its place (rule N1).", "The detail names the statement: use the newer key, or ask whoever made it; what a meter has measured stays in its outbox."},
	{reason.Overloaded, codes.ResourceExhausted, false, "A bounded queue is full.", "Try again after the delay that comes with the answer."},
	{reason.NotLeader, codes.Unavailable, false, "This replica does not lead, and could not pass the request on.", "Try the leader that the answer names, or any other replica."},
	{reason.NotReady, codes.Unavailable, false, "The node does not follow the certified height yet, or is stopping.", "Try again, or try another node."},
	{reason.NotFound, codes.NotFound, false, "The ledger holds no such thing.", "Check the identifier; a lagging replica's answer names the height on which it rests."},
	{reason.NotCertified, codes.Unavailable, false, "The block is applied, but was not certified in time.", "Ask again with the same bytes: the answer will be the same receipt."},
	{reason.NotInstalled, codes.FailedPrecondition, false, "The algorithm is approved, but this endorser does not hold its module.", "Install the module, or ask another endorser."},
	{reason.NotContracted, codes.PermissionDenied, true, "The module is withheld, and the approval's policy does not name this endorser's organisation.", "Hand it only to the endorsers of the policy's organisations; a renewed approval may name another."},
	{reason.ProfileViolation, codes.InvalidArgument, true, "The module breaks the sandbox profile.", "Build it as sandbox/DESIGN.md says; `lacre module inspect` names the rule."},
	{reason.UnsupportedVersion, codes.FailedPrecondition, false, "The network's configuration, or the directory, names a version that this program does not know; the node has stopped serving.", "Install the build that the message asks for and start it on the same directory; nothing is lost."},
	{reason.RawVectorExpired, codes.NotFound, false, "A decision on the ledger let this raw vector go, and the replica that was asked kept it no longer.", "Ask a replica that keeps raw vectors, or use a bundle that was made before; receipt and proofs stand, and the detail names the decision."},
	{reason.DataLoss, codes.DataLoss, false, "Stored bytes do not match their digests; the node has stopped serving.", "Follow the runbook for a damaged replica; other replicas are not affected."},
}

var byReason = func() map[reason.Reason]Entry {
	table := make(map[reason.Reason]Entry, len(Reasons))
	for _, entry := range Reasons {
		table[entry.Reason] = entry
	}
	return table
}()

// Lookup returns the entry of a reason, or false for one that the table does not hold (a newer server's).
func Lookup(r reason.Reason) (Entry, bool) {
	entry, ok := byReason[r]
	return entry, ok
}

// Permanent tells whether the reason is known to be permanent; see Entry.
func Permanent(r reason.Reason) bool { return byReason[r].Permanent }

// Package reason is the closed list of why something is refused. The strings
// travel in ErrorInfo.reason and in outcomes, and docs/errors.md explains each;
// a test holds list and page together.
package reason

import (
	"errors"
	"fmt"
)

// Reason is a stable, upper-case name of a cause.
type Reason string

// The reasons for which records and samples are refused.
const (
	Malformed           Reason = "MALFORMED"              // not decodable
	NotCanonical        Reason = "NOT_CANONICAL"          // decodable, but not our one encoding (rule B1)
	TooLarge            Reason = "TOO_LARGE"              // above a size limit
	WrongNetwork        Reason = "WRONG_NETWORK"          // another network's id
	Unsigned            Reason = "UNSIGNED"               // no signature at all
	BadSignature        Reason = "BAD_SIGNATURE"          // a signature that does not verify
	WeakKey             Reason = "WEAK_KEY"               // a public key that rule B3 excludes
	UnknownMeter        Reason = "UNKNOWN_METER"          // no such registration
	MeterNotInService   Reason = "METER_NOT_IN_SERVICE"   // suspended, decommissioned or barred
	OutOfVerification   Reason = "OUT_OF_VERIFICATION"    // captured outside every verification
	WrongAlgorithm      Reason = "WRONG_ALGORITHM"        // not the algorithm that the meter was under at the capture
	UnknownAlgorithm    Reason = "UNKNOWN_ALGORITHM"      // no approval names it
	AlgorithmNotInForce Reason = "ALGORITHM_NOT_IN_FORCE" // outside validity, suspended or withdrawn
	WrongChannelCount   Reason = "WRONG_CHANNEL_COUNT"    // differs from the registration
	WrongSampleRate     Reason = "WRONG_SAMPLE_RATE"      // differs from the parameters in force
	DigestMismatch      Reason = "DIGEST_MISMATCH"        // bytes do not have the digest that was signed
	FutureDated         Reason = "FUTURE_DATED"           // captured after the block's time plus the bound (rule S2)
	BackDated           Reason = "BACK_DATED"             // captured before the block that the sample names (rule S2)
	TimeNotMonotonic    Reason = "TIME_NOT_MONOTONIC"     // capture times decrease with the counter (rule S2)
	UnknownBlock        Reason = "UNKNOWN_BLOCK"          // the sample or statement names a block that is not on this ledger
	Duplicate           Reason = "DUPLICATE"              // the same sample again; its receipt is given
	Equivocation        Reason = "EQUIVOCATION"           // another sample under a counter already used, or a broken chain (rule S3)
	CounterOutOfRange   Reason = "COUNTER_OUT_OF_RANGE"   // below the first counter of the meter, or in a gap that was given up
	TooManyGaps         Reason = "TOO_MANY_GAPS"          // the meter leaves more gaps than the limit; send the missing ones first
	WrongDisposition    Reason = "WRONG_DISPOSITION"      // marked late and is not, or the reverse
	StaleConfig         Reason = "STALE_CONFIG"           // names another configuration than the one in force
	StaleRegistration   Reason = "STALE_REGISTRATION"     // names another registration or version of parameters than the one in force at the capture
	StaleApproval       Reason = "STALE_APPROVAL"         // names another approval than the one in force
	PolicyNotMet        Reason = "POLICY_NOT_MET"         // not enough distinct organisations endorsed
	BadEndorsement      Reason = "BAD_ENDORSEMENT"        // claim, index, root or endorser do not fit
	OutOfSequence       Reason = "OUT_OF_SEQUENCE"        // not the next statement on its subject (rule S4)
	NotAuthorised       Reason = "NOT_AUTHORISED"         // signed, but not by whom it takes
	AlreadyReported     Reason = "ALREADY_REPORTED"       // the event is on the ledger (rule S3)
	BadEvidence         Reason = "BAD_EVIDENCE"           // the evidence does not prove the event
	Expired             Reason = "EXPIRED"                // a statement whose validity ended before its block
	UnknownOrganisation Reason = "UNKNOWN_ORGANISATION"   // an endorsement policy names no organisation of the network
	TooSoon             Reason = "TOO_SOON"               // a heartbeat less than 10 s after the meter's last
	Overlapping         Reason = "OVERLAPPING"            // a validity or effective time that reaches back over what was given or used already
	AlreadyRegistered   Reason = "ALREADY_REGISTERED"     // the meter has its registration, which nothing overwrites
	KeyInUse            Reason = "KEY_IN_USE"             // the key was or is another's, or the meter's own before
	InvalidStatement    Reason = "INVALID_STATEMENT"      // well formed and signed, but says what cannot be
	WrongPlace          Reason = "WRONG_PLACE"            // a record where it may not stand in a submission or block
	EvidenceErased      Reason = "EVIDENCE_ERASED"        // its erasure is on the ledger
	RetentionNotOver    Reason = "RETENTION_NOT_OVER"     // raw vectors would expire that the configuration in force still keeps
)

// The reasons that come from a service and not from a record.
const (
	EvidenceUnreadable Reason = "EVIDENCE_UNREADABLE" // not the sealed form, or not sealed to a key in force
	PermissionDenied   Reason = "PERMISSION_DENIED"   // the caller's role may not call this
	KeyEnded           Reason = "KEY_ENDED"           // a statement on the ledger ended the caller's registration, or gave it another key
	Overloaded         Reason = "OVERLOADED"          // a bounded queue is full; retry after the delay
	NotLeader          Reason = "NOT_LEADER"          // no leader is known, or it changed
	NotReady           Reason = "NOT_READY"           // the node does not follow the certified height yet
	NotFound           Reason = "NOT_FOUND"           // no such thing on the ledger
	NotCertified       Reason = "NOT_CERTIFIED"       // applied, but not certified in time; ask again
	NotInstalled       Reason = "NOT_INSTALLED"       // approved, but this endorser does not hold the module
	NotContracted      Reason = "NOT_CONTRACTED"      // a withheld module, and this endorser's organisation is not in its policy
	ProfileViolation   Reason = "PROFILE_VIOLATION"   // the module breaks the sandbox profile
	UnsupportedVersion Reason = "UNSUPPORTED_VERSION" // the network or the directory needs a newer build of this program
	RawVectorExpired   Reason = "RAW_VECTOR_EXPIRED"  // a decision on the ledger let the raw vector go, and this replica kept it no longer
	DataLoss           Reason = "DATA_LOSS"           // stored bytes do not match their digests; the node stopped serving
)

// Error is a refusal: its reason and both sides of what did not match.
type Error struct {
	Reason Reason
	Detail string
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// Is matches another *Error by reason, so errors.Is(err, reason.New(r, "")) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// New makes a refusal; format shows both sides.
func New(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Detail: fmt.Sprintf(format, args...)}
}

// Of returns the reason of the first *Error in err's chain, or "" when there is none.
func Of(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

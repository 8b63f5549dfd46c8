package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// ballot is what a panel said on a batch.
type ballot struct {
	panel    *panel
	batch    []*Sample
	voices   []*voice
	failures []error // of members that gave no answer
}

// opinion is what some members say alike on one sample.
type opinion struct {
	claim   []byte // nil: they refuse it
	decoded *claim.Claim
	holders members
}

// opinions on the i-th sample. All refusals are one: members that follow the
// ledger at different heights may give different reasons.
func (b *ballot) opinions(i int) []opinion {
	var all []opinion
	for _, v := range b.voices {
		said := v.outcomes[i].GetClaim()
		at := slices.IndexFunc(all, func(o opinion) bool { return bytes.Equal(o.claim, said) })
		if at < 0 {
			at = len(all)
			all = append(all, opinion{claim: said, decoded: v.claims[i]})
		}
		all[at].holders = all[at].holders.with(v.member)
	}
	return all
}

// verdict is the opinion that satisfies the policy, if there is one.
func (b *ballot) verdict(i int) (opinion, bool) {
	for _, o := range b.opinions(i) {
		if b.panel.satisfied(o.holders) {
			return o, true
		}
	}
	return opinion{}, false
}

func (b *ballot) decided() bool {
	for i := range b.batch {
		if _, ok := b.verdict(i); !ok {
			return false
		}
	}
	return true
}

// hopeful reports whether every sample can be decided by those still asked.
func (b *ballot) hopeful(outstanding members) bool {
	if b.panel.satisfied(outstanding) {
		return true
	}
	for i := range b.batch {
		if !slices.ContainsFunc(b.opinions(i), func(o opinion) bool { return b.panel.satisfied(o.holders | outstanding) }) {
			return false
		}
	}
	return true
}

// refusal is the reason for which the members refused a sample: one that is not
// permanent if there is any.
func (b *ballot) refusal(i int) error {
	var refused error
	for _, v := range b.voices {
		o := v.outcomes[i]
		if len(o.GetClaim()) > 0 {
			continue
		}
		err := &reason.Error{Reason: reason.Reason(o.GetReason()), Detail: o.GetDetail()}
		if refused == nil || rpcerror.IsPermanent(refused) {
			refused = err
		}
	}
	return refused
}

// shortfall says why a sample is not decided. It is never permanent: a member's
// failure says nothing about the sample.
func (b *ballot) shortfall() error {
	for _, failure := range b.failures {
		if why := reason.Of(failure); why == reason.NotInstalled || why == reason.Overloaded {
			return failure
		}
	}
	return reason.New(reason.NotReady, "%d of %d endorsers answered and do not satisfy the policy %s: %v",
		len(b.voices), len(b.panel.members), b.panel.policy, errors.Join(b.failures...))
}

// group is samples that the same members endorse alike.
type group struct {
	samples []*Sample
	claims  [][]byte // in the order of samples
	holders members
}

// agreed sorts the claims that stand into groups, as few as one goes for: a
// member that disagrees on one sample is left out of the set of all samples, if
// the others suffice.
func (b *ballot) agreed() []group {
	type standing struct {
		at int
		opinion
	}
	var left []standing
	for i := range b.batch {
		if o, ok := b.verdict(i); ok && len(o.claim) > 0 {
			left = append(left, standing{i, o})
		}
	}
	// The sample with the fewest holders founds the group: most others have its
	// holders too.
	slices.SortStableFunc(left, func(a, b standing) int {
		return cmp.Compare(bits.OnesCount64(uint64(a.holders)), bits.OnesCount64(uint64(b.holders)))
	})
	var groups []group
	for len(left) > 0 {
		holders := left[0].holders
		var rest, taken []standing
		for _, s := range left {
			if s.holders&holders == holders {
				taken = append(taken, s)
			} else {
				rest = append(rest, s)
			}
		}
		slices.SortFunc(taken, func(a, b standing) int { return cmp.Compare(a.at, b.at) })
		g := group{holders: holders}
		for _, s := range taken {
			g.samples, g.claims = append(g.samples, b.batch[s.at]), append(g.claims, s.claim)
		}
		groups, left = append(groups, g), rest
	}
	return groups
}

// signatures are those that cover exactly the claims of a group, ascending by
// node id; nil if they do not satisfy the policy.
func (b *ballot) signatures(g group) []*recordv1.Endorsement {
	var signers members
	var signed []*recordv1.Endorsement
	for _, v := range b.voices {
		if v.made != len(g.claims) {
			continue
		}
		at := 0
		for _, o := range v.outcomes {
			if len(o.GetClaim()) > 0 && bytes.Equal(o.GetClaim(), g.claims[at]) {
				at++
			}
		}
		if at == len(g.claims) {
			signers = signers.with(v.member)
			signed = append(signed, &recordv1.Endorsement{NodeId: b.panel.members[v.member].contact.NodeID(), Signature: v.sig})
		}
	}
	if !b.panel.satisfied(signers) {
		return nil
	}
	slices.SortFunc(signed, func(x, y *recordv1.Endorsement) int { return strings.Compare(x.GetNodeId(), y.GetNodeId()) })
	return signed
}

// disagreement is the event that members signed different claims on one sample
// under the same terms; nil when they did not. Under different terms one of them
// only follows the ledger a little behind the other. The report is the same
// bytes whenever the same claims are seen again, whatever the order of answers.
func (b *ballot) disagreement(i int, networkID digest.Digest, reporter string) *recordv1.EventReport {
	opinions := slices.DeleteFunc(b.opinions(i), func(o opinion) bool { return o.decoded == nil })
	slices.SortFunc(opinions, func(x, y opinion) int { return bytes.Compare(x.claim, y.claim) })
	contradict := func(x, y *claim.Claim) bool {
		return x.Registration == y.Registration && x.FuelLimit == y.FuelLimit && x.ProfileVersion == y.ProfileVersion
	}
	found := false
	for at, x := range opinions {
		for _, y := range opinions[at+1:] {
			found = found || contradict(x.decoded, y.decoded)
		}
	}
	if !found {
		return nil
	}
	s := b.batch[i].Parsed
	report := &recordv1.EventReport{
		NetworkId: networkID.Bytes(), Reporter: reporter, Kind: recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE,
		Subject: record.SubjectMeter(s.MeterID), Counter: s.Counter,
	}
	var who []string
	for _, o := range opinions[:min(len(opinions), record.MaxEventEvidence)] {
		report.Evidence = append(report.Evidence, o.claim)
		who = append(who, fmt.Sprintf("claim %s of %s", claim.Hash(o.claim).Short(), strings.Join(b.panel.nodes(o.holders), ", ")))
	}
	report.Detail = strings.Join(who, "; ")
	report.Detail = report.Detail[:min(len(report.Detail), record.MaxEventDetail)]
	return report
}

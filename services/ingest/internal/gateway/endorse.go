package gateway

import (
	"context"
	"time"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

const (
	// endorseTimeout bounds one poll of endorsers.
	endorseTimeout = 10 * time.Second
	// hesitation is how long an endorser may take before another is asked too.
	hesitation = 2 * time.Second
)

// endorsed is samples whose claims enough endorsers signed together.
type endorsed struct {
	group
	signatures []*recordv1.Endorsement // ascending by node id
}

// endorse has a batch endorsed. It answers the samples that the endorsers
// refuse; again are those that may succeed in another round, and why is what
// stood in their way.
func (g *Gateway) endorse(ctx context.Context, snapshot *follower.Snapshot, algorithm digest.Digest, batch []*Sample) (sets []endorsed, again []*Sample, why error) {
	terms, err := inForce(snapshot, algorithm)
	if err != nil {
		return nil, batch, err
	}
	p, err := newPanel(snapshot, g.networkID, algorithm, terms.Policy, g.contacts, int(g.turn.Add(1)))
	if err != nil {
		return nil, batch, err
	}
	polling, span := g.Traces.Below(ctx, "gateway.endorse")
	b := p.poll(polling, batch, g.hesitation)
	span.End(nil)
	for i, s := range batch {
		g.reportDisagreement(b, i)
		o, decided := b.verdict(i)
		switch {
		case !decided:
			again, why = append(again, s), b.shortfall()
		case len(o.claim) == 0:
			s.answer(Answer{Err: b.refusal(i)})
		}
	}
	for _, agreed := range b.agreed() {
		signed := b.signatures(agreed)
		if signed == nil {
			// Somebody's signature covers other claims as well: those that agree
			// endorse again, without the others.
			second := p.only(agreed.holders).poll(ctx, agreed.samples, g.hesitation)
			if signed = second.signatures(agreed); signed == nil {
				again, why = append(again, agreed.samples...), second.shortfall()
				continue
			}
		}
		sets = append(sets, endorsed{agreed, signed})
	}
	return sets, again, why
}

// inForce are the terms of an approval that is not withdrawn; all else about its
// validity is judged by the ledger at capture time.
func inForce(view state.View, algorithm digest.Digest) (*approval.Approval, error) {
	entry, err := state.GetAlgorithm(view, algorithm)
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, reason.New(reason.UnknownAlgorithm, "no approval on the certified ledger names algorithm %s", algorithm.Short())
	}
	if entry.GetWithdrawn() {
		return nil, reason.New(reason.AlgorithmNotInForce, "the approval of algorithm %s is withdrawn", algorithm.Short())
	}
	return approval.ParseAccepted(entry.GetApprovalPayload()) // the ledger accepted it
}

// reportDisagreement records that endorsers differ on a sample, once for each
// time that a meter sends it; the ledger takes the same report once for all.
func (g *Gateway) reportDisagreement(b *ballot, i int) {
	s := b.batch[i]
	if s.disputed || len(b.voices) < 2 {
		return
	}
	report := b.disagreement(i, g.networkID, g.nodeID)
	if report == nil {
		return
	}
	s.disputed = true
	g.counts.disagreements.Add(1)
	if err := g.events.Report(report); err != nil {
		g.log.Error("a disagreement of endorsers is not recorded", "meter", s.Parsed.MeterID, "counter", s.Parsed.Counter, "detail", report.GetDetail(), "error", err)
	}
}

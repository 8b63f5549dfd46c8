package gateway

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

// Endorser is one compute organisation's service.
type Endorser interface {
	NodeID() string
	Organisation() string
	Endorse(ctx context.Context, request *computev1.EndorseRequest) (*computev1.EndorseResponse, error)
}

// Endorsers lists the endorsers that the gateway has an address of, in a fixed order.
type Endorsers []Endorser

// endorsed is a batch whose claims enough endorsers signed.
type endorsed struct {
	samples    []*Sample
	claims     [][]byte                // in the order of samples
	signatures []*recordv1.Endorsement // ascending by node id
}

// voice is one endorser's answer.
type voice struct {
	endorser Endorser
	response *computev1.EndorseResponse
	err      error
}

// endorse asks as many endorsers as the policy needs, answers the samples that
// all of them refuse, and returns the claims on which enough of them agree.
func (g *Gateway) endorse(ctx context.Context, snapshot *follower.Snapshot, algorithm digest.Digest, batch []*Sample) (*endorsed, error) {
	entry, err := state.GetAlgorithm(snapshot, algorithm)
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, reason.New(reason.UnknownAlgorithm, "no approval on the certified ledger names algorithm %s", algorithm.Short())
	}
	terms, err := approval.Parse(entry.GetApprovalPayload())
	if err != nil {
		return nil, err
	}
	request := &computev1.EndorseRequest{Algorithm: algorithm[:]}
	for _, s := range batch {
		request.Samples = append(request.Samples, &computev1.SignedSample{Header: s.Parsed.Bytes, Signature: s.Signature, RawVector: s.Raw})
	}

	// The smallest prefix of the list that satisfies the policy is asked first,
	// beginning at another endorser for each batch, so that work is spread.
	order := rotate(g.endorsers, int(batch[0].Parsed.Counter))
	var voices []voice
	for len(order) > 0 {
		n := needed(terms, voices, order)
		if n == 0 {
			break
		}
		voices = append(voices, ask(ctx, order[:n], request, len(batch))...)
		order = order[n:]
		if satisfied(terms, organisations(voices)) {
			break
		}
	}
	var failures []error
	answered := slices.DeleteFunc(slices.Clone(voices), func(v voice) bool {
		if v.err != nil {
			failures = append(failures, v.err)
		}
		return v.err != nil
	})
	if !satisfied(terms, organisations(answered)) {
		// A reason that an endorser gave for the whole batch says more than the count.
		for _, failure := range failures {
			if why := reason.Of(failure); why != "" && why != reason.Overloaded && why != reason.NotReady {
				return nil, failure
			}
		}
		return nil, reason.New(reason.NotReady, "%d of %d endorsers answered, which does not satisfy the approval's policy: %v",
			len(answered), len(voices), errors.Join(failures...))
	}
	return g.agree(ctx, terms, algorithm, batch, answered)
}

// agree compares the answers sample by sample. Where all endorsers agree on
// every sample their signatures stand; otherwise the agreed samples are
// endorsed once more without the others.
func (g *Gateway) agree(ctx context.Context, terms *approval.Approval, algorithm digest.Digest, batch []*Sample, answers []voice) (*endorsed, error) {
	out := &endorsed{}
	var kept []int
	whole := true
	for i, s := range batch {
		first := answers[0].response.GetOutcomes()[i]
		same := true
		for _, other := range answers[1:] {
			same = same && bytes.Equal(first.GetClaim(), other.response.GetOutcomes()[i].GetClaim())
		}
		switch {
		case same && len(first.GetClaim()) > 0:
			out.samples, out.claims = append(out.samples, s), append(out.claims, first.GetClaim())
			kept = append(kept, i)
		case same:
			s.answer(Answer{Err: &reason.Error{Reason: reason.Reason(first.GetReason()), Detail: first.GetDetail()}})
		default:
			whole = false
			g.disagreement(ctx, s, answers, i)
			s.answer(Answer{Err: reason.New(reason.NotReady, "the endorsers disagree on the sample; the disagreement is recorded")})
		}
	}
	if len(kept) == 0 {
		return out, nil
	}
	if !whole {
		request := &computev1.EndorseRequest{Algorithm: algorithm[:]}
		for _, i := range kept {
			s := batch[i]
			request.Samples = append(request.Samples, &computev1.SignedSample{Header: s.Parsed.Bytes, Signature: s.Signature, RawVector: s.Raw})
		}
		again := make([]Endorser, len(answers))
		for i, v := range answers {
			again[i] = v.endorser
		}
		answers = ask(ctx, again, request, len(kept))
		for _, v := range answers {
			if v.err != nil {
				return nil, v.err
			}
			for i := range kept {
				if !bytes.Equal(v.response.GetOutcomes()[i].GetClaim(), out.claims[i]) {
					return nil, reason.New(reason.NotReady, "endorser %s changed its claim between two calls", v.endorser.NodeID())
				}
			}
		}
	}
	for _, v := range answers {
		out.signatures = append(out.signatures, &recordv1.Endorsement{NodeId: v.endorser.NodeID(), Signature: v.response.GetSignature()})
	}
	slices.SortFunc(out.signatures, func(a, b *recordv1.Endorsement) int { return strings.Compare(a.GetNodeId(), b.GetNodeId()) })
	return out, nil
}

// disagreement records that endorsers differ on a sample: the claims are the evidence.
func (g *Gateway) disagreement(ctx context.Context, s *Sample, answers []voice, i int) {
	report := &recordv1.EventReport{
		NetworkId: g.networkID[:], Reporter: g.nodeID, Kind: recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE,
		Subject: record.SubjectMeter(s.Parsed.MeterID), Counter: s.Parsed.Counter,
	}
	var who []string
	for _, v := range answers {
		outcome := v.response.GetOutcomes()[i]
		who = append(who, v.endorser.NodeID()+" "+outcome.GetReason())
		if len(outcome.GetClaim()) > 0 {
			report.Evidence = append(report.Evidence, outcome.GetClaim())
		}
	}
	report.Detail = "endorsers: " + strings.Join(who, ", ")
	if err := g.ledger.Report(ctx, g.signer, report); err != nil && reason.Of(err) != reason.AlreadyReported {
		g.log.ErrorContext(ctx, "a disagreement of endorsers could not be recorded", "meter", s.Parsed.MeterID, "counter", s.Parsed.Counter, "error", err)
	}
}

// ask calls endorsers side by side; an answer of the wrong shape is an error.
func ask(ctx context.Context, endorsers []Endorser, request *computev1.EndorseRequest, n int) []voice {
	voices := make([]voice, len(endorsers))
	var asking sync.WaitGroup
	for i, e := range endorsers {
		asking.Go(func() {
			response, err := e.Endorse(ctx, request)
			if err == nil && len(response.GetOutcomes()) != n {
				err = reason.New(reason.BadEndorsement, "endorser %s gave %d outcomes for %d samples", e.NodeID(), len(response.GetOutcomes()), n)
			}
			voices[i] = voice{endorser: e, response: response, err: err}
		})
	}
	asking.Wait()
	return voices
}

// needed is how many of the next endorsers must be asked so that the policy can
// be satisfied; 0 if even all of them are too few.
func needed(terms *approval.Approval, voices []voice, order []Endorser) int {
	have := organisations(slices.DeleteFunc(slices.Clone(voices), func(v voice) bool { return v.err != nil }))
	for n, e := range order {
		have = append(have, e.Organisation())
		if satisfied(terms, have) {
			return n + 1
		}
	}
	return 0
}

func satisfied(terms *approval.Approval, organisations []string) bool {
	set := make(map[string]bool, len(organisations))
	for _, o := range organisations {
		set[o] = true
	}
	return terms.Policy.Satisfied(set)
}

func organisations(voices []voice) []string {
	var out []string
	for _, v := range voices {
		if v.err == nil {
			out = append(out, v.endorser.Organisation())
		}
	}
	return out
}

func rotate(list Endorsers, by int) []Endorser {
	if len(list) == 0 {
		return nil
	}
	by %= len(list)
	return append(append([]Endorser(nil), list[by:]...), list[:by]...)
}

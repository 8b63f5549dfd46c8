package gateway

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// signer endorses in this process; says gives its result for the i-th capture of
// the test, or false to refuse it.
type signer struct {
	node    statetest.Node
	network *statetest.Network
	batch   []*Sample
	says    func(i int) (int64, bool)
	fails   error
	asked   int
}

func (s *signer) NodeID() string { return s.node.ID }

func (s *signer) Endorse(_ context.Context, request *computev1.EndorseRequest) (*computev1.EndorseResponse, error) {
	s.asked++
	if s.fails != nil {
		return nil, s.fails
	}
	response := &computev1.EndorseResponse{}
	var hashes []digest.Digest
	for _, given := range request.GetSamples() {
		i := slices.IndexFunc(s.batch, func(b *Sample) bool { return bytes.Equal(b.Parsed.Bytes, given.GetHeader()) })
		value, claims := s.says(i)
		if !claims {
			response.Outcomes = append(response.Outcomes, &computev1.SampleOutcome{Reason: string(reason.BadSignature), Detail: s.node.ID})
			continue
		}
		b, err := (&claim.Claim{
			NetworkID: s.network.ID, Sample: s.batch[i].Parsed.Digest, Algorithm: s.network.Algorithm, ProfileVersion: claim.ProfileVersion,
			FuelLimit: 1, Result: statetest.Result(0, value),
		}).Encode()
		if err != nil {
			return nil, err
		}
		response.Outcomes = append(response.Outcomes, &computev1.SampleOutcome{Claim: b})
		hashes = append(hashes, claim.Hash(b))
	}
	var err error
	if len(hashes) > 0 {
		response.Signature, err = signature.Sign(s.node.Key, signature.Ed25519ZIP215, claim.EndorsementMessage(s.network.ID, s.network.Algorithm, hashes))
	}
	return response, err
}

// hall is a panel of three organisations, of which the policy wants two.
type hall struct {
	*panel
	batch   []*Sample
	signers []*signer
}

func newHall(t *testing.T, samples int) *hall {
	t.Helper()
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	m := n.Register("meter-01")
	h := &hall{}
	for range samples {
		h.batch = append(h.batch, &Sample{Parsed: m.Capture().Sample})
	}
	var contacts []*contact
	for _, node := range n.Endorsers[:3] {
		s := &signer{node: node, network: n, batch: h.batch, says: func(int) (int64, bool) { return 80, true }}
		h.signers = append(h.signers, s)
		contacts = append(contacts, &contact{Endorser: s})
	}
	p, err := newPanel(n.Store, n.ID, n.Algorithm, policy.OutOf(2, policy.Organisation("org-00"), policy.Organisation("org-01"), policy.Organisation("org-02")), contacts, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.panel = p
	return h
}

func (h *hall) poll(t *testing.T) *ballot { return h.panel.poll(t.Context(), h.batch, time.Hour) }

func counters(g group) (all []uint64) {
	for _, s := range g.samples {
		all = append(all, s.Parsed.Counter)
	}
	return all
}

func TestAgreementTakesTheFirstSignatures(t *testing.T) {
	h := newHall(t, 3)
	b := h.poll(t)
	groups := b.agreed()
	if len(groups) != 1 || !slices.Equal(counters(groups[0]), []uint64{1, 2, 3}) {
		t.Fatalf("groups %v", groups)
	}
	if signed := b.signatures(groups[0]); len(signed) != 2 {
		t.Errorf("signatures %v", signed)
	}
	if h.signers[2].asked != 0 {
		t.Error("more were asked than the policy needs")
	}
	if b.disagreement(0, h.network, "gateway") != nil {
		t.Error("an agreement is an event")
	}
}

// One lie on one sample: all samples stand, in one set, without the liar.
func TestAgreedClaimsAreEndorsedAgainWithoutTheOthers(t *testing.T) {
	h := newHall(t, 3)
	h.signers[1].says = func(i int) (int64, bool) { return int64(80 + 100*(i%2)), true }
	b := h.poll(t)
	groups := b.agreed()
	if len(groups) != 1 || !slices.Equal(counters(groups[0]), []uint64{1, 2, 3}) || !slices.Equal(h.nodes(groups[0].holders), []string{"endorser-00", "endorser-02"}) {
		t.Fatalf("groups %v of %v", groups, h.nodes(groups[0].holders))
	}
	// The honest two signed all three already: nothing needs to be said again.
	if signed := b.signatures(groups[0]); len(signed) != 2 || signed[0].GetNodeId() != "endorser-00" || signed[1].GetNodeId() != "endorser-02" {
		t.Errorf("signatures %v", signed)
	}
	first := b.disagreement(1, h.network, "gateway")
	if first == nil || len(first.GetEvidence()) != 2 || first.GetCounter() != 2 || first.GetKind() != recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE {
		t.Fatalf("event %v", first)
	}
	if b.disagreement(0, h.network, "gateway") != nil {
		t.Error("the samples on which all agree are an event too")
	}
	slices.Reverse(b.voices)
	if again := b.disagreement(1, h.network, "gateway"); again.String() != first.String() {
		t.Errorf("another order of answers is another event: %v, %v", again, first)
	}
}

// An undecided sample is taken out; the others are endorsed again by themselves.
func TestUndecidedSampleIsTakenOut(t *testing.T) {
	h := newHall(t, 3)
	for k, s := range h.signers {
		s.says = func(i int) (int64, bool) {
			if i == 1 {
				return int64(k), true
			}
			return 80, true
		}
	}
	b := h.poll(t)
	if _, decided := b.verdict(1); decided {
		t.Error("three opinions decide")
	}
	groups := b.agreed()
	if len(groups) != 1 || !slices.Equal(counters(groups[0]), []uint64{1, 3}) || b.signatures(groups[0]) != nil {
		t.Fatalf("groups %v, signatures %v", groups, b.signatures(groups[0]))
	}
	second := h.only(groups[0].holders).poll(t.Context(), groups[0].samples, time.Hour)
	if signed := second.signatures(groups[0]); len(signed) < 2 {
		t.Errorf("signatures of the second call %v", signed)
	}
}

// Two liars on two samples: no two members agree on all, so there are two sets.
func TestGroupsWhereNoTwoAgreeOnAll(t *testing.T) {
	h := newHall(t, 2)
	for k, s := range h.signers[1:] {
		s.says = func(i int) (int64, bool) {
			if i == k {
				return 200, true
			}
			return 80, true
		}
	}
	groups := h.poll(t).agreed()
	if len(groups) != 2 || len(groups[0].samples) != 1 || len(groups[1].samples) != 1 {
		t.Errorf("groups %v", groups)
	}
}

func TestRefusalNeedsThePolicyToo(t *testing.T) {
	h := newHall(t, 2)
	no := func(i int) (int64, bool) { return 80, i != 0 }
	h.signers[0].says = no
	b := h.poll(t)
	if o, decided := b.verdict(0); !decided || len(o.claim) == 0 {
		t.Errorf("one refusal beats two claims: %v, %v", o, decided)
	}
	h = newHall(t, 2)
	h.signers[0].says, h.signers[1].says = no, no
	b = h.poll(t)
	if o, decided := b.verdict(0); !decided || len(o.claim) != 0 {
		t.Errorf("two refusals: %v, %v", o, decided)
	}
	if err := b.refusal(0); reason.Of(err) != reason.BadSignature {
		t.Errorf("refused with %v", err)
	}
	// Their signatures cover what they claimed, and that alone.
	if groups := b.agreed(); len(groups) != 1 || len(b.signatures(groups[0])) != 2 {
		t.Errorf("groups %v", groups)
	}
}

func TestFailuresAreNeverPermanent(t *testing.T) {
	for _, why := range []error{
		errors.New("gone"), reason.New(reason.Malformed, ""), reason.New(reason.TooLarge, ""), reason.New(reason.NotInstalled, ""),
		rpcerror.With(reason.New(reason.Overloaded, ""), rpcerror.RetryAfter(time.Second)),
	} {
		h := newHall(t, 1)
		for _, s := range h.signers {
			s.fails = why
		}
		b := h.poll(t)
		if _, decided := b.verdict(0); decided || rpcerror.IsPermanent(b.shortfall()) || reason.Of(b.shortfall()) == "" {
			t.Errorf("%v: decided %v, %v", why, decided, b.shortfall())
		}
		for _, m := range h.members {
			if m.contact.lastUntil.Load() == 0 {
				t.Errorf("%v: %s is not asked later than others", why, m.contact.NodeID())
			}
		}
	}
}

// An endorser in trouble is asked last; one that the ledger does not know, never.
func TestPanelOrder(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	var contacts []*contact
	for _, node := range append(slices.Clone(n.Endorsers[:3]), statetest.Node{ID: "stranger"}, statetest.Node{ID: "replica-00"}) {
		contacts = append(contacts, &contact{Endorser: &signer{node: node}})
	}
	order := func(turn int) (ids []string) {
		p, err := newPanel(n.Store, n.ID, n.Algorithm, policy.Organisation("org-00"), contacts, turn)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.members {
			ids = append(ids, m.contact.NodeID())
		}
		return ids
	}
	if got := order(1); !slices.Equal(got, []string{"endorser-01", "endorser-02", "endorser-00"}) {
		t.Errorf("turn 1: %v", got)
	}
	contacts[1].demote()
	if got := order(1); !slices.Equal(got, []string{"endorser-02", "endorser-00", "endorser-01"}) {
		t.Errorf("with endorser-01 in trouble: %v", got)
	}
}

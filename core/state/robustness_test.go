package state_test

import (
	"crypto"
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// The findings of docs/robustness.md that lie in the transition.

// S1: a refusal code means what the approved schema says; one that it does not
// name means nothing, and is no result.
func TestS1_RefusalCodesAreThoseOfTheSchema(t *testing.T) {
	n, m := ready(t) // its schema names 1 and 2
	for code, want := range map[uint32]reason.Reason{
		1: "", 2: "", 100: "", 3: reason.BadEndorsement, 99: reason.BadEndorsement,
	} {
		b := n.Batch(m.Peek())
		b.Claims[0].Result = statetest.Result(code)
		if o := try(t, n, b.Records(), b.Raw)[1]; o.Reason != want {
			t.Errorf("code %d: %q (%s), want %q", code, o.Reason, o.Detail, want)
		}
	}
}

// C4: in the joint certificate of a change both sets have their F liars, and
// these are more than half of all who signed. Together they must not make time
// fast.
func TestC4_JointCertificateCannotMakeTimeFast(t *testing.T) {
	n := statetest.New(t, statetest.Options{Organisations: 7}) // F = 2, q = 5
	c := nextConfig(n)
	cosigners := append([]statetest.Replica{}, n.Replicas[:3]...)
	cosigners = append(cosigners, n.Replicas[5:]...)
	var roots []crypto.Signer
	for i, old := range []int{5, 6} {
		joining := statetest.NewReplica(fmt.Sprintf("replica-%02d", 7+i), statetest.OrganisationID(old))
		n.Accept(n.Sign(n.Registration(joining.Node, 1, [32]byte{}), statetest.Root(joining.Organisation), joining.Key))
		c.Replicas[old] = joining.Message()
		cosigners = append(cosigners, joining)
		roots = append(roots, joining.Cosigner, joining.Log)
	}
	for _, o := range c.Organisations[:4] {
		roots = append(roots, statetest.Root(o.Id))
	}
	n.Accept(n.Sign(c, roots...))
	n.Replicas = cosigners // three of both sets, two of the old, two of the new
	head := n.Store.Head()
	for name, stamps := range map[string][]uint64{
		"all honest":                {5, 5, 5, 5, 5, 5, 5},
		"the old and the new lie":   {5, 5, 5, 1 << 40, 1 << 40, 1 << 40, 1 << 40},
		"one of the common as well": {5, 5, 1 << 40, 1 << 40, 5, 1 << 40, 5},
	} {
		b, err := state.Begin(n.Store, head, state.Options{}, head.Height, stamped(t, n, stamps...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := b.BlockTimeUnixNano()/second - statetest.GenesisUnix; got != 5 {
			t.Errorf("%s: block time is genesis + %d s, want 5", name, got)
		}
	}
}

// S3: a sample that no ledger will ever take (refused for ever, or lost with a
// disk) leaves a gap for ever. A meter that had as many of them as the limit is
// barred no longer than the lateness bound.
func TestS3_LostSamplesDoNotBarAMeterForEver(t *testing.T) {
	n, m := ready(t)
	var lost, late *statetest.Capture
	for i := range n.Config.Limits.MaxMissingRanges {
		if i == 0 {
			lost = m.Capture()
		} else {
			late = m.Capture()
		}
		n.AcceptCaptures(m.Capture()) // its time ends the gap
	}
	from := n.NowUnix*second + n.Config.Limits.LatenessBoundNano // when the first gap becomes late
	m.Capture()
	for now, want := range map[int64]reason.Reason{from: reason.TooManyGaps, from + second: ""} {
		n := n.Clone(t)
		n.NowUnix = now / second
		n.Apply(n.Begin())
		m := *m
		m.Network = n
		refuseCapture(t, n, m.Peek(), want)
	}
	n.NowUnix = from/second + 1
	n.Apply(n.Begin())
	n.AcceptCaptures(m.Capture())
	chain, err := state.GetMeterChain(n.Store, m.ID)
	if err != nil || len(chain.GetMissing()) != int(n.Config.Limits.MaxMissingRanges) || chain.GetMissing()[0].GetFirst() == lost.Sample.Counter {
		t.Fatalf("chain is %v (%v), want the oldest gap given up and no other", chain, err)
	}
	// What was given up is refused for ever; other late samples are still recorded.
	refuseCapture(t, n, lost, reason.CounterOutOfRange)
	b := n.Batch(late)
	b.Measurements[0].Disposition = recordv1.Disposition_DISPOSITION_LATE
	wantReason(t, try(t, n, b.Records(), b.Raw)[1], "")
}

// S3: while gaps may still be filled in time, no order of delivery makes the
// ledger give one up, so a gateway cannot lose samples by reordering them.
func TestS3_ReorderingLosesNothing(t *testing.T) {
	n, m := ready(t)
	limit := int(n.Config.Limits.MaxMissingRanges)
	var held, sent []*statetest.Capture
	for range limit {
		held, sent = append(held, m.Capture()), append(sent, m.Capture())
	}
	n.AcceptCaptures(sent...)
	m.Capture()
	refuseCapture(t, n, m.Peek(), reason.TooManyGaps)
	n.AcceptCaptures(held...)
	refuseCapture(t, n, m.Peek(), "")
}

// C6: a network may grow to the largest size, and can still change then: the
// signatures of a majority fit one statement.
func TestC6_ALargeNetworkCanChange(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	grow := nextConfig(n)
	var roots []crypto.Signer
	grow.Organisations = nil
	for i := range state.MaxOrganisations {
		id := statetest.OrganisationID(i)
		grow.Organisations = append(grow.Organisations, &recordv1.Organisation{Id: id, RootKey: statetest.Tagged(signature.Ed25519, statetest.Root(id))})
		roots = append(roots, statetest.Root(id))
	}
	n.Accept(n.Sign(grow, append(roots[:3:3], roots[4:]...)...)) // whoever joins signs too
	n.Apply(n.Begin())
	half := state.MaxOrganisations / 2
	refuseStatement(t, n, n.Sign(nextConfig(n), roots[:half]...), reason.NotAuthorised)
	refuseStatement(t, n, n.Sign(nextConfig(n), roots[:half+1]...), "")
	refuseStatement(t, n, n.Sign(nextConfig(n), roots...), "")
}

// S4: a statement is judged in what costs little first. The keys in it, 192 of
// them in a configuration, are tested only for those who may sign it.
func TestS4_StrangersCauseNoCostlyChecks(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	c := nextConfig(n)
	c.Organisations[3].RootKey = append([]byte{1, 1}, make([]byte, 31)...)
	refuseStatement(t, n, signConfig(n, c), reason.WeakKey)
	refuseStatement(t, n, n.Sign(c, statetest.Key("stranger")), reason.NotAuthorised)
	forged := signConfig(n, c)
	forged[len(forged)-1] ^= 1 // of the last signature
	refuseStatement(t, n, forged, reason.BadSignature)
}

// S2, S3: the ends of the ranges of counters and times.
func TestS3_CountersAndTimesDoNotOverflow(t *testing.T) {
	n, m := ready(t)
	first := m.Capture()
	n.AcceptCaptures(first)
	const last = uint64(1) << 62
	for counter, want := range map[uint64]reason.Reason{
		0: reason.Malformed, last: "", last + 1: reason.CounterOutOfRange, 1 << 63: reason.CounterOutOfRange, 1<<64 - 1: reason.CounterOutOfRange,
	} {
		if counter == 0 {
			h := first.Sample.Header
			h.Counter = 0
			if _, err := h.Encode(); reason.Of(err) != want {
				t.Errorf("counter 0: %v", err)
			}
			continue
		}
		refuseCapture(t, n, m.Peek(func(h *sample.Header) { h.Counter, h.Previous = counter, stranger }), want)
	}
	refuseCapture(t, n, m.Peek(atNano(1<<63-1)), reason.FutureDated)
	refuseCapture(t, n, m.Peek(atNano(1)), reason.BackDated)
	refuseCapture(t, n, m.Peek(func(h *sample.Header) { h.KnownHeight = 1<<64 - 1 }), reason.UnknownBlock)
	// A claim index is 32 bits without a sign, also where an int has 32.
	b := n.Batch(m.Peek())
	b.Measurements[0].ClaimIndex = 1<<32 - 1
	wantReason(t, try(t, n, b.Records(), b.Raw)[1], reason.BadEndorsement)
}

package state_test

import (
	"math/rand/v2"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// A model of rule S3: samples of one honest meter, in any order, all become
// leaves as long as gaps are few, and the chain says exactly what is missing.
func TestS3_AnyOrderWithinTheLimit(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		random := rand.New(rand.NewPCG(seed, 11))
		n, m := ready(t)
		n.Verifier = yes{}
		const total = 70 // three counter pages
		captures := make([]*statetest.Capture, total)
		for i := range captures {
			captures[i] = m.Capture(atNano((n.NowUnix+int64(i/20))*second), knowsGenesis(n))
		}
		taken, refused := make([]bool, total+2), 0
		b := n.Begin()
		limit := int(n.Config.Limits.MaxMissingRanges)
		for _, i := range random.Perm(total * 3) {
			c := captures[i%total]
			counter := c.Sample.Counter
			batch := n.Batch(c)
			outcomes, err := b.Submit(statetest.Parse(batch.Records(), batch.Raw))
			if err != nil {
				t.Fatal(err)
			}
			want := reason.Reason("")
			if taken[counter] {
				want = reason.Duplicate
			} else {
				taken[counter] = true
				if gaps(taken) > limit {
					taken[counter] = false
					want = reason.TooManyGaps
					refused++
				}
			}
			if outcomes[1].Reason != want {
				t.Fatalf("seed %d, counter %d: %q (%s), the model says %q", seed, counter, outcomes[1].Reason, outcomes[1].Detail, want)
			}
		}
		// Send the rest in order, as an outbox does.
		for _, c := range captures {
			batch := n.Batch(c)
			if _, err := b.Submit(statetest.Parse(batch.Records(), batch.Raw)); err != nil {
				t.Fatal(err)
			}
		}
		n.Apply(b)
		chain, err := state.GetMeterChain(n.Store, m.ID)
		if err != nil || chain.GetNewestCounter() != total || len(chain.GetMissing()) != 0 {
			t.Fatalf("seed %d: chain is %v (%v) after all were sent", seed, chain, err)
		}
		for i, c := range captures {
			index, ok, err := state.IndexOf(n.Store, m.ID, uint64(i+1))
			if err != nil || !ok {
				t.Fatalf("seed %d: counter %d is not found (%v)", seed, i+1, err)
			}
			r, _ := record.Parse(n.Store.Leaves[index])
			if s, err := sample.Parse(r.GetMeasurement().GetHeader()); err != nil || s.Digest != c.Sample.Digest {
				t.Fatalf("seed %d: counter %d points to leaf %d, another sample", seed, i+1, index)
			}
		}
		if refused == 0 && seed == 1 {
			t.Error("the model never met the limit; it tests less than it should")
		}
	}
}

// gaps counts the missing ranges below the highest counter taken.
func gaps(taken []bool) int {
	n, open := 0, false
	for counter := len(taken) - 1; counter >= 1; counter-- {
		switch {
		case taken[counter]:
			open = true
		case open && taken[counter+1]:
			n++
		}
	}
	return n
}

// S3: what does not fit its gap is equivocation or out of time.
func TestS3_LateSamplesMustFitTheirGap(t *testing.T) {
	n, m := ready(t)
	at := func(s int64) func(*sample.Header) { return atNano((statetest.GenesisUnix + s) * second) }
	known := knowsGenesis(n)
	one := m.Capture(at(1), known)
	two, three, four := m.Capture(at(2), known), m.Capture(at(3), known), m.Capture(at(4), known)
	five := m.Capture(at(5), known)
	n.AcceptCaptures(one, five)
	peek := func(counter uint64, previous digest.Digest, change ...func(*sample.Header)) *statetest.Capture {
		m.Counter, m.Previous = counter, previous
		return m.Peek(append([]func(*sample.Header){at(int64(counter)), known}, change...)...)
	}
	refuseCapture(t, n, peek(4, three.Sample.Digest, flags(1)), reason.Equivocation) // not what five names
	refuseCapture(t, n, peek(2, stranger), reason.Equivocation)                      // does not name one
	refuseCapture(t, n, peek(3, two.Sample.Digest, at(0)), reason.TimeNotMonotonic)
	refuseCapture(t, n, peek(3, two.Sample.Digest, at(6)), reason.TimeNotMonotonic)
	refuseCapture(t, n, peek(6, stranger), reason.Equivocation) // does not name five
	refuseCapture(t, n, peek(6, digest.Zero), reason.Malformed)
	n.AcceptCaptures(three)
	refuseCapture(t, n, peek(2, one.Sample.Digest, flags(1)), reason.Equivocation) // not what three names
	refuseCapture(t, n, peek(4, stranger), reason.Equivocation)
	refuseCapture(t, n, peek(2, one.Sample.Digest, at(4)), reason.TimeNotMonotonic)
	n.AcceptCaptures(four, two)
	chain, err := state.GetMeterChain(n.Store, m.ID)
	if err != nil || len(chain.GetMissing()) != 0 {
		t.Errorf("chain is %v (%v)", chain, err)
	}
	refuseCapture(t, n, two, reason.Duplicate)
}

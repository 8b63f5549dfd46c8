package state_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// FuzzSubmit alters one record of a good submission: whatever comes out, Submit
// neither panics nor fails, and what it accepts replays to the same block.
func FuzzSubmit(f *testing.F) {
	n, m := ready(f)
	n.AcceptCaptures(m.Capture())
	n.Verifier = yes{} // else nothing altered would get past the signatures
	batch := n.Batch(m.Capture(), m.Capture())
	kinds := [][][]byte{
		batch.Records(),
		{status(n, m, 1, n.NowUnix*second)},
		{equivocation(n, m, nil)},
		{signConfig(n, nextConfig(n))},
		{n.SignApproval(renewed(n), statetest.Body(), statetest.Maker())},
		{n.Sign(n.MeterRegistration("meter-2", statetest.Key("m2")), statetest.Body())},
	}
	f.Add(uint8(0), uint8(1), uint16(40), []byte{1})
	f.Add(uint8(1), uint8(0), uint16(100), []byte{0xff, 0})
	f.Add(uint8(2), uint8(0), uint16(9), []byte(nil))
	f.Add(uint8(3), uint8(0), uint16(300), []byte("x"))
	f.Add(uint8(4), uint8(0), uint16(900), []byte("9"))
	f.Add(uint8(5), uint8(0), uint16(77), []byte{7, 7})
	head := n.Store.Head()
	options := state.Options{Verifier: yes{}}
	f.Fuzz(func(t *testing.T, kind, which uint8, at uint16, patch []byte) {
		good := kinds[int(kind)%len(kinds)]
		records := append([][]byte(nil), good...)
		i := int(which) % len(records)
		records[i] = append([]byte(nil), records[i]...)
		copy(records[i][int(at)%len(records[i]):], patch)
		var raw [][]byte
		if len(records) > 1 {
			raw = batch.Raw
		}
		block := func() *state.Block {
			b, err := state.Begin(n.Store, head, options, head.CertifiedHeight, nil)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := block()
		submission := statetest.Parse(records, raw)
		if _, err := state.Checks(n.Store, submission); err != nil {
			t.Fatal(err)
		}
		outcomes, err := b.Submit(submission)
		if err != nil {
			t.Fatal(err)
		}
		accepted := 0
		for i, o := range outcomes {
			if o.Accepted {
				accepted++
			} else if o.Reason == "" {
				t.Fatalf("record %d is refused without a reason", i)
			}
		}
		if accepted != b.Len() {
			t.Fatalf("%d accepted, %d leaves", accepted, b.Len())
		}
		sealed, err := b.Seal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := state.Replay(n.Store, head, options, sealed.Records, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again.Ref != sealed.Ref {
			t.Fatalf("replayed to %+v, was %+v", again.Ref, sealed.Ref)
		}
	})
}

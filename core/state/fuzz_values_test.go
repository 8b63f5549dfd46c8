package state_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// FuzzValues damages one state value, as no transition would write it: whoever
// reads it gets an error or an answer, and a block is built or not. Nothing panics.
// That the damage is found is the storage's business, which keeps a sum of each.
func FuzzValues(f *testing.F) {
	n, script := scripted(f)
	p := play(f, n, script, scripts(6)[3]) // one with every kind of value
	keys := slices.Sorted(maps.Keys(p.Store.Values))
	f.Add(uint8(0), uint16(0), []byte{}, false)
	for i := range keys {
		f.Add(uint8(i), uint16(i)*7, []byte{byte(i * 5), 0xff}, i%2 == 0)
	}
	next := scripts(9)[8][:24]
	f.Fuzz(func(t *testing.T, which uint8, at uint16, patch []byte, whole bool) {
		damaged := p.Clone(t)
		key := keys[int(which)%len(keys)]
		value := slices.Clone(damaged.Store.Values[key])
		if whole {
			value = patch
		} else if len(value) > 0 {
			copy(value[int(at)%len(value):], patch)
		}
		step, ok := script.On(p.Clone(t), next).Next() // made by those who know nothing of the damage
		if !ok {
			t.Fatal("the script is over")
		}
		damaged.Store.Values[key] = value
		view := damaged.Store
		_, _ = state.GetConfig(view)
		for _, id := range []string{"meter-a", "meter-b", "meter-c"} {
			meter, err := state.GetMeter(view, id)
			if err == nil && meter != nil {
				_, _ = state.MeterKeyAt(meter, 1)
			}
			_, _ = state.GetMeterChain(view, id)
			_, _, _ = state.IndexOf(view, id, 2)
			_, _, _ = state.NextStatement(view, record.SubjectMeter(id))
		}
		for _, node := range append(slices.Clone(n.Endorsers), n.Gateway, n.Replicas[0].Node) {
			_, _ = state.GetNode(view, node.ID)
		}
		_, _ = state.GetAlgorithm(view, n.Algorithm)
		_, _, _ = state.NextStatement(view, record.SubjectAlgorithm(n.Algorithm))
		_, _ = state.ExpiryOf(view, uint64(at))
		_, _ = state.Expiries(view)
		_, _ = state.TLSSubject(view, digest.Zero.Bytes())
		block, empty, err := step.Begin(view, view.Head(), state.Options{})
		if err != nil || block == nil || empty {
			return
		}
		for _, s := range step.Submissions {
			parsed := statetest.Parse(s.Records, s.RawVectors)
			if _, err := state.Checks(view, parsed); err != nil {
				return
			}
			if _, err := block.Submit(parsed); err != nil {
				return
			}
		}
		_, _ = block.Seal()
	})
}

package state_test

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// BenchmarkApply is the transition alone, signatures excluded (a host verifies
// them in batches before): one submission of so many measurements by 16 meters
// a block, parsed, decided and sealed.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{16, 256} {
		n, _ := ready(b)
		var captures []*statetest.Capture
		for i := range 16 {
			m := n.Register(fmt.Sprintf("meter-a%d", i))
			for range size / 16 {
				captures = append(captures, m.Capture())
			}
		}
		batch := n.Batch(captures...)
		records := batch.Records()
		raw := make([]state.RawVector, len(batch.Raw))
		for i, v := range batch.Raw {
			raw[i] = state.DescribeRaw(v)
		}
		head := n.Store.Head()
		options := state.Options{Verifier: yes{}}
		b.Run(fmt.Sprintf("measurements=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				block, err := state.Begin(n.Store, head, options, head.CertifiedHeight, nil)
				if err != nil {
					b.Fatal(err)
				}
				outcomes, err := block.Submit(state.ParseSubmission(records, raw))
				if err != nil || !outcomes[size].Accepted {
					b.Fatal(outcomes[size], err)
				}
				if _, err := block.Seal(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/measurement")
		})
	}
}

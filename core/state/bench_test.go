package state_test

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// BenchmarkTransition is the transition alone, signatures excluded (a host verifies
// them in batches before): one submission of so many measurements by 16 meters
// a block, parsed, decided and sealed.
func BenchmarkTransition(b *testing.B) {
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
		// The leader asks the same of each submission before it is ordered, up to the
		// first record that would be accepted.
		b.Run(fmt.Sprintf("do=rehearse/measurements=%d", size), func(b *testing.B) {
			benchtest.Loop(b, size, func() {
				block, err := state.Begin(n.Store, head, options, head.CertifiedHeight, nil)
				if err != nil {
					b.Fatal(err)
				}
				submission := state.ParseSubmission(records, raw)
				if _, err := block.Checks(submission); err != nil {
					b.Fatal(err)
				}
				if refused, err := block.Refused(submission); err != nil || refused != nil {
					b.Fatal(refused, err)
				}
			})
		})
		b.Run(fmt.Sprintf("do=apply/measurements=%d", size), func(b *testing.B) {
			benchtest.Loop(b, size, func() {
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
			})
		})
	}
}

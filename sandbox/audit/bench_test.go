package audit_test

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/sandbox"
)

// BenchmarkAudit is the cost of one measurement: replayed, its signatures
// verified, and run again on the compiler.
func BenchmarkAudit(b *testing.B) {
	const blocks, perBlock = 8, 128
	n := network(b)
	for range blocks {
		captures := make([]receipttest.Capture, perBlock)
		for i := range captures {
			captures[i] = pulse("m-1", int16(100+i))
		}
		n.Measure([]int{0, 1}, captures...)
	}
	s, o := copyOf(n), options(n)
	o.Engine = sandbox.Config{}
	for _, reExecute := range []bool{false, true} {
		o.LedgerOnly = !reExecute
		b.Run(fmt.Sprintf("re-execute=%v", reExecute), func(b *testing.B) {
			benchtest.Loop(b, blocks*perBlock, func() {
				r := run(b, s, o)
				if r.Verdict != receipt.Verified || r.Measurements != blocks*perBlock {
					b.Fatal(r)
				}
			})
		})
	}
}

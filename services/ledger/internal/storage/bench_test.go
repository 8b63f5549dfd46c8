package storage

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
)

// BenchmarkCommit commits blocks of 256 measurements of 2.6 KB each (600 bytes
// of record, 2,000 of raw vector) with 64 state writes, to a real disk.
func BenchmarkCommit(b *testing.B) {
	for _, blocksPerBatch := range []int{1, 4} {
		b.Run(fmt.Sprintf("blocks=%d", blocksPerBatch), func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), Options{})
			m := newMaker(b, 50)
			m.meters = 1000
			batches := make([]Batch, b.N)
			for i := range batches {
				var blocks []Block
				for range blocksPerBatch {
					blocks = append(blocks, m.block(256, 600, 2000))
				}
				batches[i] = m.batch(blocks...)
			}
			records := 256 * blocksPerBatch
			b.SetBytes(int64(records * 2600))
			b.ReportAllocs()
			before := benchtest.CPU(b)
			b.ResetTimer()
			for i := range batches {
				must(b, s.Commit(batches[i]))
				batches[i] = Batch{}
			}
			benchtest.Report(b, benchtest.CPU(b)-before, records)
		})
	}
}

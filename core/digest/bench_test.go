package digest

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
)

// BenchmarkOf is SHA-256 with a domain's prefix: of a node of the tree, a record,
// a raw vector.
func BenchmarkOf(b *testing.B) {
	for _, size := range []int{64, 600, 2048} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			data := make([]byte, size)
			b.SetBytes(int64(size))
			benchtest.Loop(b, 1, func() { Of(Record, data) })
		})
	}
}

package propose

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
)

// BenchmarkProposal is what becomes of gathered submissions: the leader's encoding
// of the entry, and every replica's decoding of it. Records of 600 bytes with raw
// vectors of 780.
func BenchmarkProposal(b *testing.B) {
	for _, size := range []int{1, 512} {
		s := &replicav1.Submission{Records: [][]byte{make([]byte, 40*size)}}
		for range size {
			s.Records, s.RawVectors = append(s.Records, make([]byte, 600)), append(s.RawVectors, make([]byte, 780))
		}
		p := &replicav1.Proposal{Version: Version, CertifiedHeight: 1, Certificate: make([]byte, 700), Submissions: []*replicav1.Submission{s}}
		entry, err := wire.Encode(p)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("do=encode/measurements=%d", size), func(b *testing.B) {
			benchtest.Loop(b, size, func() {
				if _, err := wire.Encode(p); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(fmt.Sprintf("do=decode/measurements=%d", size), func(b *testing.B) {
			benchtest.Loop(b, size, func() {
				if err := wire.Borrow(entry, new(replicav1.Proposal)); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

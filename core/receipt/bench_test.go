package receipt_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// BenchmarkReceipt is the offline check of a receipt with 3 of 4 cosignatures,
// among 512 of its block: alone, and when another one had the same certificate.
// bytes is its size, and how much of it a tree of ten million leaves would add.
func BenchmarkReceipt(b *testing.B) {
	n := receipttest.Found(b, algorithm())
	n.Register("m-1")
	captures := make([]receipttest.Capture, 512)
	for i := range captures {
		captures[i] = receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(900, 5)}
	}
	text := n.Receipt(n.Measure([]int{0, 1}, captures...)[77])
	for _, c := range []struct {
		name     string
		verifier receipt.Verifier
	}{
		{"certificate=new", receipt.Verifier{Trust: n.Trust()}},
		{"certificate=known", receipt.Verifier{Trust: n.Trust(), Signatures: signature.NewCache(64), Certificates: new(tlog.Certificates), Brief: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				r, report := c.verifier.Receipt(text)
				if r == nil || report.Step(receipt.StepCertificate).Verdict != receipt.Verified {
					b.Fatal(report.String())
				}
			})
			b.ReportMetric(float64(len(text)), "bytes")
			// A path of 24 hashes instead of 10, each a line of base64.
			b.ReportMetric(float64(len(text)+14*(digest.Size*4/3+2)), "bytes-of-10M")
		})
	}
}

package vector

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
)

// BenchmarkEncode is what a meter does with 2 x 512 samples.
func BenchmarkEncode(b *testing.B) {
	samples := pulses(2, 512, 6)
	b.SetBytes(2048)
	benchtest.Loop(b, 1, func() {
		if _, err := Encode(rice, samples); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkDecode is what an endorser and an auditor do with them.
func BenchmarkDecode(b *testing.B) {
	coded, err := Encode(rice, pulses(2, 512, 6))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(2048)
	benchtest.Loop(b, 1, func() {
		if _, err := Decode(rice, 2, 512, coded); err != nil {
			b.Fatal(err)
		}
	})
}

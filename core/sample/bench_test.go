package sample

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
)

// BenchmarkParse is a header from its exact bytes: the strict form, the digest of
// what was signed.
func BenchmarkParse(b *testing.B) {
	encoded, err := example().Encode()
	if err != nil {
		b.Fatal(err)
	}
	benchtest.Loop(b, 1, func() {
		if _, err := Parse(encoded); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkSign is what a meter does: encode, digest, sign.
func BenchmarkSign(b *testing.B) {
	h, key := example(), key()
	benchtest.Loop(b, 1, func() {
		if _, _, err := Sign(key, h); err != nil {
			b.Fatal(err)
		}
	})
}

package signature

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
)

// BenchmarkVerify is one signature check under a key that is expanded: alone,
// among a batch, and again out of the cache.
func BenchmarkVerify(b *testing.B) {
	for _, kind := range kinds {
		c := makeChecks(b, 1, kind)[0]
		b.Run(fmt.Sprintf("kind=%v/batch=1", kind), func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				if !Verify(c.Kind, c.Key, c.Message, c.Signature) {
					b.Fatal("refused")
				}
			})
		})
		for _, n := range []int{32, 256, 1024} {
			checks := makeChecks(b, n, kind)
			b.Run(fmt.Sprintf("kind=%v/batch=%d", kind, n), func(b *testing.B) {
				benchtest.Loop(b, n, func() { VerifyBatch(checks) })
			})
		}
		b.Run(fmt.Sprintf("kind=%v/cached", kind), func(b *testing.B) {
			cache := NewCache(64)
			benchtest.Loop(b, 1, func() { cache.Verify(c.Kind, c.Key, c.Message, c.Signature) })
		})
	}
}

// BenchmarkCheckKey is what registering a key costs.
func BenchmarkCheckKey(b *testing.B) {
	for _, kind := range kinds {
		c := makeChecks(b, 1, kind)[0]
		b.Run(fmt.Sprintf("kind=%v", kind), func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				if CheckKey(c.Key) != nil {
					b.Fatal("refused")
				}
			})
		})
	}
}

// BenchmarkSign is one signature.
func BenchmarkSign(b *testing.B) {
	for _, kind := range kinds {
		signer, _ := signerOf(b, kind, "a")
		b.Run(fmt.Sprintf("kind=%v", kind), func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				if _, err := Sign(signer, kind, []byte("m")); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

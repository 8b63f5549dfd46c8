package claim

import (
	"crypto/ed25519"
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
)

// BenchmarkParse is a claim from its exact bytes.
func BenchmarkParse(b *testing.B) {
	encoded, err := example(b).Encode()
	if err != nil {
		b.Fatal(err)
	}
	benchtest.Loop(b, 1, func() {
		if _, err := Parse(encoded); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkEndorsementSet is the check of an endorsement set by two endorsers:
// each claim hashed, the root over them, the signatures.
func BenchmarkEndorsementSet(b *testing.B) {
	for _, size := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("measurements=%d", size), func(b *testing.B) {
			network, algorithm := digest.Plain([]byte("network")), digest.Plain([]byte("algorithm"))
			claims, hashes := make([][]byte, size), make([]digest.Digest, size)
			for i := range claims {
				c := example(b)
				c.Sample = digest.Plain([]byte{byte(i), byte(i >> 8)})
				encoded, err := c.Encode()
				if err != nil {
					b.Fatal(err)
				}
				claims[i], hashes[i] = encoded, Hash(encoded)
			}
			var checks []signature.Check
			for _, name := range []string{"a", "b"} {
				seed := digest.Plain([]byte(name))
				signer := ed25519.NewKeyFromSeed(seed[:])
				key, err := signature.KeyOf(signature.Ed25519ZIP215, signer.Public())
				if err != nil {
					b.Fatal(err)
				}
				message := EndorsementMessage(network, algorithm, hashes)
				signed, err := signature.Sign(signer, key.Kind(), message)
				if err != nil {
					b.Fatal(err)
				}
				checks = append(checks, signature.Check{Kind: key.Kind(), Key: key, Signature: signed})
			}
			benchtest.Loop(b, size, func() {
				for i, c := range claims {
					hashes[i] = Hash(c)
				}
				message := EndorsementMessage(network, algorithm, hashes)
				for i := range checks {
					checks[i].Message = message
				}
				for _, good := range signature.VerifyBatch(checks) {
					if !good {
						b.Fatal("refused")
					}
				}
			})
		})
	}
}

package signature

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Sign signs message with any crypto.Signer (a file key, a secure element, a
// TPM) and returns the 64 bytes that Verify accepts under KeyOf(kind,
// signer.Public()). It errs when the signer's key does not go with the kind,
// when the signer fails, and when it returns something other than a
// signature of its type.
//
// An Ed25519 key in memory signs with the library that also verifies, in constant
// time as the standard one does and in two thirds of its time; the bytes are the
// same, for RFC 8032 leaves no choice (5.1.6).
func Sign(signer crypto.Signer, kind Kind, message []byte) ([]byte, error) {
	if _, err := KeyOf(kind, signer.Public()); err != nil {
		return nil, err
	}
	if kind == P256 {
		hash := sha256.Sum256(message)
		der, err := signer.Sign(rand.Reader, hash[:], crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("signing with a %v key: %w", kind, err)
		}
		return fixedFromDER(der)
	}
	if key, ok := signer.(ed25519.PrivateKey); ok {
		signer = voi.PrivateKey(key)
	}
	sig, err := signer.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("signing with an %v key: %w", kind, err)
	}
	if len(sig) != Size {
		return nil, fmt.Errorf("the %v signer returned %d bytes, want %d", kind, len(sig), Size)
	}
	return sig, nil
}

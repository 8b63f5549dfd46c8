package signature

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// Sign signs message with any crypto.Signer (a file key, a secure element, a
// TPM) and returns the 64 bytes that Verify accepts under KeyOf(kind,
// signer.Public()). It errs when the signer's key does not go with the kind,
// when the signer fails, and when it returns something other than a
// signature of its type.
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
	sig, err := signer.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("signing with an %v key: %w", kind, err)
	}
	if len(sig) != Size {
		return nil, fmt.Errorf("the %v signer returned %d bytes, want %d", kind, len(sig), Size)
	}
	return sig, nil
}

// Package evidence seals what a meter saw beside a measurement, such as a plate
// image, to an authority's key, so that nobody else reads it: not the gateway,
// not the store, not the meter's owner.
//
// Source: RFC 9180 (HPKE, base mode); Hoang, Reyhanitabar, Rogaway, Vizar,
// "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (the
// STREAM construction); architecture, "plate image leaks"; docs/formats.md,
// "Sealed evidence".
//
// The sealed form is
//
//	magic (16) || recipient's public key (32) || encapsulated key (32) || chunk ...
//
// with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305. A chunk is
// the HPKE ciphertext of 65,536 bytes of content, the last one of 1 to 65,536. Its
// place is HPKE's own sequence number; its associated data is one byte, 1 in the
// last chunk and 0 before, so none can be cut off, added or moved.
//
// Invariants:
//   - The identity of evidence is the digest of its sealed bytes: what is on the
//     ledger tells nothing of the content, and says nothing once it is erased.
//   - The key schedule covers network, meter and media type, so a piece opens only
//     as what the meter said it was. The counter is not covered: the signed sample
//     header binds the piece, and one piece may belong to two samples.
//   - Memory does not grow with the piece.
//
// Known hole: base mode does not authenticate the sender. That a piece came from
// the meter is shown by the signed header that names its digest, nothing else.
package evidence

import (
	"crypto/ecdh"
	"crypto/hpke"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
)

// The parts of the sealed form, in bytes.
const (
	magic       = "lacre evidence 1"
	KeySize     = 32 // an X25519 key
	HeaderBytes = len(magic) + 2*KeySize
	ChunkBytes  = 64 << 10 // of content
	tagBytes    = 16

	// MaxContentBytes is the largest content whose sealed form is within sample.MaxEvidenceBytes.
	MaxContentBytes = sample.MaxEvidenceBytes - int64(HeaderBytes) - tagBytes*(sample.MaxEvidenceBytes/(ChunkBytes+tagBytes)+1)
)

// SealedSize is the size of the sealed form of so many bytes of content, 1 or more.
func SealedSize(content int64) int64 {
	chunks := (content + ChunkBytes - 1) / ChunkBytes
	return int64(HeaderBytes) + content + tagBytes*chunks
}

// Context is what a piece is bound to.
type Context struct {
	NetworkID digest.Digest
	MeterID   string
	MediaType string // of the content, such as "image/jpeg"
}

// info is the context as HPKE's key schedule takes it.
func (c *Context) info() ([]byte, error) {
	if err := record.CheckID(c.MeterID); err != nil {
		return nil, err
	}
	if !sample.IsMediaType(c.MediaType) {
		return nil, reason.New(reason.Malformed, "media type %.80q, want a lower-case type/subtype of at most %d bytes", c.MediaType, sample.MaxMediaType)
	}
	b := append([]byte("lacre/evidence/hpke/v1\x00"), c.NetworkID[:]...)
	b = append(append(b, byte(len(c.MeterID))), c.MeterID...)
	return append(append(b, byte(len(c.MediaType))), c.MediaType...), nil
}

func kdf() hpke.KDF   { return hpke.HKDFSHA256() }
func aead() hpke.AEAD { return hpke.ChaCha20Poly1305() }

// CheckKey says whether 32 bytes are a public key to which evidence may be
// sealed: an X25519 point in its one encoding that gives a shared secret (RFC
// 7748, 6.1: not of small order). Errors are *reason.Error: Malformed or WeakKey.
func CheckKey(public []byte) error {
	_, err := parseKey(public)
	return err
}

func parseKey(public []byte) (*ecdh.PublicKey, error) {
	key, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, reason.New(reason.Malformed, "evidence key has %d bytes, want the %d of X25519", len(public), KeySize)
	}
	if !canonical(public) {
		return nil, reason.New(reason.WeakKey, "evidence key %x.. is not the one encoding of its point", public[:4])
	}
	// Any scalar finds a point of small order: scalars are multiples of the cofactor.
	probe, err := ecdh.X25519().NewPrivateKey(append(make([]byte, KeySize-1), 1))
	if err != nil {
		return nil, fmt.Errorf("X25519: %w", err)
	}
	if _, err := probe.ECDH(key); err != nil {
		return nil, reason.New(reason.WeakKey, "evidence key %x.. is of small order: everybody would know the secret", public[:4])
	}
	return key, nil
}

// canonical wants the u-coordinate below 2^255 - 19, and the unused bit clear.
func canonical(public []byte) bool {
	if public[31] < 0x7f {
		return true
	}
	if public[31] > 0x7f {
		return false
	}
	for i := 30; i > 0; i-- {
		if public[i] != 0xff {
			return true
		}
	}
	return public[0] < 0xed
}

// Recipient is the public key to which a piece says that it is sealed, of at
// least its first HeaderBytes. Errors are *reason.Error: EvidenceUnreadable.
func Recipient(sealed []byte) ([]byte, error) {
	if len(sealed) < HeaderBytes || string(sealed[:len(magic)]) != magic {
		return nil, reason.New(reason.EvidenceUnreadable, "%d bytes that do not begin as sealed evidence does", len(sealed))
	}
	return sealed[len(magic) : len(magic)+KeySize], nil
}

package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/oasisprotocol/curve25519-voi/curve"
)

// Lengths of a key's raw bytes.
const (
	ed25519KeySize = 32
	p256KeySize    = 65 // 0x04 || X || Y: one form for each point, and no square root to read it
	// MaxKeySize is the longest tagged key.
	MaxKeySize = 1 + p256KeySize
)

// Key is a public key with its kind: the tag byte (the Kind) and then 32 bytes
// for the Ed25519 kinds, or the 65-byte uncompressed point of SEC 1 section
// 2.3.3 for P-256. It is immutable and comparable; the zero Key verifies
// nothing.
type Key struct {
	tagged string
}

// KeyError says why bytes are not an acceptable public key.
type KeyError struct {
	Kind   Kind
	Reason string
}

func (e *KeyError) Error() string { return fmt.Sprintf("%v public key: %s", e.Kind, e.Reason) }

// NewKey makes a key of raw bytes. It checks the shape only (*KeyError);
// registration must call CheckKey.
func NewKey(kind Kind, raw []byte) (Key, error) {
	return ParseKey(append([]byte{byte(kind)}, raw...))
}

// ParseKey reads the tagged form that Bytes writes, as NewKey does.
func ParseKey(tagged []byte) (Key, error) {
	if len(tagged) == 0 {
		return Key{}, &KeyError{Reason: "no bytes"}
	}
	kind, raw, want := Kind(tagged[0]), tagged[1:], ed25519KeySize
	switch kind {
	case Ed25519, Ed25519ZIP215:
	case P256:
		want = p256KeySize
	default:
		return Key{}, &KeyError{Kind: kind, Reason: "unknown kind"}
	}
	if len(raw) != want {
		return Key{}, &KeyError{Kind: kind, Reason: fmt.Sprintf("%d bytes, want %d", len(raw), want)}
	}
	if kind == P256 && raw[0] != 4 {
		return Key{}, &KeyError{Kind: kind, Reason: fmt.Sprintf("point starts with %#02x, want 0x04 (uncompressed)", raw[0])}
	}
	return Key{tagged: string(tagged)}, nil
}

// KeyOf tags the public key of a signer. An ed25519.PublicKey goes with both
// Ed25519 kinds, a P-256 *ecdsa.PublicKey with P256; anything else is a
// *KeyError.
func KeyOf(kind Kind, public crypto.PublicKey) (Key, error) {
	switch p := public.(type) {
	case ed25519.PublicKey:
		if kind == Ed25519 || kind == Ed25519ZIP215 {
			return NewKey(kind, p)
		}
	case *ecdsa.PublicKey:
		if kind == P256 && p.Curve == elliptic.P256() {
			raw, err := p.Bytes()
			if err != nil {
				return Key{}, &KeyError{Kind: kind, Reason: err.Error()}
			}
			return NewKey(kind, raw)
		}
	}
	return Key{}, &KeyError{Kind: kind, Reason: fmt.Sprintf("a %T cannot be used for it", public)}
}

// Kind is the predicate under which the key verifies; 0 for the zero Key.
func (k Key) Kind() Kind {
	if k.tagged == "" {
		return 0
	}
	return Kind(k.tagged[0])
}

// Raw returns a copy of the bytes without the tag.
func (k Key) Raw() []byte {
	if k.tagged == "" {
		return nil
	}
	return []byte(k.tagged[1:])
}

// Bytes returns the tagged form: the form on the ledger.
func (k Key) Bytes() []byte { return []byte(k.tagged) }

// IsZero reports whether this is the zero Key.
func (k Key) IsZero() bool { return k.tagged == "" }

// ID is the hex of digest.Of(digest.PublicKey, tagged form): the KeyID of DSSE
// envelopes and a name for people and maps. The tag is inside, so one point
// used under two kinds has two IDs.
func (k Key) ID() string { return digest.Of(digest.PublicKey, k.Bytes()).String() }

// String is the kind and the start of the ID, for messages.
func (k Key) String() string {
	if k.IsZero() {
		return "no key"
	}
	return fmt.Sprintf("%v key %s..", k.Kind(), k.ID()[:8])
}

// CheckKey decides whether a key may be registered. Ed25519 keys must be the
// canonical encoding of a point in the prime-order subgroup, not the identity:
// with such keys ZIP-215 and crypto/ed25519 leave no message that a signature
// covers by accident. P-256 keys must be a point on the curve. It costs about
// one scalar multiplication; the error is a *KeyError.
func CheckKey(key Key) error {
	kind := key.Kind()
	switch kind {
	case Ed25519, Ed25519ZIP215:
		return checkEdwards(kind, key.Raw())
	case P256:
		if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key.Raw()); err != nil {
			return &KeyError{Kind: kind, Reason: "not a point of the curve"}
		}
		return nil
	}
	return &KeyError{Kind: kind, Reason: "unknown kind"}
}

func checkEdwards(kind Kind, raw []byte) error {
	compressed, err := curve.NewCompressedEdwardsYFromBytes(raw)
	if err != nil {
		return &KeyError{Kind: kind, Reason: err.Error()}
	}
	point, err := curve.NewEdwardsPoint().SetCompressedY(compressed)
	switch {
	case err != nil:
		return &KeyError{Kind: kind, Reason: "not a point of the curve"}
	case !compressed.IsCanonicalVartime():
		return &KeyError{Kind: kind, Reason: "not the canonical encoding of its point"}
	case point.IsSmallOrder():
		return &KeyError{Kind: kind, Reason: "a point of small order"}
	case !point.IsTorsionFree():
		return &KeyError{Kind: kind, Reason: "outside the prime-order subgroup"}
	}
	return nil
}

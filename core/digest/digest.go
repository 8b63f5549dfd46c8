// Package digest names bytes by domain-separated SHA-256.
//
// Source: FIPS 180-4 (SHA-256); docs/architecture.md, "Digests are SHA-256 with a
// domain-separation prefix for each kind". A digest of kind k over bytes b is
//
//	SHA-256("lacre/" || name(k) || "/v1" || 0x00 || b)
//
// and, where one kind covers a list of variable-length fields f1..fn,
//
//	SHA-256("lacre/" || name(k) || "/v1" || 0x01 || len64(f1) || f1 || ... || len64(fn) || fn)
//
// with len64 the length as eight bytes, big-endian.
//
// Invariants:
//   - Names hold only a-z and '-', so no prefix is a prefix of another and
//     the digests of two kinds, or of the two forms, never coincide by
//     construction.
//   - Merkle hashes (RFC 6962) are not of this package: they separate leaves
//     from nodes by 0x00 and 0x01 and are made in package tlog. They share the
//     type Digest.
//   - A module's identity is the plain SHA-256 of its bytes (Plain), because
//     approvals (in-toto subjects) name that one.
package digest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
)

// Size is the length of a digest in bytes.
const Size = sha256.Size

// Digest is a SHA-256 value. It is comparable, and its zero value means
// "none" wherever a predecessor may be absent.
type Digest [Size]byte

// Zero is the absent digest.
var Zero Digest

// LengthError reports bytes or text that are not as long as a digest.
type LengthError struct {
	Unit string // what is counted: "bytes" or "hex digits"
	Got  int
	Want int
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("digest has %d %s, want %d", e.Got, e.Unit, e.Want)
}

// FromBytes copies a digest out of exactly Size bytes; otherwise it returns a
// *LengthError.
func FromBytes(b []byte) (Digest, error) {
	var d Digest
	if len(b) != Size {
		return d, &LengthError{Unit: "bytes", Got: len(b), Want: Size}
	}
	copy(d[:], b)
	return d, nil
}

// Parse reads the form that String writes: 64 lower-case hex digits.
func Parse(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*Size {
		return d, &LengthError{Unit: "hex digits", Got: len(s), Want: 2 * Size}
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Zero, fmt.Errorf("digest %q: %w", s, err)
	}
	if d.String() != s {
		return Zero, fmt.Errorf("digest %q is not in lower case", s)
	}
	return d, nil
}

// String is the digest as 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is the first eight hex digits and "..", for messages to people; it
// identifies nothing.
func (d Digest) Short() string { return hex.EncodeToString(d[:4]) + ".." }

// Bytes returns a copy of the digest's bytes.
func (d Digest) Bytes() []byte { return append([]byte(nil), d[:]...) }

// IsZero reports whether the digest is the absent one.
func (d Digest) IsZero() bool { return d == Zero }

// MarshalText is String, so that JSON shows hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is Parse.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// Of is the digest of the concatenation of parts under the kind. Parts exist
// to save a copy, not to be told apart: Of(k, a, b) equals Of(k, ab). Use
// OfFields where several parts have variable lengths. It panics on a kind
// outside the list, a programming error.
func Of(kind Kind, parts ...[]byte) Digest {
	h := sha256.New()
	h.Write(kind.prefix(formBytes))
	for _, p := range parts {
		h.Write(p)
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

// OfFields is the digest of a list of fields under the kind, each preceded by
// its length, so that different lists never collide. It panics on a kind
// outside the list.
func OfFields(kind Kind, fields ...[]byte) Digest {
	h := sha256.New()
	h.Write(kind.prefix(formFields))
	var length [8]byte
	for _, f := range fields {
		binary.BigEndian.PutUint64(length[:], uint64(len(f)))
		h.Write(length[:])
		h.Write(f)
	}
	var d Digest
	h.Sum(d[:0])
	return d
}

// Plain is SHA-256 without a prefix, for identities that standards outside
// this project fix: a module named by an in-toto subject.
func Plain(b []byte) Digest { return sha256.Sum256(b) }

// Hasher computes Of over bytes that arrive in pieces.
type Hasher struct{ h hash.Hash }

// New starts a digest of the kind; Hasher is an io.Writer that never fails.
func New(kind Kind) *Hasher {
	h := sha256.New()
	h.Write(kind.prefix(formBytes))
	return &Hasher{h: h}
}

// Write adds bytes.
func (h *Hasher) Write(p []byte) (int, error) { return h.h.Write(p) }

// Digest is Of everything written so far; writing may go on.
func (h *Hasher) Digest() Digest {
	var d Digest
	h.h.Sum(d[:0])
	return d
}

// Package signature holds the three signature predicates of the ledger, one
// for each kind, and nothing else that could differ between two verifiers.
//
// Sources: RFC 8032 as crypto/ed25519 implements it; ZIP-215 (Zcash
// Improvement Proposal 215: explicitly defined Ed25519 validity rules, the
// same for single and batch verification); FIPS 186-5 and SEC 1 for ECDSA over
// P-256 with SHA-256. Rule B3: one predicate for each kind; rule B4: only pure
// checks may be cached.
//
// Invariants:
//   - A key carries its kind, and a check under another kind is false, so one
//     key is never judged by two predicates.
//   - Verify is a pure function: the same arguments give the same answer on
//     every machine, alone, in a batch or from the cache.
//   - A signature is 64 bytes, whatever the kind. For P-256 it is r || s, both
//     big-endian, with s at most half the group order; so nobody but the
//     signer can make a second valid signature out of a first.
package signature

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Size is the length of every signature in bytes.
const Size = 64

// Kind selects the predicate. Its value is the tag byte of a key.
type Kind uint8

const (
	// Ed25519 is the predicate of crypto/ed25519: checkpoints, cosignatures
	// and DSSE statements, which other people's tools verify too.
	Ed25519 Kind = 1
	// Ed25519ZIP215 is Ed25519 under ZIP-215: meters and endorsements, which
	// are verified in batches.
	Ed25519ZIP215 Kind = 2
	// P256 is ECDSA over P-256 with SHA-256, 64 fixed bytes, low-S: what
	// secure elements and TPMs offer.
	P256 Kind = 3
)

// String is the kind's name in messages.
func (k Kind) String() string {
	switch k {
	case Ed25519:
		return "ed25519"
	case Ed25519ZIP215:
		return "ed25519-zip215"
	case P256:
		return "p256"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Verifier checks one signature. Implementations are pure in their answers and
// safe for concurrent use. sig must be Size bytes, key of the same kind;
// anything else is false, never a panic.
type Verifier interface {
	Verify(kind Kind, key Key, message, sig []byte) bool
}

// Direct is the Verifier that computes every check.
type Direct struct{}

// Verify implements Verifier.
func (Direct) Verify(kind Kind, key Key, message, sig []byte) bool {
	return Verify(kind, key, message, sig)
}

// Verify reports whether sig is a signature of message under key by the
// predicate of kind.
func Verify(kind Kind, key Key, message, sig []byte) bool {
	if len(sig) != Size || key.Kind() != kind {
		return false
	}
	switch kind {
	case Ed25519:
		// crypto/ed25519 is the predicate. An expanded key tells in a third of the time
		// that it holds, because both encode S*B - k*A and compare the bytes with R;
		// what that does not find valid, crypto/ed25519 itself refuses.
		point, ok := expansions.of(key)
		return ok && voi.VerifyExpandedWithOptions(point, message, sig, standard) || ed25519.Verify(key.Raw(), message, sig)
	case Ed25519ZIP215:
		point, ok := expansions.of(key)
		return ok && voi.VerifyExpandedWithOptions(point, message, sig, zip215)
	case P256:
		return verifyP256(key, message, sig)
	}
	return false
}

// Both are read-only; zip215 is shared by single and batch checks.
var (
	standard = &voi.Options{Verify: voi.VerifyOptionsStdLib}
	zip215   = &voi.Options{Verify: voi.VerifyOptionsZIP_215}
)

func verifyP256(key Key, message, sig []byte) bool {
	if !isLowS(sig[32:]) {
		return false
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), key.Raw())
	if err != nil {
		return false
	}
	hash := sha256.Sum256(message)
	return ecdsa.VerifyASN1(public, hash[:], derFromFixed(sig))
}

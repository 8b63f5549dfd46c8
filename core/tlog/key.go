package tlog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/signature"
)

// KeyType is the signature type identifier byte of C2SP signed-note.
type KeyType byte

const (
	// LogKey signs the note text itself: the log's own key.
	LogKey KeyType = 0x01
	// CosignerKey signs cosignature/v1 messages with a time: replicas.
	CosignerKey KeyType = 0x04
)

// String is the type as messages show it.
func (t KeyType) String() string {
	switch t {
	case LogKey:
		return "log key (0x01)"
	case CosignerKey:
		return "cosigner key (0x04)"
	}
	return fmt.Sprintf("key type %#02x", byte(t))
}

// VerifierKey is a named Ed25519 public key: what a vkey line holds. It is
// comparable.
type VerifierKey struct {
	Name   string
	Type   KeyType
	Public [ed25519.PublicKeySize]byte
}

// NewVerifierKey makes a verifier key of a signer's public key, which must be
// an Ed25519 key fit for registration (signature.CheckKey).
func NewVerifierKey(name string, keyType KeyType, public ed25519.PublicKey) (VerifierKey, error) {
	if len(public) != ed25519.PublicKeySize {
		return VerifierKey{}, malformed("verifier key", 0, "%d bytes of key, want %d", len(public), ed25519.PublicKeySize)
	}
	k := VerifierKey{Name: name, Type: keyType}
	copy(k.Public[:], public)
	return k, k.Check()
}

// Check says whether the key may stand in a policy (*FormatError or
// *signature.KeyError).
func (k VerifierKey) Check() error {
	if !validName(k.Name) {
		return malformed("verifier key", 0, "name %q is not 1 to %d printable ASCII characters without space and plus", k.Name, MaxNameSize)
	}
	if k.Type != LogKey && k.Type != CosignerKey {
		return malformed("verifier key", 0, "%v, want %v or %v", k.Type, LogKey, CosignerKey)
	}
	return signature.CheckKey(k.Key())
}

// Key is the public key under the predicate for checkpoints (strict Ed25519).
func (k VerifierKey) Key() signature.Key {
	key, err := signature.NewKey(signature.Ed25519, k.Public[:])
	if err != nil {
		panic("tlog: 32 bytes refused as an Ed25519 key: " + err.Error()) // cannot be
	}
	return key
}

// ID is the key ID of signed-note: the first four bytes of SHA-256(name ||
// "\n" || type || public key), big-endian. It is a hint, not an identity.
func (k VerifierKey) ID() uint32 {
	h := sha256.New()
	h.Write([]byte(k.Name))
	h.Write([]byte{'\n', byte(k.Type)})
	h.Write(k.Public[:])
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// String is the vkey: name+8 hex digits of ID+base64(type || public key).
func (k VerifierKey) String() string {
	material := append([]byte{byte(k.Type)}, k.Public[:]...)
	return fmt.Sprintf("%s+%08x+%s", k.Name, k.ID(), encodeBase64(material))
}

// ParseVerifierKey reads what String writes, with a matching ID, and applies
// Check.
func ParseVerifierKey(vkey string) (VerifierKey, error) {
	if len(vkey) > maxVerifierKeySize {
		return VerifierKey{}, malformed("verifier key", 0, "%d bytes, at most %d", len(vkey), maxVerifierKeySize)
	}
	name, rest, _ := strings.Cut(vkey, "+")
	id, encoded, _ := strings.Cut(rest, "+") // base64 may hold further pluses
	material, ok := decodeBase64(encoded)
	if !ok || len(material) != 1+ed25519.PublicKeySize {
		return VerifierKey{}, malformed("verifier key", 0, "%q is not name+ID+base64 of %d bytes", vkey, 1+ed25519.PublicKeySize)
	}
	k := VerifierKey{Name: name, Type: KeyType(material[0])}
	copy(k.Public[:], material[1:])
	if err := k.Check(); err != nil {
		return VerifierKey{}, fmt.Errorf("%q: %w", vkey, err)
	}
	if k.String() != vkey {
		return VerifierKey{}, malformed("verifier key", 0, "%q has ID %q, its name and key give %s", vkey, id, idText(k.ID()))
	}
	return k, nil
}

const maxVerifierKeySize = MaxNameSize + 1 + 8 + 1 + 44

func idText(id uint32) string {
	s := strconv.FormatUint(uint64(id), 16)
	return strings.Repeat("0", 8-len(s)) + s
}

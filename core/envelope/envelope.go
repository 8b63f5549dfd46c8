// Package envelope is the signed form of statements that come from outside:
// DSSE envelopes, and the bytes (PAE) that every signature on the ledger that
// is not a cosignature covers.
//
// Source: DSSE protocol v1.0.0 and its JSON envelope (secure-systems-lab/dsse);
// in-toto approvals travel in it.
//
// Invariants:
//   - A signature covers type and body together, so a body signed as one type
//     is never read as another.
//   - The JSON file has one form: no white space, fields in the order
//     payloadType, payload, signatures (keyid, sig), standard base64,
//     signatures ascending by distinct keyid, no final newline. Parse encodes
//     again and compares. DSSE lets others write more forms; we do not read
//     them, so that a file has one meaning and a meaning one file.
//   - A keyid is a hint. Verification always names the key.
package envelope

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
)

// Bounds, in bytes and pieces. A payload fits a record.
const (
	MaxPayloadType = 255
	MaxPayload     = 60_000
	MaxSignatures  = 64 // all root keys of the largest network
	// MaxEncoded bounds the JSON file.
	MaxEncoded = 96 << 10
)

// Payload types of statements, as media types.
const (
	// InTotoType is the type of in-toto statements: approvals.
	InTotoType = "application/vnd.in-toto+json"
)

// ErrMalformed says that the envelope is not in the one form that Encode writes.
var ErrMalformed = errors.New("malformed DSSE envelope")

// SignatureError says which key's signature is missing or wrong.
type SignatureError struct {
	PayloadType string
	Key         signature.Key
	Reason      string
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("envelope of type %q, %v: %s", e.PayloadType, e.Key, e.Reason)
}

// Envelope is a payload, its type and the signatures over both.
type Envelope struct {
	PayloadType string // printable ASCII without space, quote and backslash; case-sensitive
	Payload     []byte
	Signatures  []Signature // ascending by distinct KeyID
}

// Signature is one signer's.
type Signature struct {
	KeyID string // signature.Key.ID of the signer
	Sig   []byte // signature.Size bytes
}

// PAE is the DSSE pre-authentication encoding: the bytes to sign.
func PAE(payloadType string, body []byte) []byte {
	b := make([]byte, 0, len("DSSEv1    ")+2*20+len(payloadType)+len(body))
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(append(append(b, ' '), payloadType...), ' ')
	b = strconv.AppendInt(b, int64(len(body)), 10)
	return append(append(b, ' '), body...)
}

// PAE is what the envelope's signatures cover.
func (e *Envelope) PAE() []byte { return PAE(e.PayloadType, e.Payload) }

// Digest is the statement's identity (rule S4): of the PAE, not of the
// signatures, so that another signature makes no other statement.
func (e *Envelope) Digest() digest.Digest { return digest.Of(digest.Statement, e.PAE()) }

// Sign adds the signer's signature under kind, signature.Ed25519 or
// signature.P256, in its place; a signature of the same key is replaced.
func (e *Envelope) Sign(signer crypto.Signer, kind signature.Kind) error {
	if kind != signature.Ed25519 && kind != signature.P256 {
		return &signature.KeyError{Kind: kind, Reason: "statements are signed with ed25519 or p256"}
	}
	key, err := signature.KeyOf(kind, signer.Public())
	if err != nil {
		return err
	}
	sig, err := signature.Sign(signer, kind, e.PAE())
	if err != nil {
		return err
	}
	added := Signature{KeyID: key.ID(), Sig: sig}
	at, found := slices.BinarySearchFunc(e.Signatures, added, compareKeyIDs)
	if found {
		e.Signatures[at] = added
		return nil
	}
	e.Signatures = slices.Insert(e.Signatures, at, added)
	return nil
}

func compareKeyIDs(a, b Signature) int { return strings.Compare(a.KeyID, b.KeyID) }

// Verify says whether the envelope holds a valid signature of this key, which
// must be of kind signature.Ed25519 or signature.P256. The error is a
// *SignatureError.
func (e *Envelope) Verify(v signature.Verifier, key signature.Key) error {
	refuse := func(format string, args ...any) error {
		return &SignatureError{PayloadType: e.PayloadType, Key: key, Reason: fmt.Sprintf(format, args...)}
	}
	if kind := key.Kind(); kind != signature.Ed25519 && kind != signature.P256 {
		return refuse("statements are signed with ed25519 or p256, not %v", kind)
	}
	id := key.ID()
	for _, s := range e.Signatures {
		if s.KeyID != id {
			continue
		}
		if !v.Verify(key.Kind(), key, e.PAE(), s.Sig) {
			return refuse("its signature does not verify")
		}
		return nil
	}
	return refuse("none of the %d signatures is by it", len(e.Signatures))
}

// Check says whether the envelope can be encoded (errors.Is ErrMalformed).
func (e *Envelope) Check() error {
	if n := len(e.PayloadType); n == 0 || n > MaxPayloadType {
		return fmt.Errorf("%w: payload type of %d bytes, want 1 to %d", ErrMalformed, n, MaxPayloadType)
	}
	for i := range len(e.PayloadType) {
		if c := e.PayloadType[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return fmt.Errorf("%w: payload type %q has a byte that would need an escape", ErrMalformed, e.PayloadType)
		}
	}
	if n := len(e.Payload); n == 0 || n > MaxPayload {
		return fmt.Errorf("%w: payload of %d bytes, want 1 to %d", ErrMalformed, n, MaxPayload)
	}
	if n := len(e.Signatures); n == 0 || n > MaxSignatures {
		return fmt.Errorf("%w: %d signatures, want 1 to %d", ErrMalformed, n, MaxSignatures)
	}
	for i, s := range e.Signatures {
		if _, err := digest.Parse(s.KeyID); err != nil {
			return fmt.Errorf("%w: keyid of signature %d: %w", ErrMalformed, i, err)
		}
		if len(s.Sig) != signature.Size {
			return fmt.Errorf("%w: signature %d has %d bytes, want %d", ErrMalformed, i, len(s.Sig), signature.Size)
		}
		if i > 0 && s.KeyID <= e.Signatures[i-1].KeyID {
			return fmt.Errorf("%w: keyid %.8s.. after %.8s.., want ascending distinct ones", ErrMalformed, s.KeyID, e.Signatures[i-1].KeyID)
		}
	}
	return nil
}

// Encode writes the JSON file, after Check. No string in it can need an escape.
func (e *Envelope) Encode() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	return e.encode(), nil
}

func (e *Envelope) encode() []byte {
	var b bytes.Buffer
	b.WriteString(`{"payloadType":"` + e.PayloadType + `","payload":"`)
	b.WriteString(base64.StdEncoding.EncodeToString(e.Payload))
	b.WriteString(`","signatures":[`)
	for i, s := range e.Signatures {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"keyid":"` + s.KeyID + `","sig":"` + base64.StdEncoding.EncodeToString(s.Sig) + `"}`)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// Parse reads what Encode writes, and nothing else (errors.Is ErrMalformed). It
// verifies no signature.
func Parse(file []byte) (*Envelope, error) {
	if len(file) > MaxEncoded {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(file), MaxEncoded)
	}
	var form struct { // encoding/json is lenient; the comparison below is not
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []struct {
			KeyID string `json:"keyid"`
			Sig   []byte `json:"sig"`
		} `json:"signatures"`
	}
	if err := json.Unmarshal(file, &form); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	e := &Envelope{PayloadType: form.PayloadType, Payload: form.Payload}
	for _, s := range form.Signatures {
		e.Signatures = append(e.Signatures, Signature{KeyID: s.KeyID, Sig: s.Sig})
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	if !bytes.Equal(e.encode(), file) {
		return nil, fmt.Errorf("%w: not the canonical form", ErrMalformed)
	}
	return e, nil
}

// Package record reads and writes the leaves of the ledger.
//
// Source: architecture, "Records" and rule B1; proto/lacre/record/v1.
//
// Invariants:
//   - A record's bytes are encoded once, by whoever creates it; its digest and
//     its leaf hash cover exactly those bytes. Nothing here re-encodes.
//   - Parse accepts only the canonical form and only sizes up to MaxBytes, and
//     it checks the size before anything else.
package record

import (
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// MaxBytes is the largest record (rule B1): C2SP tile entries end at 65,535.
const MaxBytes = 60_000

// MaxRawVectorBytes is the largest encoded raw vector.
const MaxRawVectorBytes = 512 << 10

// MaxClaims is the largest endorsement set.
const MaxClaims = 1024

// Parse decodes a leaf; what it gives aliases the leaf's bytes, which nobody
// changes. Errors are *reason.Error: TooLarge, NotCanonical or Malformed.
func Parse(b []byte) (*recordv1.Record, error) {
	var r recordv1.Record
	if err := Borrow(b, MaxBytes, &r); err != nil {
		return nil, err
	}
	if r.GetBody() == nil {
		return nil, reason.New(reason.Malformed, "record has no body")
	}
	return &r, nil
}

// Decode decodes any canonical message of at most limit bytes. Errors are
// *reason.Error: TooLarge or NotCanonical.
func Decode(b []byte, limit int, m proto.Message) error { return decode(b, limit, m, wire.Decode) }

// Borrow is Decode without a copy: the message aliases b, see wire.Borrow.
func Borrow(b []byte, limit int, m proto.Message) error { return decode(b, limit, m, wire.Borrow) }

func decode(b []byte, limit int, m proto.Message, how func([]byte, proto.Message) error) error {
	if len(b) > limit {
		return reason.New(reason.TooLarge, "%s has %d bytes, the limit is %d", m.ProtoReflect().Descriptor().Name(), len(b), limit)
	}
	if err := how(b, m); err != nil {
		return reason.New(reason.NotCanonical, "%v", err)
	}
	return nil
}

// Encode makes a leaf's bytes. The error is a *reason.Error: TooLarge or NotCanonical.
func Encode(r *recordv1.Record) ([]byte, error) {
	b, err := wire.Encode(r)
	if err != nil {
		return nil, reason.New(reason.NotCanonical, "%v", err)
	}
	if len(b) > MaxBytes {
		return nil, reason.New(reason.TooLarge, "record has %d bytes, the limit is %d", len(b), MaxBytes)
	}
	return b, nil
}

// Digest is the identity of a leaf's exact bytes: what other records name.
func Digest(b []byte) digest.Digest { return digest.Of(digest.Record, b) }

// HeaderDigest is the identity of a BlockHeader leaf's exact bytes: what the
// next header and the samples name.
func HeaderDigest(b []byte) digest.Digest { return digest.Of(digest.BlockHeader, b) }

// Digest32 reads a digest field that must be present.
func Digest32(field string, b []byte) (digest.Digest, error) {
	d, err := digest.FromBytes(b)
	if err != nil {
		return d, reason.New(reason.Malformed, "%s: %v", field, err)
	}
	return d, nil
}

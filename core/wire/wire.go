// Package wire holds the one encoding of every protobuf message that is
// signed, hashed or stored.
//
// Source: architecture rule B1; the Protocol Buffers wire format
// (protobuf.dev/programming-guides/encoding).
//
// Invariants:
//   - Decode accepts b only if it is byte for byte what Encode makes of the
//     decoded message: ascending field numbers, minimal varints, packed scalar
//     lists, valid UTF-8, and no unknown, duplicate or default field.
//   - What Decode allocates is in proportion to len(b), but for maxPieces.
//   - The check runs before protobuf-go sees the bytes, because protobuf-go
//     accepts padded varints, duplicates and unknown fields.
//   - Only the field kinds of the lacre.record, lacre.state and lacre.replica
//     packages are known; a message with another kind is refused, so a new
//     kind cannot slip in unchecked.
package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDepth bounds nested messages; the deepest of ours has five levels.
const maxDepth = 16

// maxPieces bounds the messages, strings and byte strings in all of a message,
// because two bytes of input make a piece of about a hundred in memory. A
// proposal of 4 MiB that is full of measurements has a third of it.
const maxPieces = 1 << 16

// FormError says where bytes leave the canonical form.
type FormError struct {
	Message protoreflect.FullName
	Offset  int // from the start of that message
	Problem string
}

func (e *FormError) Error() string {
	return fmt.Sprintf("%s is not in canonical form at byte %d: %s", e.Message, e.Offset, e.Problem)
}

// Encode returns the canonical bytes of m. It fails if m has no canonical form
// (unknown fields, invalid UTF-8, a default value in a oneof or list).
func Encode(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if err := Check(b, m.ProtoReflect().Descriptor()); err != nil {
		return nil, err
	}
	return b, nil
}

// MustEncode is Encode for a message that the program itself filled; failure
// is a programming error and panics.
func MustEncode(m proto.Message) []byte {
	b, err := Encode(m)
	if err != nil {
		panic(err)
	}
	return b
}

// Decode checks b and decodes it into m, which aliases nothing of b.
func Decode(b []byte, m proto.Message) error {
	if err := Check(b, m.ProtoReflect().Descriptor()); err != nil {
		return err
	}
	if err := (proto.UnmarshalOptions{DiscardUnknown: false}).Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// Check reports whether b is the canonical form of some message of type d; it
// returns a *FormError otherwise.
func Check(b []byte, d protoreflect.MessageDescriptor) error {
	pieces := maxPieces
	return check(b, shapeOf(d), 0, &pieces)
}

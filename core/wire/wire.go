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
//   - Check and decoding are one pass by one table (shape): what is decoded is
//     what was checked. protobuf-go accepts padded varints, duplicates and unknown
//     fields, so it never reads these bytes.
//   - Only the field kinds of the lacre.record, lacre.state and lacre.replica
//     packages are known; a message with another kind is refused, so a new
//     kind cannot slip in unchecked.
package wire

import (
	"bytes"
	"fmt"
	"reflect"

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

// Decode checks b and decodes it into m, which aliases nothing of b. After an
// error m is empty.
func Decode(b []byte, m proto.Message) error { return Borrow(bytes.Clone(b), m) }

// Borrow is Decode without the copy: what m holds of bytes is b's own, so nobody
// changes b any more, and all of b is in memory for as long as a piece of it is.
func Borrow(b []byte, m proto.Message) error {
	proto.Reset(m)
	s, pieces := shapeOf(m.ProtoReflect().Descriptor()), maxPieces
	into := reflect.ValueOf(m).Elem()
	if into.Type() != s.of {
		return fmt.Errorf("decode %s: it is a %T, want what is generated for it", s.name, m)
	}
	err := walk(b, s, into, 0, &pieces)
	if err != nil {
		proto.Reset(m)
	}
	return err
}

// Check reports whether b is the canonical form of some message of type d; it
// returns a *FormError otherwise.
func Check(b []byte, d protoreflect.MessageDescriptor) error {
	pieces := maxPieces
	return walk(b, shapeOf(d), reflect.Value{}, 0, &pieces)
}

package wire

import (
	"math"
	"reflect"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// walk checks one message and, on the way, fills into, the struct of its
// generated type; there is none when the check is all that is wanted. What it
// fills in aliases b. Fields ascend by number, so a singular field seen twice, or
// a second member of a oneof, is found by comparing with the last. pieces is what
// is left of maxPieces.
func walk(b []byte, s *shape, into reflect.Value, depth int, pieces *int) error {
	fail := func(offset int, problem string) error {
		return &FormError{Message: s.name, Offset: offset, Problem: problem}
	}
	if depth > maxDepth {
		return fail(0, "nested too deeply")
	}
	var last protowire.Number
	var oneofsSeen uint64 // bit per oneof of the message, synthetic ones included
	for at := 0; at < len(b); {
		tag, n, ok := varint(b[at:])
		if !ok {
			return fail(at, "tag is not a minimal varint")
		}
		if tag > math.MaxUint32 {
			return fail(at, "field number out of range")
		}
		number, wireType := protowire.DecodeTag(tag)
		field := s.at(number)
		if field == nil {
			return fail(at, "unknown field")
		}
		if number < last || (number == last && (!field.list || field.packed)) {
			return fail(at, "fields do not ascend, or one appears twice")
		}
		if field.oneof >= 0 {
			bit := uint64(1) << field.oneof
			if field.oneof >= 64 || oneofsSeen&bit != 0 {
				return fail(at, "two members of one oneof")
			}
			oneofsSeen |= bit
		}
		last = number
		start := at
		at += n

		if !field.known {
			return fail(start, "field kind "+field.kind.String()+" has no canonical form here")
		}
		if wireType != field.wireType {
			return fail(start, "wrong wire type")
		}
		if wireType == protowire.VarintType {
			v, n, ok := varint(b[at:])
			if !ok {
				return fail(at, "value is not a minimal varint")
			}
			if problem := field.scalar(v, !field.presence); problem != "" {
				return fail(at, problem)
			}
			if into.IsValid() {
				field.setScalar(field.of(into), v)
			}
			at += n
			continue
		}
		length, n, ok := varint(b[at:])
		if !ok {
			return fail(at, "length is not a minimal varint")
		}
		at += n
		if length > uint64(len(b)-at) {
			return fail(at, "length runs past the end")
		}
		if *pieces--; *pieces < 0 {
			return fail(start, "too many pieces")
		}
		value := b[at : at+int(length) : at+int(length)]
		var target reflect.Value
		if into.IsValid() {
			target = field.of(into)
			if field.list && !field.packed && target.Len() == 0 {
				target.Grow(min(1+field.more(b[at+int(length):]), 1+*pieces))
			}
		}
		if problem, err := delimited(field, value, target, depth, pieces); err != nil {
			return err
		} else if problem != "" {
			return fail(at, problem)
		}
		at += int(length)
	}
	return nil
}

// delimited checks a length-delimited value: a message, bytes, a string, or a
// packed list. It sets or appends it where target is valid.
func delimited(field *field, value []byte, target reflect.Value, depth int, pieces *int) (string, error) {
	switch {
	case field.kind == protoreflect.MessageKind:
		var inner reflect.Value
		if target.IsValid() {
			added := reflect.New(field.message.of)
			field.put(target, added)
			inner = added.Elem()
		}
		return "", walk(value, field.message, inner, depth+1, pieces)
	case field.packed:
		if len(value) == 0 {
			return "empty packed list", nil
		}
		if target.IsValid() {
			target.Grow(elements(value))
		}
		for at := 0; at < len(value); {
			v, n, ok := varint(value[at:])
			if !ok {
				return "list element is not a minimal varint", nil
			}
			if problem := field.scalar(v, false); problem != "" {
				return problem, nil
			}
			if target.IsValid() {
				field.setScalar(extend(target), v)
			}
			at += n
		}
		return "", nil
	default:
		if len(value) == 0 && !field.list && !field.presence {
			return "default value written out", nil
		}
		if field.kind == protoreflect.StringKind && !utf8.Valid(value) {
			return "string is not UTF-8", nil
		}
		if target.IsValid() {
			field.setPiece(target, value)
		}
		return "", nil
	}
}

// varint reads a minimally encoded varint: no padding, at most 64 bits.
func varint(b []byte) (uint64, int, bool) {
	if len(b) > 0 && b[0] < 0x80 { // nearly all are this short
		return uint64(b[0]), 1, true
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 || n != protowire.SizeVarint(v) {
		return 0, 0, false
	}
	return v, n, true
}

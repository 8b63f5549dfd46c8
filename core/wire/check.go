package wire

import (
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// check walks one message. Fields ascend by number, so a singular field seen
// twice, or a second member of a oneof, is found by comparing with the last.
// pieces is what is left of maxPieces.
func check(b []byte, d protoreflect.MessageDescriptor, depth int, pieces *int) error {
	fail := func(offset int, problem string) error {
		return &FormError{Message: d.FullName(), Offset: offset, Problem: problem}
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
		field := d.Fields().ByNumber(number)
		if field == nil {
			return fail(at, "unknown field")
		}
		if number < last || (number == last && (!field.IsList() || field.IsPacked())) {
			return fail(at, "fields do not ascend, or one appears twice")
		}
		if o := field.ContainingOneof(); o != nil {
			bit := uint64(1) << o.Index()
			if o.Index() >= 64 || oneofsSeen&bit != 0 {
				return fail(at, "two members of one oneof")
			}
			oneofsSeen |= bit
		}
		last = number
		start := at
		at += n

		want, known := wireTypeOf(field)
		if !known {
			return fail(start, "field kind "+field.Kind().String()+" has no canonical form here")
		}
		if wireType != want {
			return fail(start, "wrong wire type")
		}
		if want == protowire.VarintType {
			v, n, ok := varint(b[at:])
			if !ok {
				return fail(at, "value is not a minimal varint")
			}
			if problem := scalar(field, v, !field.HasPresence()); problem != "" {
				return fail(at, problem)
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
		value := b[at : at+int(length)]
		if problem, err := delimited(field, value, depth, pieces); err != nil {
			return err
		} else if problem != "" {
			return fail(at, problem)
		}
		at += int(length)
	}
	return nil
}

// delimited checks a length-delimited value: a message, bytes, a string, or a
// packed list.
func delimited(field protoreflect.FieldDescriptor, value []byte, depth int, pieces *int) (string, error) {
	switch kind := field.Kind(); {
	case kind == protoreflect.MessageKind:
		return "", check(value, field.Message(), depth+1, pieces)
	case field.IsPacked():
		if len(value) == 0 {
			return "empty packed list", nil
		}
		for at := 0; at < len(value); {
			v, n, ok := varint(value[at:])
			if !ok {
				return "list element is not a minimal varint", nil
			}
			if problem := scalar(field, v, false); problem != "" {
				return problem, nil
			}
			at += n
		}
		return "", nil
	default:
		if len(value) == 0 && !field.IsList() && !field.HasPresence() {
			return "default value written out", nil
		}
		if kind == protoreflect.StringKind && !utf8.Valid(value) {
			return "string is not UTF-8", nil
		}
		return "", nil
	}
}

// scalar checks that v is the one varint that protobuf writes for its value.
func scalar(field protoreflect.FieldDescriptor, v uint64, refuseDefault bool) string {
	if refuseDefault && v == 0 {
		return "default value written out"
	}
	switch field.Kind() {
	case protoreflect.BoolKind:
		if v > 1 {
			return "bool is neither 0 nor 1"
		}
	case protoreflect.Uint32Kind, protoreflect.Sint32Kind:
		if v > math.MaxUint32 {
			return "value exceeds 32 bits"
		}
	case protoreflect.Int32Kind, protoreflect.EnumKind:
		if int64(v) < math.MinInt32 || int64(v) > math.MaxInt32 {
			return "value exceeds 32 bits"
		}
		if field.Kind() == protoreflect.EnumKind && field.Enum().Values().ByNumber(protoreflect.EnumNumber(int32(v))) == nil {
			return "unknown enum value"
		}
	}
	return ""
}

func wireTypeOf(field protoreflect.FieldDescriptor) (protowire.Type, bool) {
	if field.IsMap() {
		return 0, false
	}
	switch field.Kind() {
	case protoreflect.BoolKind, protoreflect.EnumKind,
		protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Uint32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Uint64Kind:
		if field.IsList() {
			return protowire.BytesType, field.IsPacked()
		}
		return protowire.VarintType, true
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType, true
	}
	return 0, false
}

// varint reads a minimally encoded varint: no padding, at most 64 bits.
func varint(b []byte) (uint64, int, bool) {
	v, n := protowire.ConsumeVarint(b)
	if n < 0 || n != protowire.SizeVarint(v) {
		return 0, 0, false
	}
	return v, n, true
}

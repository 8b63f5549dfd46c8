package wire

import (
	"reflect"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// layout says where the generated struct of a message keeps its fields.
//
// Source: the struct tags of protoc-gen-go's open API, "protobuf" with the
// field's number in second place and "protobuf_oneof" with the oneof's name,
// whose members are wrapped in structs of one field each.
type layout struct {
	message protoreflect.MessageType
	of      reflect.Type
	fields  map[protowire.Number]int
	oneofs  map[protoreflect.Name]int
}

// layoutOf is empty for a message that no generated code is linked in for.
func layoutOf(d protoreflect.MessageDescriptor) layout {
	l := layout{fields: make(map[protowire.Number]int), oneofs: make(map[protoreflect.Name]int)}
	message, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return l
	}
	l.message, l.of = message, reflect.TypeOf(message.Zero().Interface()).Elem()
	for i := range l.of.NumField() {
		tag := l.of.Field(i).Tag
		if name := tag.Get("protobuf_oneof"); name != "" {
			l.oneofs[protoreflect.Name(name)] = i
		}
		if parts := strings.Split(tag.Get("protobuf"), ","); len(parts) > 1 {
			if number, err := strconv.Atoi(parts[1]); err == nil {
				l.fields[protowire.Number(number)] = i
			}
		}
	}
	return l
}

// find is a field's place. That of a oneof's member holds its wrapper, whose type
// protobuf-go itself tells: it is what a message has in the place when that member
// is set.
func (l layout) find(f protoreflect.FieldDescriptor) (slot int, member reflect.Type, ok bool) {
	o := f.ContainingOneof()
	if o == nil || o.IsSynthetic() {
		slot, ok = l.fields[f.Number()]
		return slot, nil, ok
	}
	if slot, ok = l.oneofs[o.Name()]; !ok {
		return 0, nil, false
	}
	m := l.message.New()
	m.Set(f, m.NewField(f))
	return slot, reflect.ValueOf(m.Interface()).Elem().Field(slot).Elem().Type().Elem(), true
}

// of is where a field's value is put: a place in its message's struct, or in a new
// wrapper there.
func (f *field) of(into reflect.Value) reflect.Value {
	place := into.Field(f.slot)
	if f.member == nil {
		return place
	}
	wrapper := reflect.New(f.member)
	place.Set(wrapper)
	return wrapper.Elem().Field(0)
}

// setScalar puts the value that a varint stands for, which was checked.
func (f *field) setScalar(place reflect.Value, v uint64) {
	if place.Kind() == reflect.Pointer { // explicit presence
		place.Set(reflect.New(place.Type().Elem()))
		place = place.Elem()
	}
	switch f.kind {
	case protoreflect.BoolKind:
		place.SetBool(v != 0)
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		place.SetInt(protowire.DecodeZigZag(v))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		place.SetUint(v)
	default: // signed, or an enum
		place.SetInt(int64(v))
	}
}

// setPiece puts or appends bytes or a string.
func (f *field) setPiece(place reflect.Value, value []byte) {
	if f.list {
		place = extend(place)
	}
	if f.kind == protoreflect.BytesKind {
		place.SetBytes(value)
		return
	}
	if place.Kind() == reflect.Pointer { // explicit presence
		place.Set(reflect.New(place.Type().Elem()))
		place = place.Elem()
	}
	place.SetString(string(value))
}

// put puts or appends a message.
func (f *field) put(place, message reflect.Value) {
	if f.list {
		place = extend(place)
	}
	place.Set(message)
}

// extend adds an element to a list that has room for it.
func extend(list reflect.Value) reflect.Value {
	n := list.Len()
	if n == list.Cap() {
		list.Grow(1)
	}
	list.SetLen(n + 1)
	return list.Index(n)
}

// more counts how many elements of the same list follow, so that it is made
// once; where that cannot be told, the walk finds out why.
func (f *field) more(b []byte) (n int) {
	for {
		tag, size, ok := varint(b)
		if !ok || tag != f.tag {
			return n
		}
		length, lead, ok := varint(b[size:])
		if !ok || length > uint64(len(b)-size-lead) {
			return n
		}
		b, n = b[size+lead+int(length):], n+1
	}
}

// elements counts the varints of a packed list: each ends with a byte below 0x80.
func elements(b []byte) (n int) {
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	return n
}

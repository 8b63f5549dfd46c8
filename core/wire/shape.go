package wire

import (
	"math"
	"reflect"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shape is what check and decoding need of a message type, looked up once: asking
// the descriptor for each field of each message cost more than the check itself.
type shape struct {
	name   protoreflect.FullName
	of     reflect.Type // the generated struct
	fields []*field     // by number; nil where there is none
}

// field is what check and decoding need of a field.
type field struct {
	slot   int          // of the generated struct, or of the member's wrapper in it
	member reflect.Type // the wrapper of a oneof's member; nil for other fields

	tag      uint64 // number and wire type, as written
	kind     protoreflect.Kind
	wireType protowire.Type
	known    bool // it has a canonical form here
	list     bool
	packed   bool
	presence bool
	oneof    int    // index of the oneof it is in, synthetic ones included; none is -1
	message  *shape // of a message field
	enum     protoreflect.EnumValueDescriptors
}

// maxNumber bounds the field numbers of the messages that have a shape, so that
// finding a field is an index; ours are below 32.
const maxNumber = 1 << 10

// at is the field of a number, or nil.
func (s *shape) at(number protowire.Number) *field {
	if number <= 0 || int(number) >= len(s.fields) {
		return nil
	}
	return s.fields[number]
}

var shapes = struct {
	known sync.Map // protoreflect.MessageDescriptor -> *shape, complete
	mu    sync.Mutex
}{}

// shapeOf is the shape of a message type.
func shapeOf(d protoreflect.MessageDescriptor) *shape {
	if known, ok := shapes.known.Load(d); ok {
		if s, ok := known.(*shape); ok {
			return s
		}
	}
	shapes.mu.Lock()
	defer shapes.mu.Unlock()
	under := make(map[protoreflect.MessageDescriptor]*shape)
	s := lay(d, under)
	for d, s := range under { // complete only now: messages may contain each other
		shapes.known.Store(d, s)
	}
	return s
}

// lay makes the shape of a message type and of all that are in it.
func lay(d protoreflect.MessageDescriptor, under map[protoreflect.MessageDescriptor]*shape) *shape {
	if s := under[d]; s != nil {
		return s
	}
	s := &shape{name: d.FullName()}
	under[d] = s
	layout := layoutOf(d)
	s.of = layout.of
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		number := f.Number()
		if number >= maxNumber {
			continue // unknown, so refused
		}
		for int(number) >= len(s.fields) {
			s.fields = append(s.fields, nil)
		}
		wireType, known := wireTypeOf(f)
		slot, member, found := layout.find(f)
		known = known && found
		added := &field{
			slot: slot, member: member,
			tag: protowire.EncodeTag(number, wireType), kind: f.Kind(), wireType: wireType, known: known,
			list: f.IsList(), packed: f.IsPacked(), presence: f.HasPresence(), oneof: -1,
		}
		if o := f.ContainingOneof(); o != nil {
			added.oneof = o.Index()
		}
		switch {
		case known && f.Kind() == protoreflect.MessageKind:
			added.message = lay(f.Message(), under)
		case f.Kind() == protoreflect.EnumKind:
			added.enum = f.Enum().Values()
		}
		s.fields[number] = added
	}
	return s
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

// scalar checks that v is the one varint that protobuf writes for its value.
func (f *field) scalar(v uint64, refuseDefault bool) string {
	if refuseDefault && v == 0 {
		return "default value written out"
	}
	switch f.kind {
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
		if f.kind == protoreflect.EnumKind && f.enum.ByNumber(protoreflect.EnumNumber(int32(v))) == nil {
			return "unknown enum value"
		}
	}
	return ""
}

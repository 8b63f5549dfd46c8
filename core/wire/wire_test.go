package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// messages are all the kinds of fields that there are.
var messages = []proto.Message{
	&recordv1.Record{}, &recordv1.SampleHeader{}, &recordv1.Claim{}, &recordv1.MeterRegistration{},
	&recordv1.NetworkConfig{}, &recordv1.EventReport{}, &recordv1.Bundle{}, &recordv1.MeterStatus{},
	&statev1.Meter{}, &statev1.MeterChain{}, &statev1.CounterPage{}, &statev1.Node{},
}

func TestB1_OnlyTheCanonicalForm(t *testing.T) {
	for _, c := range []struct {
		name    string
		message proto.Message
		hex     string
		problem string // empty: accepted
	}{
		{"empty", &recordv1.SampleHeader{}, "", ""},
		{"one field", &recordv1.SampleHeader{}, "1801", ""},
		{"two fields", &recordv1.SampleHeader{}, "18012801", ""},
		{"descending", &recordv1.SampleHeader{}, "28011801", "do not ascend"},
		{"twice", &recordv1.SampleHeader{}, "18011802", "do not ascend"},
		{"default", &recordv1.SampleHeader{}, "1800", "default value"},
		{"empty bytes", &recordv1.SampleHeader{}, "0a00", "default value"},
		{"empty string", &recordv1.SampleHeader{}, "1200", "default value"},
		{"padded value", &recordv1.SampleHeader{}, "188100", "minimal"},
		{"padded tag", &recordv1.SampleHeader{}, "980001", "minimal"},
		{"padded length", &recordv1.SampleHeader{}, "12810061", "minimal"},
		{"value too long", &recordv1.SampleHeader{}, "18ffffffffffffffffff02", "minimal"},
		{"largest value", &recordv1.SampleHeader{}, "18ffffffffffffffffff01", ""},
		{"negative time", &recordv1.SampleHeader{}, "28ffffffffffffffffff01", ""},
		{"value cut", &recordv1.SampleHeader{}, "18ff", "minimal"},
		{"bytes cut", &recordv1.SampleHeader{}, "0a0201", "past the end"},
		{"unknown field", &recordv1.SampleHeader{}, "a00601", "unknown field"},
		{"wrong wire type", &recordv1.SampleHeader{}, "1a0101", "wrong wire type"},
		{"group", &recordv1.SampleHeader{}, "1b1c", "wrong wire type"},
		{"not UTF-8", &recordv1.SampleHeader{}, "1201ff", "UTF-8"},
		{"unknown enum value", &recordv1.SampleHeader{}, "3009", "unknown enum"},
		{"enum beyond 32 bits", &recordv1.SampleHeader{}, "308180808010", "32 bits"},
		{"uint32 beyond 32 bits", &recordv1.SampleHeader{}, "488180808010", "32 bits"},
		{"list of bytes", &recordv1.EventReport{}, "320101320102", ""},
		{"list with an empty element", &recordv1.EventReport{}, "3200", ""},
		{"bool", &statev1.Node{}, "3001", ""},
		{"bool of two", &statev1.Node{}, "3002", "bool"},
		{"negative int32", &statev1.Node{}, "18ffffffffffffffffff01", ""},
		{"int32 beyond", &statev1.Node{}, "188080808010", "32 bits"},
		{"packed list", &statev1.CounterPage{}, "0a03000102", ""},
		{"packed list, empty", &statev1.CounterPage{}, "0a00", "empty packed"},
		{"packed list, twice", &statev1.CounterPage{}, "0a01010a0102", "do not ascend"},
		{"packed list, padded", &statev1.CounterPage{}, "0a028100", "minimal"},
		{"unpacked list", &statev1.CounterPage{}, "0801", "wrong wire type"},
		{"oneof", &recordv1.Record{}, "1a00", ""},
		{"oneof, two members", &recordv1.Record{}, "1a002200", "oneof"},
		{"oneof, one member twice", &recordv1.Record{}, "1a001a00", "do not ascend"},
		{"nested fault", &recordv1.Record{}, "1a022000", "default value"},
		{"field zero", &recordv1.Record{}, "0001", "unknown field"},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		m := proto.Clone(c.message)
		err = Decode(b, m)
		var form *FormError
		switch {
		case c.problem == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.problem == "":
			if again, err := Encode(m); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%s: encodes as %x (%v), want %x", c.name, again, err, b)
			}
		case !errors.As(err, &form) || !strings.Contains(form.Problem, c.problem):
			t.Errorf("%s: %v, want a problem with %q", c.name, err, c.problem)
		}
	}
}

func TestEncodeRefusesWhatHasNoForm(t *testing.T) {
	m := &recordv1.SampleHeader{}
	m.ProtoReflect().SetUnknown(protoreflect.RawFields{0xa0, 0x06, 0x01})
	for name, m := range map[string]proto.Message{
		"unknown field": m,
		"not UTF-8":     &recordv1.SampleHeader{MeterId: "\xff"},
		"unknown enum":  &recordv1.SampleHeader{ClockSync: 9},
	} {
		if b, err := Encode(m); err == nil {
			t.Errorf("%s: encoded as %x", name, b)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("MustEncode does not panic")
		}
	}()
	MustEncode(&recordv1.SampleHeader{MeterId: "\xff"})
}

func TestDepthIsBounded(t *testing.T) {
	pieces := maxPieces
	if err := walk(nil, shapeOf((&recordv1.Record{}).ProtoReflect().Descriptor()), reflect.Value{}, maxDepth, &pieces); err != nil {
		t.Errorf("depth %d: %v", maxDepth, err)
	}
	if err := walk(nil, shapeOf((&recordv1.Record{}).ProtoReflect().Descriptor()), reflect.Value{}, maxDepth+1, &pieces); err == nil {
		t.Errorf("depth %d is accepted", maxDepth+1)
	}
}

// What is accepted is exactly what Encode writes: random bytes, with a bias to
// what looks like a message, and single changes of good ones.
func TestB1_AcceptedIsReencodedToTheByte(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	t.Log("seed 3, 4")
	accepted := 0
	for range 60_000 {
		b := make([]byte, random.IntN(12))
		for i := range b {
			b[i] = byte(random.IntN(40))
			if random.IntN(12) == 0 {
				b[i] = byte(random.Uint32())
			}
		}
		for _, prototype := range messages[:4] {
			m := prototype.ProtoReflect().New().Interface()
			if Decode(b, m) != nil {
				continue
			}
			accepted++
			again, err := Encode(m)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x is accepted as %T and encodes as %x (%v)", b, m, again, err)
			}
		}
	}
	if accepted < 10_000 {
		t.Errorf("only %d were accepted", accepted)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint8(0), []byte{0x1a, 0x00})
	f.Add(uint8(1), []byte{0x18, 0x01, 0x28, 0x01})
	f.Add(uint8(8), []byte{0x0a, 0x02, 0x08, 0x01})
	f.Add(uint8(12), []byte{0x08, 0x01, 0x22, 0x00})
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := messages[int(kind)%len(messages)].ProtoReflect().New().Interface()
		if Decode(b, m) != nil {
			return
		}
		again, err := Encode(m)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is accepted as %T and encodes as %x (%v)", b, m, again, err)
		}
	})
}

// Decode copies and Borrow does not; either leaves of the message only what the
// bytes say, and nothing at all after an error.
func TestDecodeCopiesAndBorrowDoesNot(t *testing.T) {
	good := func() []byte {
		return MustEncode(&recordv1.Measurement{Header: []byte{1, 2}, Signature: []byte{3}, ClaimIndex: 4})
	}
	b, m := good(), &recordv1.Measurement{Claim: []byte("of before")}
	if err := Decode(b, m); err != nil || len(m.GetClaim()) > 0 {
		t.Fatalf("decoded %v (%v)", m, err)
	}
	clear(b)
	if !bytes.Equal(m.GetHeader(), []byte{1, 2}) {
		t.Errorf("Decode: the header became %x with the bytes", m.GetHeader())
	}
	b = good()
	if err := Borrow(b, m); err != nil || &m.Header[0] != &b[2] {
		t.Errorf("Borrow: the header is not in the bytes (%v)", err)
	}
	_ = append(m.GetHeader(), 9)
	if !bytes.Equal(b, good()) {
		t.Errorf("what is appended to a piece is written to the bytes: %x", b)
	}
	for name, decode := range map[string]func([]byte, proto.Message) error{"Decode": Decode, "Borrow": Borrow} {
		if err := decode(append(good(), 0x20, 0x05), m); err == nil || proto.Size(m) != 0 {
			t.Errorf("%s: %v is left of bytes with a field twice (%v)", name, m, err)
		}
	}
	other := dynamicpb.NewMessage(m.ProtoReflect().Descriptor())
	if err := Decode(good(), other); err == nil {
		t.Error("a message that is not generated is filled")
	}
}

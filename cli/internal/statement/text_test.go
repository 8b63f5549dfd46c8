package statement

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func example(t *testing.T) *approval.Approval {
	t.Helper()
	key, err := signature.KeyOf(signature.Ed25519, ed25519.NewKeyFromSeed(make([]byte, 32)).Public())
	if err != nil {
		t.Fatal(err)
	}
	return Speed(Place{NetworkID: digest.Plain([]byte("n")), Sequence: 2, Predecessor: digest.Plain([]byte("p"))}, time.Unix(1_800_000_000, 0),
		"body", "maker", key, policy.OutOf(1, policy.Organisation("a"), policy.Organisation("b")), digest.Plain([]byte("r")))
}

func textOf(t *testing.T, a *approval.Approval) string {
	t.Helper()
	payload, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	text, err := Text(&envelope.Envelope{PayloadType: record.TypeApproval, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Whatever is changed in an approval changes what its signer reads.
func TestTextShowsEveryTermOfAnApproval(t *testing.T) {
	seen := map[string]string{textOf(t, example(t)): "nothing"}
	for name, change := range map[string]func(a *approval.Approval){
		"module": func(a *approval.Approval) { a.Module[0] ^= 1 }, "network": func(a *approval.Approval) { a.NetworkID[0] ^= 1 },
		"sequence": func(a *approval.Approval) { a.Sequence++ }, "predecessor": func(a *approval.Approval) { a.Predecessor[31] ^= 1 },
		"issued": func(a *approval.Approval) { a.IssuedAtUnix++ }, "body": func(a *approval.Approval) { a.NotifiedBody = "other" },
		"maker": func(a *approval.Approval) { a.Manufacturer.Name = "other" },
		"key": func(a *approval.Approval) {
			a.Manufacturer.Key, _ = signature.KeyOf(signature.Ed25519, ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", 32))).Public())
		},
		"name": func(a *approval.Approval) { a.ModuleName = "other" }, "version": func(a *approval.Approval) { a.ModuleVersion = "9" },
		"profile": func(a *approval.Approval) { a.ProfileVersion++ }, "fuel": func(a *approval.Approval) { a.FuelLimit++ },
		"parameter": func(a *approval.Approval) { a.Schema.Parameters[0].Scale++ }, "value": func(a *approval.Approval) { a.Schema.Values[0].Unit = "m" },
		"refusal": func(a *approval.Approval) { a.Schema.Refusals[0].Name = "x" }, "policy": func(a *approval.Approval) { a.Policy.Threshold = 2 },
		"from": func(a *approval.Approval) { a.NotBeforeUnix++ }, "until": func(a *approval.Approval) { a.NotAfterUnix++ },
		"report": func(a *approval.Approval) { a.TestReport[5] ^= 1 }, "disclosure": func(a *approval.Approval) { a.Disclosure = approval.Withheld },
	} {
		a := example(t)
		change(a)
		text := textOf(t, a)
		if other, same := seen[text]; same {
			t.Errorf("another %s reads as another %s", name, other)
		}
		seen[text] = name
	}
}

// Every statement that the ledger knows has a text, which shows every field that
// is set.
func TestTextShowsEveryFieldOfEveryStatement(t *testing.T) {
	for _, payloadType := range record.MessageTypes() {
		m := record.NewMessage(payloadType)
		fill(m.ProtoReflect(), 3)
		payload, err := wire.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		text, err := Text(&envelope.Envelope{PayloadType: record.TypeOf(m), Payload: payload})
		if err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		for i := range m.ProtoReflect().Descriptor().Fields().Len() {
			f := m.ProtoReflect().Descriptor().Fields().Get(i)
			cut := proto.Clone(m)
			cut.ProtoReflect().Clear(f)
			payload, err := wire.Encode(cut)
			if err != nil {
				t.Fatal(err)
			}
			if without, err := Text(&envelope.Envelope{PayloadType: record.TypeOf(m), Payload: payload}); err != nil || without == text {
				t.Errorf("%T reads the same without %s: %v", m, f.Name(), err)
			}
		}
	}
	if _, err := Text(&envelope.Envelope{PayloadType: "application/unknown", Payload: []byte("x")}); err == nil {
		t.Error("an unknown statement has a text")
	}
	if _, err := Text(&envelope.Envelope{PayloadType: record.TypeOf(&recordv1.MeterStatus{}), Payload: []byte{0x08, 0x00}}); err == nil {
		t.Error("a statement that is not canonical has a text")
	}
}

// fill sets every field, down to a depth.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.ContainingOneof() != nil && f.ContainingOneof().Fields().Get(0) != f {
			continue
		}
		var v protoreflect.Value
		switch f.Kind() {
		case protoreflect.MessageKind:
			if depth == 0 {
				continue
			}
			if f.IsList() {
				list := m.Mutable(f).List()
				fill(list.AppendMutable().Message(), depth-1)
			} else {
				fill(m.Mutable(f).Message(), depth-1)
			}
			continue
		case protoreflect.BytesKind:
			v = protoreflect.ValueOfBytes([]byte{1, 2})
		case protoreflect.StringKind:
			v = protoreflect.ValueOfString("text")
		case protoreflect.EnumKind:
			v = protoreflect.ValueOfEnum(1)
		case protoreflect.BoolKind:
			v = protoreflect.ValueOfBool(true)
		case protoreflect.Uint32Kind:
			v = protoreflect.ValueOfUint32(7)
		case protoreflect.Uint64Kind:
			v = protoreflect.ValueOfUint64(7)
		case protoreflect.Sint32Kind, protoreflect.Int32Kind:
			v = protoreflect.ValueOfInt32(7)
		default:
			v = protoreflect.ValueOfInt64(7)
		}
		if f.IsList() {
			m.Mutable(f).List().Append(v)
		} else {
			m.Set(f, v)
		}
	}
}

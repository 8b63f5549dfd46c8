package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Every message of the records, the state and the proposals, with every field
// set, is encoded as the page on formats says: by an encoder of its own here,
// so the bytes depend on no version of the protobuf library.
func TestB1_EveryMessageHasOneForm(t *testing.T) {
	files := []protoreflect.FileDescriptor{
		recordv1.File_lacre_record_v1_record_proto, recordv1.File_lacre_record_v1_measurement_proto,
		recordv1.File_lacre_record_v1_statement_proto, recordv1.File_lacre_record_v1_bundle_proto,
		recordv1.File_lacre_record_v1_configurations_proto,
		statev1.File_lacre_state_v1_state_proto, replicav1.File_lacre_replica_v1_proposal_proto,
	}
	for _, file := range files {
		for i := range file.Messages().Len() {
			d := file.Messages().Get(i)
			for member := range max(1, members(d)) {
				full := newOf(t, d)
				fill(full, member)
				want := canonical(full)
				got, err := Encode(full.Interface())
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s encodes as %x (%v), want %x", d.FullName(), got, err, want)
				}
				again := newOf(t, d)
				if err := Decode(got, again.Interface()); err != nil || !proto.Equal(again.Interface(), full.Interface()) {
					t.Errorf("%s comes back as %v (%v)", d.FullName(), again.Interface(), err)
				}
			}
		}
	}
}

// members is the number of members of a message's oneof; 0 without one.
func members(d protoreflect.MessageDescriptor) int {
	if d.Oneofs().Len() == 0 {
		return 0
	}
	return d.Oneofs().Get(0).Fields().Len()
}

// newOf is an empty message; the field kinds of messages inside give the type.
func newOf(t *testing.T, d protoreflect.MessageDescriptor) protoreflect.Message {
	t.Helper()
	for _, m := range []proto.Message{
		&recordv1.Record{}, &recordv1.Envelope{}, &recordv1.EnvelopeSignature{}, &recordv1.SecurityEvent{}, &recordv1.EventReport{},
		&recordv1.SignedSample{}, &recordv1.Genesis{}, &recordv1.BlockHeader{}, &recordv1.SampleHeader{}, &recordv1.Claim{},
		&recordv1.Endorsement{}, &recordv1.EndorsementSet{}, &recordv1.Measurement{}, &recordv1.StatementHeader{},
		&recordv1.Organisation{}, &recordv1.Replica{}, &recordv1.NotifiedBody{}, &recordv1.Limits{}, &recordv1.NetworkConfig{},
		&recordv1.NodeRegistration{}, &recordv1.NodeRevocation{}, &recordv1.AlgorithmStatus{}, &recordv1.Site{},
		&recordv1.Verification{}, &recordv1.MeterRegistration{}, &recordv1.MeterStatus{}, &recordv1.MeterKeyRollover{},
		&recordv1.MeterParameters{}, &recordv1.ErrorBand{}, &recordv1.NationalTable{}, &recordv1.EvidenceErasure{}, &recordv1.RawVectorExpiry{},
		&recordv1.CanaryCommitment{}, &recordv1.CanaryVector{}, &recordv1.CanaryExpectation{}, &recordv1.CanaryReveal{},
		&recordv1.Evidence{}, &recordv1.Heartbeat{}, &recordv1.SignedHeartbeat{}, &recordv1.ProvenRecord{}, &recordv1.Bundle{}, &recordv1.Completeness{},
		&recordv1.Recovery{}, &recordv1.RecoveryLock{}, &recordv1.RecoveryPoint{}, &recordv1.ConfigurationHistory{}, &recordv1.CertifiedConfiguration{}, &recordv1.ProvenExpiry{},
		&statev1.Version{}, &statev1.MeterPulse{}, &statev1.Table{}, &statev1.Canary{}, &statev1.ErasedEvidence{}, &statev1.RawExpiry{},
		&statev1.StatementRef{}, &statev1.Config{}, &statev1.Node{}, &statev1.Span{}, &statev1.Algorithm{}, &statev1.MeterKey{},
		&statev1.MissingRange{}, &statev1.Meter{}, &statev1.MeterChain{}, &statev1.CounterPage{},
		&replicav1.Submission{}, &replicav1.Proposal{},
	} {
		if m.ProtoReflect().Descriptor() == d {
			return m.ProtoReflect().New()
		}
	}
	t.Fatalf("%s is not in the list of messages: add it", d.FullName())
	return nil
}

// fill sets every field, of a oneof the one member.
func fill(m protoreflect.Message, member int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); o != nil && o.Fields().Get(member) != f {
			continue
		}
		switch {
		case f.IsList():
			list := m.Mutable(f).List()
			for n := range 3 {
				if f.Kind() == protoreflect.MessageKind {
					fill(list.AppendMutable().Message(), 0)
				} else {
					list.Append(some(f, n)) // defaults too: they stand in a list
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).Message(), 0)
		default:
			m.Set(f, some(f, 1+i%2))
		}
	}
}

// some is a value of a scalar field: 0 is the default, 1 and 2 are the ends of
// its range.
func some(f protoreflect.FieldDescriptor, n int) protoreflect.Value {
	pick := func(values ...any) protoreflect.Value { return protoreflect.ValueOf(values[n]) }
	switch f.Kind() {
	case protoreflect.BoolKind:
		return pick(false, true, true)
	case protoreflect.EnumKind:
		last := f.Enum().Values().Get(f.Enum().Values().Len() - 1).Number()
		return pick(protoreflect.EnumNumber(0), protoreflect.EnumNumber(1), last)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return pick(int32(0), int32(math.MinInt32), int32(math.MaxInt32))
	case protoreflect.Uint32Kind:
		return pick(uint32(0), uint32(1), uint32(math.MaxUint32))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind:
		return pick(int64(0), int64(math.MinInt64), int64(math.MaxInt64))
	case protoreflect.Uint64Kind:
		return pick(uint64(0), uint64(1), uint64(math.MaxUint64))
	case protoreflect.StringKind:
		return pick("", "a", "é\x00")
	case protoreflect.BytesKind:
		return pick([]byte{}, []byte{0}, bytes.Repeat([]byte{0xff}, 200))
	}
	panic(fmt.Sprintf("kind %v of %s", f.Kind(), f.FullName()))
}

// canonical encodes a message of which every field is set: ascending fields,
// minimal varints, packed lists of numbers.
func canonical(m protoreflect.Message) (b []byte) {
	fields := m.Descriptor().Fields()
	for number := protowire.Number(1); number < 1000; number++ {
		f := fields.ByNumber(number)
		if f == nil || !m.Has(f) {
			continue
		}
		values := []protoreflect.Value{m.Get(f)}
		if f.IsList() {
			values = nil
			for i := range m.Get(f).List().Len() {
				values = append(values, m.Get(f).List().Get(i))
			}
		}
		var packed []byte
		for _, v := range values {
			switch f.Kind() {
			case protoreflect.MessageKind:
				b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), canonical(v.Message()))
			case protoreflect.BytesKind:
				b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v.Bytes())
			case protoreflect.StringKind:
				b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), v.String())
			default:
				if !f.IsList() {
					b = protowire.AppendTag(b, number, protowire.VarintType)
					b = protowire.AppendVarint(b, number64(f, v))
					continue
				}
				packed = protowire.AppendVarint(packed, number64(f, v))
			}
		}
		if packed != nil {
			b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), packed)
		}
	}
	return b
}

func number64(f protoreflect.FieldDescriptor, v protoreflect.Value) uint64 {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protowire.EncodeBool(v.Bool())
	case protoreflect.EnumKind:
		return uint64(int64(v.Enum()))
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return protowire.EncodeZigZag(v.Int())
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return uint64(v.Int())
	}
	return v.Uint()
}

// B1: two bytes make a piece of a hundred in memory, so their number is bounded
// before anything is allocated: a proposal of 64 MiB could take gigabytes.
func TestB1_PiecesAreBounded(t *testing.T) {
	submissions := func(n int) []byte { return append([]byte{0x08, 0x01}, bytes.Repeat([]byte{0x22, 0x00}, n)...) }
	records := func(n int) []byte {
		return protowire.AppendBytes([]byte{0x08, 0x01, 0x22}, bytes.Repeat([]byte{0x0a, 0x00}, n))
	}
	for name, c := range map[string]struct {
		bytes []byte
		ok    bool
	}{
		"as many submissions":       {submissions(maxPieces), true},
		"one submission too many":   {submissions(maxPieces + 1), false},
		"as many records in one":    {records(maxPieces - 1), true},
		"one record too many in it": {records(maxPieces), false},
	} {
		err := Check(c.bytes, (&replicav1.Proposal{}).ProtoReflect().Descriptor())
		var form *FormError
		if (err == nil) != c.ok || err != nil && !errors.As(err, &form) {
			t.Errorf("%s: %v, want accepted %v", name, err, c.ok)
		}
	}
}

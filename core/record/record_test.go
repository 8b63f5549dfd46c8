package record_test

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func header(certificate int) *recordv1.Record {
	return &recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: &recordv1.BlockHeader{Version: 1, Certificate: make([]byte, certificate)}}}
}

func TestB1_RecordsAreBounded(t *testing.T) {
	overhead := 0
	if b, err := record.Encode(header(50_000)); err != nil {
		t.Fatal(err)
	} else {
		overhead = len(b) - 50_000
	}
	largest, err := record.Encode(header(record.MaxBytes - overhead))
	if err != nil || len(largest) != record.MaxBytes {
		t.Fatalf("%d bytes (%v)", len(largest), err)
	}
	if _, err := record.Parse(largest); err != nil {
		t.Error(err)
	}
	if _, err := record.Encode(header(record.MaxBytes - overhead + 1)); reason.Of(err) != reason.TooLarge {
		t.Errorf("one byte more: %v", err)
	}
	if _, err := record.Parse(append(largest, 0)); reason.Of(err) != reason.TooLarge {
		t.Errorf("parse of one byte more: %v", err)
	}
	for name, c := range map[string]struct {
		bytes []byte
		want  reason.Reason
	}{
		"empty":   {nil, reason.Malformed},
		"unknown": {[]byte{0x3a, 0x00}, reason.NotCanonical},
		"padded":  {[]byte{0x2a, 0x82, 0x00, 0x08, 0x01}, reason.NotCanonical},
	} {
		if _, err := record.Parse(c.bytes); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestCheckID(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "inmetro": true, "meter-1.lane-2": true, "0": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "A": false, "a_b": false, "a/b": false, "-a": false, "a-": false,
		".a": false, "a.": false, "a b": false, "ä": false, "a\x00": false,
	} {
		if err := record.CheckID(id); (err == nil) != ok {
			t.Errorf("%q: %v, want ok %v", id, err, ok)
		}
	}
}

// Whatever the protos declare with a statement's header is a statement here: it
// has a payload type, which leads back to it.
func TestEveryMessageWithAHeaderIsAStatement(t *testing.T) {
	var found []string
	all := recordv1.File_lacre_record_v1_statement_proto.Messages()
	for i := range all.Len() {
		d := all.Get(i)
		if f := d.Fields().ByName("header"); f == nil || f.Message() == nil || f.Message().Name() != "StatementHeader" {
			continue
		}
		kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			t.Fatal(err)
		}
		payloadType := record.TypeOf(kind.New().Interface())
		if m := record.NewMessage(payloadType); m == nil || m.ProtoReflect().Descriptor().FullName() != d.FullName() {
			t.Errorf("%s has the type %s, which makes %T", d.Name(), payloadType, m)
		}
		found = append(found, payloadType)
	}
	slices.Sort(found)
	if got := record.MessageTypes(); !slices.Equal(got, found) {
		t.Errorf("statements are %q, the protos declare %q", got, found)
	}
	if m := record.NewMessage(record.TypeApproval); m != nil {
		t.Errorf("an approval is %T", m)
	}
}

func TestStatementsKeepTheirIdentity(t *testing.T) {
	m := &recordv1.NodeRevocation{Header: &recordv1.StatementHeader{Subject: record.SubjectNode("n"), Sequence: 1}, NodeId: "n"}
	var digests []digest.Digest
	for _, signers := range [][]crypto.Signer{
		{statetest.Root("a")}, {statetest.Root("b"), statetest.Root("a")}, {statetest.P256Key("c")},
	} {
		e, err := record.NewStatement(m, signers...)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := record.FromEnvelope(e)
		if err != nil {
			t.Fatal(err)
		}
		r, err := record.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		again := record.ToEnvelope(r.GetStatement())
		if err := again.Check(); err != nil || again.Digest() != e.Digest() || len(again.Signatures) != len(signers) {
			t.Errorf("%d signers: %+v (%v)", len(signers), again, err)
		}
		digests = append(digests, record.StatementDigest(again.PayloadType, again.Payload))
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("identities %v differ by signers", digests)
	}
}

func TestTypeOfEveryStatement(t *testing.T) {
	seen := map[string]bool{record.TypeApproval: true}
	for _, m := range []proto.Message{
		&recordv1.NetworkConfig{}, &recordv1.NodeRegistration{}, &recordv1.NodeRevocation{}, &recordv1.AlgorithmStatus{},
		&recordv1.MeterRegistration{}, &recordv1.MeterParameters{}, &recordv1.MeterStatus{}, &recordv1.MeterKeyRollover{},
		&recordv1.NationalTable{}, &recordv1.CanaryCommitment{}, &recordv1.CanaryReveal{}, &recordv1.EvidenceErasure{}, &recordv1.RawVectorExpiry{},
	} {
		if name := record.TypeOf(m); seen[name] {
			t.Errorf("%T has the type %s of another", m, name)
		} else {
			seen[name] = true
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a sample header is a statement")
		}
	}()
	record.TypeOf(&recordv1.SampleHeader{})
}

func TestSignEvent(t *testing.T) {
	report := &recordv1.EventReport{Reporter: "n", Kind: recordv1.EventKind_EVENT_KIND_ENGINE_DIVERGENCE}
	signer := statetest.Key("n")
	leaf, err := record.SignEvent(signer, signature.Ed25519ZIP215, report)
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.KeyOf(signature.Ed25519ZIP215, signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	e := r.GetSecurityEvent()
	if !signature.Verify(signature.Ed25519ZIP215, key, record.EventMessage(e.GetReport()), e.GetSignature()) {
		t.Error("the event does not verify")
	}
	if _, err := record.SignEvent(signer, signature.P256, report); err == nil {
		t.Error("signed under another kind")
	}
}

func TestDigestsOfOneLeafDifferByRole(t *testing.T) {
	b := []byte("leaf")
	if record.Digest(b) == record.HeaderDigest(b) {
		t.Error("a record and a header share a digest")
	}
	if _, err := record.Digest32("field", b); reason.Of(err) != reason.Malformed || !strings.Contains(err.Error(), "field") {
		t.Errorf("4 bytes as a digest: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range []*recordv1.Record{
		header(3),
		{Body: &recordv1.Record_Statement{Statement: &recordv1.Envelope{PayloadType: "t", Payload: []byte("p")}}},
		{Body: &recordv1.Record_EndorsementSet{EndorsementSet: &recordv1.EndorsementSet{Claims: [][]byte{{1}}}}},
	} {
		b, err := record.Encode(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := record.Parse(b)
		if err != nil {
			var refused *reason.Error
			if !errors.As(err, &refused) {
				t.Fatalf("%v has no reason", err)
			}
			return
		}
		again, err := record.Encode(r)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is accepted and encodes as %x (%v)", b, again, err)
		}
	})
}

package state_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// An organisation with an evidence key orders an erasure, once; no other does.
func TestS4_EvidenceErasures(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	piece := digest.Of(digest.Evidence, []byte("plate"))
	refuseStatement(t, n, n.Erasure(piece, "org-01"), reason.NotAuthorised) // nobody has an evidence key
	n.GiveEvidenceKey("org-01")

	order := func(change func(*recordv1.EvidenceErasure), root string) []byte {
		e := &recordv1.EvidenceErasure{
			Header: n.Header(record.SubjectEvidence(piece)), Evidence: piece.Bytes(), Organisation: "org-01", Rule: "data protection act, section 17",
			EvidenceKey: statetest.EvidenceKey("org-01").PublicKey().Bytes(),
		}
		change(e)
		return n.Sign(e, statetest.Root(root))
	}
	same := func(*recordv1.EvidenceErasure) {}
	refuseStatement(t, n, order(same, "org-02"), reason.NotAuthorised)
	for name, c := range map[string]struct {
		change func(*recordv1.EvidenceErasure)
		want   reason.Reason
	}{
		"no rule":              {func(e *recordv1.EvidenceErasure) { e.Rule = "" }, reason.Malformed},
		"a long rule":          {func(e *recordv1.EvidenceErasure) { e.Rule = strings.Repeat("x", state.MaxReason+1) }, reason.TooLarge},
		"no evidence key":      {func(e *recordv1.EvidenceErasure) { e.EvidenceKey = nil }, reason.NotAuthorised},
		"a stranger's key":     {func(e *recordv1.EvidenceErasure) { e.EvidenceKey = statetest.EvidenceKey("org-02").PublicKey().Bytes() }, reason.NotAuthorised},
		"no digest":            {func(e *recordv1.EvidenceErasure) { e.Evidence = nil }, reason.Malformed},
		"another piece":        {func(e *recordv1.EvidenceErasure) { e.Evidence = digest.Plain(nil).Bytes() }, reason.Malformed},
		"an upper-case digest": {func(e *recordv1.EvidenceErasure) { e.Header.Subject = "evidence/" + strings.ToUpper(piece.String()) }, reason.Malformed},
		"another network":      {func(e *recordv1.EvidenceErasure) { e.Header.NetworkId = digest.Plain(nil).Bytes() }, reason.WrongNetwork},
		"not the next":         {func(e *recordv1.EvidenceErasure) { e.Header.Sequence, e.Header.Predecessor = 2, piece.Bytes() }, reason.OutOfSequence},
	} {
		if o := try(t, n, [][]byte{order(c.change, "org-01")}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
	if value, err := state.GetErasedEvidence(n.Store, piece); value != nil || err != nil {
		t.Fatalf("erased by what was refused: %v (%v)", value, err)
	}
	leaf := order(same, "org-01")
	index := n.Accept(leaf)
	value, err := state.GetErasedEvidence(n.Store, piece)
	if err != nil || value.GetLast().GetIndex() != index {
		t.Errorf("erasure is %v (%v), want leaf %d", value, err, index)
	}
	refuseStatement(t, n, leaf, reason.Duplicate)
	refuseStatement(t, n, order(same, "org-01"), reason.EvidenceErased)
}

// Whoever a piece is sealed to erases it, also after its key was replaced; the
// order of another does nothing and is in nobody's way.
func TestS4_ErasuresAreOfWhomThePieceIsSealedTo(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.GiveEvidenceKey("org-01")
	n.GiveEvidenceKey("org-02")
	piece := digest.Of(digest.Evidence, []byte("sealed to org-01"))
	own, other := statetest.EvidenceKey("org-01").PublicKey().Bytes(), statetest.EvidenceKey("org-02").PublicKey().Bytes()
	orders := func() *statev1.ErasedEvidence {
		value, err := state.GetErasedEvidence(n.Store, piece)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	n.Accept(n.Erasure(piece, "org-02"))
	if v := orders(); state.Erases(v, own) || !state.Erases(v, other) || state.Erases(nil, own) {
		t.Errorf("org-02 ordered, and the orders are %v", v)
	}

	for _, o := range n.Config.Organisations { // a new key of org-01, the old one for org-03
		switch o.GetId() {
		case "org-01":
			o.EvidenceKey = statetest.EvidenceKey("new").PublicKey().Bytes()
		case "org-03":
			o.EvidenceKey = own
		}
	}
	config := func() []byte {
		n.Config.Header = n.Header(record.SubjectNetwork)
		return n.Sign(n.Config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"))
	}
	refuseStatement(t, n, config(), reason.KeyInUse)
	for _, o := range n.Config.Organisations {
		if o.GetId() == "org-03" {
			o.EvidenceKey = nil
		}
	}
	n.Accept(config())
	n.Apply(n.Begin())
	n.Accept(n.Erasure(piece, "org-01")) // by the key that it had
	if v := orders(); !state.Erases(v, own) || len(v.GetKeys()) != 2 || v.GetLast().GetSequence() != 2 {
		t.Errorf("org-01 ordered, and the orders are %v", v)
	}
}

// An evidence key is fit to be sealed to, and one organisation's own.
func TestN1_EvidenceKeys(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	key := statetest.EvidenceKey("org-00").PublicKey().Bytes()
	small := make([]byte, 32)
	aliased := append([]byte{0xee}, bytes.Repeat([]byte{0xff}, 30)...)
	for name, c := range map[string]struct {
		keys [2][]byte
		want reason.Reason
	}{
		"31 bytes":           {[2][]byte{key[:31], nil}, reason.Malformed},
		"of small order":     {[2][]byte{small, nil}, reason.WeakKey},
		"a second encoding":  {[2][]byte{append(aliased, 0x7f), nil}, reason.WeakKey},
		"the unused bit set": {[2][]byte{append(bytes.Clone(key[:31]), key[31]|0x80), nil}, reason.WeakKey},
		"of two":             {[2][]byte{key, key}, reason.InvalidStatement},
	} {
		config := proto.CloneOf(n.Config)
		config.Header = n.Header(record.SubjectNetwork)
		config.Organisations[0].EvidenceKey, config.Organisations[1].EvidenceKey = c.keys[0], c.keys[1]
		leaf := n.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"))
		if o := try(t, n, [][]byte{leaf}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
}

// Only an organisation that can read evidence has nodes that are given it.
func TestN1_AuthorityNodesNeedAnEvidenceKey(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	node := statetest.Node{ID: "reader", Organisation: "org-01", Role: recordv1.Role_ROLE_AUTHORITY, Key: statetest.Key("reader")}
	register := func() []byte {
		return n.Sign(n.Registration(node, 1, digest.Zero), statetest.Root("org-01"), node.Key)
	}
	refuseStatement(t, n, register(), reason.InvalidStatement)
	n.GiveEvidenceKey("org-01")
	n.Accept(register())
}

// A reading is recorded about a piece of evidence, and each once.
func TestEvidenceReadingsAreEvents(t *testing.T) {
	base, meter := ready(t)
	read := func(n *statetest.Network, subject, detail string) []byte {
		return report(n, meter, 0, func(r *recordv1.EventReport) {
			r.Kind, r.Subject, r.Detail = recordv1.EventKind_EVENT_KIND_EVIDENCE_READ, subject, detail
		})
	}
	subject := record.SubjectEvidence(digest.Of(digest.Evidence, []byte("plate")))
	n := base.Clone(t)
	n.Accept(read(n, subject, "first"))
	n.Accept(read(n, subject, "second"))
	refuseStatement(t, n, read(n, subject, "second"), reason.AlreadyReported)
	for _, wrong := range []string{"", "meter/meter-1", "evidence/", subject + "0", strings.ToUpper(subject)} {
		refuseStatement(t, n, read(n, wrong, "x"), reason.Malformed)
	}
}

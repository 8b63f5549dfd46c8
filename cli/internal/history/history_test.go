package history

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
)

// lived is a ledger on which a module was approved and suspended, and a meter
// measured between.
func lived(t *testing.T) (l *ledgertest.Ledger, bundle *trust.Bundle, subject string) {
	t.Helper()
	l = ledgertest.New(t, statetest.Options{})
	l.Do(func(n *statetest.Network) {
		n.Approve()
		n.NowUnix += 5
		m := n.Register("meter-01")
		n.AcceptCaptures(m.Capture())
		n.NowUnix += 5
		subject = record.SubjectAlgorithm(n.Algorithm)
		n.Accept(n.Sign(&recordv1.AlgorithmStatus{Header: n.Header(subject), Algorithm: n.Algorithm.Bytes(),
			Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, EffectiveAtUnixNano: n.NowUnix * statetest.Second}, statetest.Body()))
		policy, err := state.PolicyOf(n.Config, n.ID)
		if err != nil {
			t.Fatal(err)
		}
		if bundle, err = trust.New(trust.Epoch{Policy: policy}); err != nil {
			t.Fatal(err)
		}
	})
	return l, bundle, subject
}

// read replays the blocks as a replica serves them, after a change.
func read(l *ledgertest.Ledger, bundle *trust.Bundle, subject string, change func(b *ledgerv1.StreamBlocksResponse)) (*History, error) {
	r := &ledger{values: make(map[string][]byte), tree: tlog.NewRange(), subject: subject, verifier: signature.NewCache(1 << 10)}
	for height := range l.Height() + 1 {
		b := proto.CloneOf(l.Block(height))
		if change != nil {
			change(b)
		}
		if err := r.add(b); err != nil {
			return nil, errors.Join(ErrRefuted, err)
		}
	}
	return r.conclude(bundle)
}

func TestHistoryIsTheWholeChainWithItsSigners(t *testing.T) {
	l, bundle, subject := lived(t)
	h, err := read(l, bundle, subject, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Entries) != 2 || h.CertifiedHeight != l.Height() {
		t.Fatalf("%d entries up to height %d, want 2 up to %d", len(h.Entries), h.CertifiedHeight, l.Height())
	}
	first, second := h.Entries[0], h.Entries[1]
	if first.Envelope.PayloadType != record.TypeApproval || second.Envelope.PayloadType != record.TypeAlgorithmStatus ||
		second.Index <= first.Index || second.BlockTimeUnixNano < first.BlockTimeUnixNano+10*statetest.Second {
		t.Errorf("%+v", h.Entries)
	}
	var who []string
	for _, s := range append(first.Signers, second.Signers...) {
		who = append(who, s.Who)
	}
	if text := strings.Join(who, ", "); len(who) != 3 || strings.Count(text, "notified body") != 2 || !strings.Contains(text, "the manufacturer") {
		t.Errorf("signed by %s", text)
	}
	if none, err := read(l, bundle, "meter/nobody", nil); err != nil || len(none.Entries) != 0 {
		t.Errorf("of a subject without statements: %v, %v", none, err)
	}
}

// S6: a replica can neither leave out a statement nor forge one, nor pass off
// another ledger.
func TestS6_HistoryCannotBeFalsified(t *testing.T) {
	l, bundle, subject := lived(t)
	statement := func(b *ledgerv1.StreamBlocksResponse, change func(leaf *ledgerv1.Leaf)) {
		for _, leaf := range b.GetLeaves() {
			if r, err := record.Parse(leaf.GetRecord()); b.GetHeight() > 0 && err == nil && r.GetStatement() != nil {
				change(leaf)
			}
		}
	}
	for name, change := range map[string]func(b *ledgerv1.StreamBlocksResponse){
		"statements withheld": func(b *ledgerv1.StreamBlocksResponse) {
			statement(b, func(leaf *ledgerv1.Leaf) {
				hash := tlog.LeafHash(leaf.GetRecord())
				leaf.Content = &ledgerv1.Leaf_Hash{Hash: hash[:]}
			})
		},
		"a bit of a statement": func(b *ledgerv1.StreamBlocksResponse) {
			statement(b, func(leaf *ledgerv1.Leaf) { leaf.GetRecord()[len(leaf.GetRecord())/2] ^= 1 })
		},
		"a block left out":   func(b *ledgerv1.StreamBlocksResponse) { b.Height++ },
		"no certificate":     func(b *ledgerv1.StreamBlocksResponse) { b.Certificate = nil },
		"a bad certificate":  func(b *ledgerv1.StreamBlocksResponse) { b.Certificate = []byte("x") },
		"nothing in a block": func(b *ledgerv1.StreamBlocksResponse) { b.Leaves = nil },
	} {
		if h, err := read(l, bundle, subject, change); !errors.Is(err, ErrRefuted) {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
	other := ledgertest.New(t, statetest.Options{Organisations: 1})
	if h, err := read(other, bundle, subject, nil); !errors.Is(err, ErrRefuted) {
		t.Errorf("another network's: %v, %v", h, err)
	}
}

package silence_test

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/silence"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// source is a copy of a ledger.
type source struct{ blocks []*audit.Block }

// copyOf certifies the blocks below a height.
func copyOf(n *statetest.Network, certified int) *source {
	s := &source{}
	for i, ref := range n.Store.Blocks {
		b := &audit.Block{Height: ref.Height}
		if i < certified {
			b.Certificate = n.Certificate(ref.Height)
		}
		for _, leaf := range n.Store.BlockLeaves(ref.Height) {
			b.Leaves = append(b.Leaves, bytes.Clone(leaf))
		}
		s.blocks = append(s.blocks, b)
	}
	return s
}

func (s *source) Blocks(context.Context, uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for _, b := range s.blocks {
			if !yield(b, nil) {
				return
			}
		}
	}
}

func trusted(t *testing.T, n *statetest.Network) *trust.Bundle {
	t.Helper()
	policy, err := state.PolicyOf(n.Config, n.ID)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := trust.New(trust.Epoch{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// populated has a meter that never spoke, one that measures, one that sends
// heartbeats, one whose sample a gateway dropped, one whose newest were dropped,
// and one that is barred.
func populated(t *testing.T) *statetest.Network {
	t.Helper()
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	meters := make(map[string]*statetest.Meter)
	for _, id := range []string{"mute", "busy", "idle", "robbed", "cut-off", "broken"} {
		meters[id] = n.Register(id)
	}
	n.Accept(n.Sign(&recordv1.MeterStatus{Header: n.Header(record.SubjectMeter("broken")), MeterId: "broken",
		Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, Reason: "found open"}, statetest.Body()))
	n.NowUnix += 30
	n.AcceptCaptures(meters["robbed"].Capture())
	n.NowUnix += 30
	meters["robbed"].Capture() // signed, and dropped
	n.AcceptCaptures(meters["robbed"].Capture())
	n.AcceptCaptures(meters["cut-off"].Capture())
	meters["cut-off"].Capture()
	meters["cut-off"].Capture()
	n.NowUnix += 600
	n.AcceptCaptures(meters["busy"].Capture())
	n.AcceptCaptures(meters["robbed"].Capture())
	n.Accept(meters["idle"].Heartbeat())
	n.Accept(meters["cut-off"].Heartbeat())
	return n
}

func ask(t *testing.T, n *statetest.Network, s *source, longer time.Duration, newest []byte) (*silence.Answer, *audit.Report, error) {
	t.Helper()
	return silence.Of(t.Context(), s, silence.Options{Trust: trusted(t, n), Longer: longer, Newest: newest})
}

func TestSilenceIsAbsenceOnTheWholeLedger(t *testing.T) {
	n := populated(t)
	all := len(n.Store.Blocks)
	a, report, err := ask(t, n, copyOf(n, all), 5*time.Minute, nil)
	if err != nil || a == nil {
		t.Fatalf("%v, %v", report, err)
	}
	got := map[string]silence.Meter{}
	for _, m := range a.Listed {
		got[m.Meter] = m
	}
	if len(got) != 3 || a.InService != 5 || a.Height != n.Store.Head().Height {
		t.Fatalf("listed %+v of %d meters up to block %d", a.Listed, a.InService, a.Height)
	}
	if m := got["mute"]; !m.Silent || m.LastSign != "" || m.Newest != 0 {
		t.Errorf("a meter that never spoke: %+v", m)
	}
	if m := got["robbed"]; m.Silent || m.Missing != 1 || m.Undelivered != 0 || m.Kind != silence.Measurement {
		t.Errorf("a meter whose sample was dropped: %+v", m)
	}
	m := got["cut-off"]
	if m.Silent || m.Undelivered != 2 || m.Newest != 1 || m.Kind != silence.Heartbeat {
		t.Errorf("a meter whose newest samples were dropped: %+v", m)
	}
	if leaf, err := record.Parse(n.Store.Leaves[m.Record]); err != nil || leaf.GetHeartbeat() == nil {
		t.Errorf("record %d is no heartbeat (%v)", m.Record, err)
	}
	if b := n.Store.Blocks[m.Block]; m.Record < b.FirstIndex || m.Record >= b.Size {
		t.Errorf("record %d is not in block %d", m.Record, m.Block)
	}
}

// The replicas sign the newest checkpoint again while nothing comes: silence grows.
func TestSilenceIsCountedFromTheNewestCertificate(t *testing.T) {
	n := populated(t)
	s := copyOf(n, len(n.Store.Blocks))
	old := n.Certificate(n.Store.Blocks[1].Height)
	n.NowUnix += 3600
	newest := n.Certificate(n.Store.Head().Height)
	a, _, err := ask(t, n, s, 30*time.Minute, newest)
	if err != nil || len(a.Listed) != 5 || slices.ContainsFunc(a.Listed, func(m silence.Meter) bool { return !m.Silent }) {
		t.Errorf("after an hour without a block: %+v (%v)", a, err)
	}
	if a, _, err := ask(t, n, s, 30*time.Minute, old); err != nil || a.Listed[0].Silent {
		t.Errorf("a certificate of an older checkpoint counts: %+v (%v)", a, err)
	}
	forged := bytes.Replace(newest, []byte("\n"), []byte("x\n"), 1)
	if _, _, err := ask(t, n, s, 30*time.Minute, forged); err == nil {
		t.Error("a certificate of nobody counts")
	}
}

// A replica that leaves a sign of life out, or puts one in, is found.
func TestSilenceOfALedgerThatDoesNotHold(t *testing.T) {
	n := populated(t)
	for name, change := range map[string]func(b *audit.Block){
		"left out": func(b *audit.Block) { b.Leaves = b.Leaves[1:] },
		"twice":    func(b *audit.Block) { b.Leaves = append([][]byte{b.Leaves[0]}, b.Leaves...) },
	} {
		s := copyOf(n, len(n.Store.Blocks))
		change(s.blocks[len(s.blocks)-1])
		if a, report, err := ask(t, n, s, time.Minute, nil); err != nil || a != nil || report.Verdict != receipt.Refuted {
			t.Errorf("%s: %+v, %v, %v", name, a, report, err)
		}
	}
}

// What no certificate covers says nothing yet; without any, nothing is said.
func TestSilenceUpToTheCertifiedBlock(t *testing.T) {
	n := populated(t)
	all := len(n.Store.Blocks)
	a, _, err := ask(t, n, copyOf(n, all-1), 5*time.Minute, nil) // the last block is cut-off's heartbeat
	if err != nil || a.Height != n.Store.Head().Height-1 {
		t.Fatalf("%+v (%v)", a, err)
	}
	if i := slices.IndexFunc(a.Listed, func(m silence.Meter) bool { return m.Meter == "cut-off" }); i < 0 || !a.Listed[i].Silent || a.Listed[i].Undelivered != 0 {
		t.Errorf("an uncertified heartbeat counts: %+v", a.Listed)
	}
	if a, report, err := ask(t, n, copyOf(n, 0), time.Minute, nil); err != nil || a != nil || report.Verdict != receipt.Undecidable {
		t.Errorf("nothing is certified: %+v, %v, %v", a, report, err)
	}
}

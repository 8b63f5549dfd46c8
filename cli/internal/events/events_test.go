package events_test

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/cli/internal/events"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

const module = "algorithm/0101010101010101010101010101010101010101010101010101010101010101"

// ledger has two reports on two days: an endorser's, then the gateway's.
func ledger(t *testing.T) *receipttest.Network {
	n := receipttest.Found(t, receipttest.Algorithm{
		Module: []byte("a module"), Parameters: []int64{7},
		Schema: approval.Schema{Parameters: []approval.Field{{Name: "offset", Unit: "1"}}, Values: []approval.Field{{Name: "speed", Unit: "km/h"}}},
		Run:    func([]byte, uint64) ([]byte, uint64) { return statetest.Result(abi.CodeValid, 1), 1 },
	})
	n.Register("m-1")
	endorser := n.Endorsers[0]
	report := func(report *recordv1.EventReport, sign func(*recordv1.EventReport) ([]byte, error)) {
		report.NetworkId = n.ID.Bytes()
		leaf, err := sign(report)
		if err != nil {
			t.Fatal(err)
		}
		n.Accept(leaf)
	}
	report(&recordv1.EventReport{
		Reporter: endorser.ID, Kind: recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION, Subject: module, Detail: "offered by gateway",
	}, func(r *recordv1.EventReport) ([]byte, error) {
		return record.SignEvent(endorser.Key, signature.Ed25519ZIP215, r)
	})
	n.NowUnix += 86_400
	report(&recordv1.EventReport{
		Reporter: n.Gateway.ID, Kind: recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE, Subject: "meter/m-1", Counter: 4, Detail: "claim a; claim b",
	}, func(r *recordv1.EventReport) ([]byte, error) {
		return record.SignEvent(n.Gateway.Key, signature.Ed25519ZIP215, r)
	})
	return n
}

// source is a copy of a ledger; certified is the first height without a
// certificate.
type source []*audit.Block

func copyOf(n *receipttest.Network, certified int) source {
	var s source
	for i, ref := range n.Store.Blocks {
		b := &audit.Block{Height: ref.Height}
		if i < certified {
			b.Certificate = n.Certificate(ref.Height)
		}
		for _, leaf := range n.Store.BlockLeaves(ref.Height) {
			b.Leaves = append(b.Leaves, bytes.Clone(leaf))
		}
		s = append(s, b)
	}
	return s
}

func (s source) Blocks(_ context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for _, b := range s[from:] {
			if !yield(b, nil) {
				return
			}
		}
	}
}

const all = 1 << 30

func of(t *testing.T, n *receipttest.Network, s source, o events.Options) (*events.List, *audit.Report) {
	t.Helper()
	o.Trust = n.Trust()
	l, report, err := events.Of(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return l, report
}

func TestEventsAreListedWithTheirReporters(t *testing.T) {
	n := ledger(t)
	l, _ := of(t, n, copyOf(n, all), events.Options{})
	if len(l.Events) != 2 {
		t.Fatalf("%d events, want 2", len(l.Events))
	}
	first, second := l.Events[0], l.Events[1]
	if first.Kind != "REFUSED_INSTALLATION" || first.Organisation != "org-00" || first.Reporter != n.Endorsers[0].ID || first.Subject != module || first.Detail != "offered by gateway" {
		t.Errorf("%+v", first)
	}
	if second.Kind != "ENDORSERS_DISAGREE" || second.Counter != 4 || second.Height != l.CertifiedHeight || second.Index <= first.Index || second.BlockTime <= first.BlockTime {
		t.Errorf("%+v after %+v", second, first)
	}
	leaf := n.Store.BlockLeaves(second.Height)[second.Index-n.Store.Blocks[second.Height].FirstIndex]
	if r, err := record.Parse(leaf); err != nil || r.GetSecurityEvent() == nil {
		t.Errorf("record %d is no event: %v", second.Index, err)
	}
	if text := l.String(); !strings.Contains(text, "meter/m-1, counter 4, reported by "+n.Gateway.ID+" of ") || !strings.Contains(text, "\n2 events up to block ") {
		t.Errorf("%s", text)
	}
}

// A list that goes on from a kept state is the list of a whole replay.
func TestResumedListIsTheSame(t *testing.T) {
	n := ledger(t)
	want, _ := of(t, n, copyOf(n, all), events.Options{})
	for cut := 1; cut <= len(n.Store.Blocks); cut++ {
		before, err := audit.Run(t.Context(), copyOf(n, all)[:cut], audit.Options{Trust: n.Trust(), LedgerOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := of(t, n, copyOf(n, all), events.Options{Resume: before.State}); got == nil || got.String() != want.String() {
			t.Errorf("resumed at %d: %+v", cut, got)
		}
	}
}

func TestEventsAreChosen(t *testing.T) {
	n := ledger(t)
	day := (n.NowUnix - 3_600) * 1e9
	for name, c := range map[string]struct {
		options events.Options
		want    []string
	}{
		"a kind":             {events.Options{Kinds: []string{"ENDORSERS_DISAGREE"}}, []string{"meter/m-1"}},
		"a subject":          {events.Options{Subject: "meter/m-1"}, []string{"meter/m-1"}},
		"subjects of a kind": {events.Options{Subject: "algorithm"}, []string{module}},
		"another meter":      {events.Options{Subject: "meter/m"}, nil},
		"a later day":        {events.Options{FromUnixNano: day}, []string{"meter/m-1"}},
		"an earlier day":     {events.Options{UntilUnixNano: day}, []string{module}},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := of(t, n, copyOf(n, all), c.options)
			var got []string
			for _, e := range l.Events {
				got = append(got, e.Subject)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// What no certificate covers is not listed; nor is a ledger that does not hold.
func TestEventsEndAtTheCertifiedHeight(t *testing.T) {
	n := ledger(t)
	if l, _ := of(t, n, copyOf(n, len(n.Store.Blocks)-1), events.Options{}); len(l.Events) != 1 || l.CertifiedHeight != uint64(len(n.Store.Blocks)-2) {
		t.Errorf("%+v", l)
	}
	if l, report, err := events.Of(t.Context(), copyOf(n, all), events.Options{}); l != nil || err != nil || report.Verdict == receipt.Verified {
		t.Errorf("a list without a trust bundle: %+v, %v", l, err)
	}
	for i := range n.Store.Blocks {
		s := copyOf(n, all)
		leaf := s[i].Leaves[len(s[i].Leaves)/2]
		leaf[len(leaf)/2] ^= 1
		if l, report := of(t, n, s, events.Options{}); l != nil || report.Verdict != receipt.Refuted {
			t.Errorf("block %d altered: %v, %+v", i, report.Verdict, l)
		}
	}
}

func TestKindsAreThoseOfTheRecords(t *testing.T) {
	if got := events.Kinds(); len(got) != len(recordv1.EventKind_name)-1 || !slices.Contains(got, "EVIDENCE_READ") {
		t.Errorf("%v, and the records know %v", got, recordv1.EventKind_name)
	}
}

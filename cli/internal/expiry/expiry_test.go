package expiry

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// answers is a replica in memory; lie may change what it says.
type answers struct {
	ledgerv1.LedgerServiceClient
	n    *statetest.Network
	lie  func(record *ledgerv1.GetRecordResponse, first *ledgerv1.StreamBlocksResponse)
	asks int
}

func (a *answers) GetRecord(_ context.Context, r *ledgerv1.GetRecordRequest, _ ...grpc.CallOption) (*ledgerv1.GetRecordResponse, error) {
	p := (&receipttest.Network{Network: a.n}).Prove(r.GetIndex())
	response := &ledgerv1.GetRecordResponse{Record: bytes.Clone(p.GetRecord()), Proof: p.GetProof(), Certificate: a.n.Certificate(a.n.Store.Head().Height)}
	if a.lie != nil {
		a.lie(response, nil)
	}
	return response, nil
}

func (a *answers) GetCheckpoint(context.Context, *ledgerv1.GetCheckpointRequest, ...grpc.CallOption) (*ledgerv1.GetCheckpointResponse, error) {
	return &ledgerv1.GetCheckpointResponse{Certificate: a.n.Certificate(a.n.Store.Head().Height)}, nil
}

func (a *answers) StreamBlocks(_ context.Context, r *ledgerv1.StreamBlocksRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[ledgerv1.StreamBlocksResponse], error) {
	a.asks++
	block := &ledgerv1.StreamBlocksResponse{Height: r.GetFromHeight()}
	for _, leaf := range a.n.Store.BlockLeaves(r.GetFromHeight()) {
		block.Leaves = append(block.Leaves, &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: leaf}})
	}
	if a.lie != nil {
		a.lie(nil, block)
	}
	return &stream{block: block}, nil
}

type stream struct {
	grpc.ClientStream
	block *ledgerv1.StreamBlocksResponse
}

func (s *stream) Recv() (*ledgerv1.StreamBlocksResponse, error) {
	if s.block == nil {
		return nil, io.EOF
	}
	b := s.block
	s.block = nil
	return b, nil
}

// aged is a ledger that keeps raw vectors for 100 s, with a block every 10 s.
func aged(t *testing.T) (*Ledger, *answers) {
	t.Helper()
	n := statetest.New(t, statetest.Options{})
	founding, err := state.PolicyOf(n.Config, n.ID)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := trust.New(trust.Epoch{Policy: founding})
	if err != nil {
		t.Fatal(err)
	}
	n.KeepRawVectors(100 * statetest.Second)
	for range 20 {
		n.NowUnix += 10
		n.Apply(n.Begin())
	}
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	client := &answers{n: n}
	return &Ledger{View: n.Store, Config: config, Head: n.Store.Head(), Client: client, Trust: bundle}, client
}

func TestDraftTakesWhatTheRetentionLetsGo(t *testing.T) {
	l, client := aged(t)
	n := client.n
	for name, c := range map[string]struct {
		order Order
		age   int64 // seconds of the last block that is covered
		says  string
	}{
		"all that is old enough":   {Order{}, 100, ""},
		"before a time":            {Order{BeforeUnixNano: (n.NowUnix - 150) * statetest.Second}, 160, ""},
		"before a time too young":  {Order{BeforeUnixNano: n.NowUnix * statetest.Second}, 100, ""},
		"below a height":           {Order{BelowHeight: 3}, 0, ""},
		"below a height too young": {Order{BelowHeight: l.Head.Height}, 0, "the retention is 1m40s"},
		"below the next block":     {Order{BelowHeight: l.Head.Height + 2}, 0, "the newest certified is"},
		"before the first block":   {Order{BeforeUnixNano: 1}, 0, "nothing more may expire"},
	} {
		c.order.Rule = "rule"
		got, last, err := Draft(t.Context(), l, c.order, time.Unix(1, 0))
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := n.Store.Blocks[got.GetBelowHeight()-1]
		if last.Header != want.Header || !bytes.Equal(got.GetLastBlock(), want.Header[:]) || state.CheckStatement(got) != nil {
			t.Errorf("%s: %v after block %+v", name, got, want)
		}
		if age := n.NowUnix - want.BlockTimeUnixNano/statetest.Second; c.age > 0 && age != c.age {
			t.Errorf("%s: the last block is %d s old, want %d", name, age, c.age)
		}
		if c.order.BelowHeight != 0 && got.GetBelowHeight() != c.order.BelowHeight {
			t.Errorf("%s: below %d", name, got.GetBelowHeight())
		}
	}
	got, _, err := Draft(t.Context(), l, Order{Rule: "rule"}, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	n.Accept(n.SignExpiry(got, "org-00", "org-01", "org-02")) // what is drafted is taken
	l.Head = n.Store.Head()
	if _, _, err := Draft(t.Context(), l, Order{Rule: "rule"}, time.Unix(1, 0)); err == nil || !strings.Contains(err.Error(), "decision 1 let the raw vectors below block") {
		t.Errorf("again: %v", err)
	}
	n.NowUnix += 50
	n.Apply(n.Begin())
	l.Head = n.Store.Head()
	next, _, err := Draft(t.Context(), l, Order{Rule: "rule"}, time.Unix(1, 0))
	if err != nil || next.GetHeader().GetSequence() != 2 || len(next.GetHeader().GetPredecessor()) != 32 {
		t.Fatalf("the next is %v (%v)", next, err)
	}
	n.Accept(n.SignExpiry(next, "org-00", "org-01", "org-02"))
	if client.asks > 60 {
		t.Errorf("%d headers were asked for", client.asks)
	}
	l.Config.Message.Limits.RawVectorRetentionNano = 0
	if _, _, err := Draft(t.Context(), l, Order{Rule: "rule"}, time.Unix(1, 0)); err == nil || !strings.Contains(err.Error(), "Remedy: ") {
		t.Errorf("without a retention: %v", err)
	}
}

func TestDraftBelievesNoReplica(t *testing.T) {
	l, client := aged(t)
	record := func(change func(*ledgerv1.GetRecordResponse)) func(*ledgerv1.GetRecordResponse, *ledgerv1.StreamBlocksResponse) {
		return func(r *ledgerv1.GetRecordResponse, _ *ledgerv1.StreamBlocksResponse) {
			if r != nil {
				change(r)
			}
		}
	}
	block := func(change func(*ledgerv1.StreamBlocksResponse)) func(*ledgerv1.GetRecordResponse, *ledgerv1.StreamBlocksResponse) {
		return func(_ *ledgerv1.GetRecordResponse, b *ledgerv1.StreamBlocksResponse) {
			if b != nil {
				change(b)
			}
		}
	}
	for name, lie := range map[string]func(*ledgerv1.GetRecordResponse, *ledgerv1.StreamBlocksResponse){
		"an altered header":         record(func(r *ledgerv1.GetRecordResponse) { r.Record[9] ^= 1 }),
		"an altered proof":          record(func(r *ledgerv1.GetRecordResponse) { r.Proof[0] = make([]byte, 32) }),
		"half a hash":               record(func(r *ledgerv1.GetRecordResponse) { r.Proof[0] = r.Proof[0][:16] }),
		"no certificate":            record(func(r *ledgerv1.GetRecordResponse) { r.Certificate = nil }),
		"other people's":            record(func(r *ledgerv1.GetRecordResponse) { r.Certificate = forged(t) }),
		"another block":             block(func(b *ledgerv1.StreamBlocksResponse) { b.Height++ }),
		"the header of another one": block(func(b *ledgerv1.StreamBlocksResponse) { b.Leaves = later(client.n) }),
		"a block of no leaf":        block(func(b *ledgerv1.StreamBlocksResponse) { b.Leaves = nil }),
		"a block of no bytes":       block(func(b *ledgerv1.StreamBlocksResponse) { b.Leaves[len(b.Leaves)-1] = &ledgerv1.Leaf{} }),
	} {
		client.lie = lie
		if got, _, err := Draft(t.Context(), l, Order{BelowHeight: 3, Rule: "rule"}, time.Unix(1, 0)); err == nil {
			t.Errorf("%s: drafted %v", name, got)
		}
	}
}

// later is the header of another block.
func later(n *statetest.Network) []*ledgerv1.Leaf {
	leaves := n.Store.BlockLeaves(5)
	return []*ledgerv1.Leaf{{Content: &ledgerv1.Leaf_Record{Record: leaves[len(leaves)-1]}}}
}

// forged is a certificate of another network's replicas.
func forged(t *testing.T) []byte {
	t.Helper()
	other := statetest.New(t, statetest.Options{Organisations: 7})
	c, err := tlog.ParseCertificate(other.Certificate(0))
	if err != nil {
		t.Fatal(err)
	}
	return c.Text()
}

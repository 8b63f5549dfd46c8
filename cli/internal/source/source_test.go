package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// client is a replica that streams what it is given.
type client struct {
	ledgerv1.LedgerServiceClient
	blocks  []*ledgerv1.StreamBlocksResponse
	ending  error // of the stream; io.EOF is a good one
	request *ledgerv1.StreamBlocksRequest
	context context.Context // of the stream
}

type stream struct {
	grpc.ServerStreamingClient[ledgerv1.StreamBlocksResponse]
	client *client
	at     int
}

func (c *client) StreamBlocks(ctx context.Context, request *ledgerv1.StreamBlocksRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[ledgerv1.StreamBlocksResponse], error) {
	c.request, c.context = request, ctx
	return &stream{client: c}, nil
}

func (s *stream) Recv() (*ledgerv1.StreamBlocksResponse, error) {
	if s.at == len(s.client.blocks) {
		return nil, s.client.ending
	}
	s.at++
	return s.client.blocks[s.at-1], nil
}

// leaves are a statement, two measurements and a header, as far as this package
// looks at them.
func leaves(t *testing.T) (statement, measurement, header []byte) {
	t.Helper()
	encode := func(r *recordv1.Record) []byte {
		b, err := record.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return encode(&recordv1.Record{Body: &recordv1.Record_Statement{Statement: &recordv1.Envelope{PayloadType: "x"}}}),
		encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{Header: []byte{1}}}}),
		encode(&recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: &recordv1.BlockHeader{Version: 1}}})
}

func response(height uint64, raw [][]byte, records ...[]byte) *ledgerv1.StreamBlocksResponse {
	r := &ledgerv1.StreamBlocksResponse{Height: height, RawVectors: raw, Certificate: []byte("note")}
	for _, b := range records {
		r.Leaves = append(r.Leaves, &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: b}})
	}
	return r
}

func TestReplicaPlacesRawVectors(t *testing.T) {
	s, m, h := leaves(t)
	for name, c := range map[string]struct {
		raw  [][]byte
		want [][]byte
		bad  bool
	}{
		"both":                    {raw: [][]byte{{1}, {2}}, want: [][]byte{nil, {1}, {2}, nil}},
		"the first erased":        {raw: [][]byte{{}, {2}}, want: [][]byte{nil, nil, {2}, nil}},
		"the replica lost some":   {raw: [][]byte{{1}}, want: [][]byte{nil, {1}, nil, nil}},
		"none":                    {want: [][]byte{nil, nil, nil, nil}},
		"more than measurements":  {raw: [][]byte{{1}, {2}, {3}}, bad: true},
		"more, and they are void": {raw: [][]byte{{}, {}, {}}, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			c0 := &client{blocks: []*ledgerv1.StreamBlocksResponse{response(4, c.raw, s, m, m, h)}, ending: io.EOF}
			blocks, err := collect(c0, 4)
			if c.bad {
				if err == nil || len(blocks) != 0 {
					t.Fatalf("%d blocks, error %v; want an error", len(blocks), err)
				}
				return
			}
			if err != nil || len(blocks) != 1 {
				t.Fatalf("%d blocks, error %v", len(blocks), err)
			}
			b := blocks[0]
			if b.Height != 4 || string(b.Certificate) != "note" || !equal(b.Leaves, [][]byte{s, m, m, h}) || !equal(b.Raw, c.want) {
				t.Errorf("got %+v, want raw vectors %v", b, c.want)
			}
		})
	}
}

func TestReplicaAsksForEverythingUpToNow(t *testing.T) {
	_, _, h := leaves(t)
	lost := errors.New("connection lost")
	c := &client{blocks: []*ledgerv1.StreamBlocksResponse{response(7, nil, h), response(8, nil, h)}, ending: lost}
	blocks, err := collect(c, 7)
	if len(blocks) != 2 || !errors.Is(err, lost) {
		t.Errorf("%d blocks and %v, want two and the lost connection", len(blocks), err)
	}
	if r := c.request; r.GetFromHeight() != 7 || r.GetView() != ledgerv1.StreamView_STREAM_VIEW_FULL || !r.GetStopAtHead() {
		t.Errorf("asked for %v", r)
	}
	if c.context.Err() == nil {
		t.Error("the stream was left open")
	}
}

// A leaf whose bytes were withheld cannot be replayed.
func TestReplicaWithoutBytesIsAnError(t *testing.T) {
	_, _, h := leaves(t)
	r := response(0, nil, h)
	r.Leaves = append([]*ledgerv1.Leaf{{Content: &ledgerv1.Leaf_Hash{Hash: make([]byte, 32)}}}, r.Leaves...)
	if blocks, err := collect(&client{blocks: []*ledgerv1.StreamBlocksResponse{r}, ending: io.EOF}, 0); err == nil || len(blocks) != 0 {
		t.Errorf("%d blocks, error %v", len(blocks), err)
	}
}

// An auditor that stops early ends the stream.
func TestReplicaStopsWithTheAuditor(t *testing.T) {
	_, _, h := leaves(t)
	c := &client{blocks: []*ledgerv1.StreamBlocksResponse{response(0, nil, h), response(1, nil, h)}, ending: io.EOF}
	for b, err := range Replica(c).Blocks(t.Context(), 0) {
		if b == nil || err != nil {
			t.Fatal(b, err)
		}
		break
	}
	if c.context.Err() == nil {
		t.Error("the stream was left open")
	}
}

// What a replica of the test network would stream is audited without findings
// as far as the ledger goes.
func TestReplicaOfASoundLedger(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	c := &client{ending: io.EOF}
	for height := uint64(0); height <= n.Store.Head().Height; height++ {
		ref, _, err := n.Store.Block(height)
		if err != nil {
			t.Fatal(err)
		}
		c.blocks = append(c.blocks, response(height, nil, n.Store.Leaves[ref.FirstIndex:ref.Size]...))
		c.blocks[height].Certificate = nil
	}
	report, err := audit.Run(t.Context(), Replica(c), audit.Options{LedgerOnly: true})
	if err != nil || report.TreeSize != uint64(len(n.Store.Leaves)) {
		t.Fatalf("%v, %d of %d leaves", err, report.TreeSize, len(n.Store.Leaves))
	}
	for _, f := range report.Findings {
		if f.Kind != audit.Uncertified {
			t.Errorf("%v", f)
		}
	}
}

func collect(c *client, from uint64) (blocks []*audit.Block, err error) {
	for b, e := range Replica(c).Blocks(context.Background(), from) {
		if e != nil {
			return blocks, e
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

func equal(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) || !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Package ledgertest is a ledger for the tests of its clients: the real
// transition over a network in memory (core/state/statetest), served over gRPC
// and TLS on loopback by as many replicas as a test wants. A replica can refuse,
// stall, lie and go away.
//
// Source: proto/lacre/ledger/v1; package statetest.
//
// It shows no Raft and makes no receipts: what it gives as one is a text that
// names the leaf.
package ledgertest

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

// Ledger is one ledger, whichever replica is asked.
type Ledger struct {
	mu           sync.Mutex // guards all
	network      *statetest.Network
	certificates [][]byte      // by height
	changed      chan struct{} // closed when there are more
}

// New makes a ledger with its genesis block.
func New(t testing.TB, o statetest.Options) *Ledger {
	t.Helper()
	l := &Ledger{network: statetest.New(t, o), changed: make(chan struct{})}
	l.Do(func(*statetest.Network) {})
	return l
}

// Do changes the network under the ledger's lock; new blocks are certified by
// the replicas in force and these others.
func (l *Ledger) Do(change func(n *statetest.Network), others ...statetest.Replica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l.network)
	l.certify(others...)
}

func (l *Ledger) certify(others ...statetest.Replica) {
	for height := uint64(len(l.certificates)); height <= l.network.Store.Head().Height; height++ {
		var replicas []statetest.Replica
		if len(others) > 0 {
			replicas = append(append(replicas, others...), l.network.Replicas...)
		}
		l.certificates = append(l.certificates, l.network.Certificate(height, replicas...))
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// Height is the newest block's.
func (l *Ledger) Height() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.network.Store.Head().Height
}

// Leaves are all records but headers, decoded.
func (l *Ledger) Leaves() []*recordv1.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var leaves []*recordv1.Record
	for _, b := range l.network.Store.Leaves {
		if r, err := record.Parse(b); err == nil && r.GetBlockHeader() == nil {
			leaves = append(leaves, r)
		}
	}
	return leaves
}

// Measurements are those on the ledger.
func (l *Ledger) Measurements() []*recordv1.Measurement {
	var found []*recordv1.Measurement
	for _, r := range l.Leaves() {
		if m := r.GetMeasurement(); m != nil {
			found = append(found, m)
		}
	}
	return found
}

// Block is what a replica streams at a height that there is; it is the caller's.
func (l *Ledger) Block(height uint64) *ledgerv1.StreamBlocksResponse {
	l.mu.Lock()
	defer l.mu.Unlock()
	return proto.Clone(l.view(height, false)).(*ledgerv1.StreamBlocksResponse) //nolint:errcheck,forcetypeassert // a clone has its original's type.
}

// Events are the reports on the ledger.
func (l *Ledger) Events(t testing.TB) []*recordv1.EventReport {
	t.Helper()
	var reports []*recordv1.EventReport
	for _, r := range l.Leaves() {
		if e := r.GetSecurityEvent(); e != nil {
			report := new(recordv1.EventReport)
			if err := record.Decode(e.GetReport(), record.MaxBytes, report); err != nil {
				t.Fatal(err)
			}
			reports = append(reports, report)
		}
	}
	return reports
}

// AwaitEvents returns when there are n events or ctx ends.
func (l *Ledger) AwaitEvents(ctx context.Context, t testing.TB, n int) []*recordv1.EventReport {
	t.Helper()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if events := l.Events(t); len(events) >= n {
			return events
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d events on the ledger, want %d: %v", len(l.Events(t)), n, ctx.Err())
		}
	}
}

// TLS registers a node's TLS key on the ledger and returns the node's identity.
func (l *Ledger) TLS(t testing.TB, node statetest.Node) *identity.Node {
	t.Helper()
	own, err := identity.NewNode(TLSKey(node.ID))
	if err != nil {
		t.Fatal(err)
	}
	l.Do(func(n *statetest.Network) {
		header := n.Header(record.SubjectNode(node.ID))
		spki := own.SPKI()
		registration := n.Registration(node, header.GetSequence(), [32]byte{})
		registration.Header, registration.TlsSpki = header, spki[:]
		n.Accept(n.Sign(registration, statetest.Root(node.Organisation), node.Key))
	})
	return own
}

// TLSKey is the TLS key of a name.
func TLSKey(name string) ed25519.PrivateKey { return statetest.Key("tls/" + name) }

// Replica serves a ledger. Its hooks are set before it is asked.
type Replica struct {
	ledgerv1.UnimplementedLedgerServiceServer
	Address string
	SPKI    string // hexadecimal
	Stop    func() // goes away, at once; also when the test ends

	Exaggerate uint64 // added to the height in GetStatus

	ledger *Ledger
	gone   <-chan struct{}
	// OnBlock may change a block of a stream before it is sent, or refuse to go on.
	OnBlock func(block *ledgerv1.StreamBlocksResponse) error
	// OnStatus is asked before GetStatus is answered; its error is the answer.
	OnStatus func(ctx context.Context) error
	// OnSubmit is asked before a submission is decided; its error is the answer.
	OnSubmit func(ctx context.Context, request *ledgerv1.SubmitRequest) error
	// OnAnswer may change the answer to a submission that was decided, or lose it.
	OnAnswer func(response *ledgerv1.SubmitResponse) error
}

// Serve starts a replica; configure sets its hooks.
func (l *Ledger) Serve(t testing.TB, name string, configure ...func(*Replica)) *Replica {
	t.Helper()
	node, err := identity.NewNode(TLSKey(name))
	if err != nil {
		t.Fatal(err)
	}
	r := &Replica{ledger: l}
	for _, f := range configure {
		f(r)
	}
	allow := rpcserver.Allow{}
	allow.AllowService(&ledgerv1.LedgerService_ServiceDesc, identity.RolePublic)
	server, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0", MaxMessageBytes: 64 << 20},
		rpcserver.Options{Node: node, Allow: allow, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ledgerv1.RegisterLedgerServiceServer(server, r)
	spki := node.SPKI()
	r.Address, r.SPKI = server.Addr().String(), hex.EncodeToString(spki[:])
	ctx, cancel := context.WithCancel(context.Background())
	r.gone = ctx.Done()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := server.Run(ctx); err != nil {
			t.Errorf("replica %s: %v", name, err)
		}
	}()
	r.Stop = sync.OnceFunc(func() { cancel(); <-stopped })
	t.Cleanup(r.Stop)
	return r
}

// GetStatus tells the newest height and a leader, and no more.
func (r *Replica) GetStatus(ctx context.Context, _ *ledgerv1.GetStatusRequest) (*ledgerv1.GetStatusResponse, error) {
	if r.OnStatus != nil {
		if err := r.OnStatus(ctx); err != nil {
			return nil, err
		}
	}
	return &ledgerv1.GetStatusResponse{CertifiedHeight: r.ledger.Height() + r.Exaggerate, Leader: "replica-00"}, nil
}

// Submit decides as a leader does: what would leave nothing makes no block.
func (r *Replica) Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	if r.OnSubmit != nil {
		if err := r.OnSubmit(ctx, request); err != nil {
			return nil, err
		}
	}
	response, err := r.ledger.submit(request)
	if err == nil && r.OnAnswer != nil {
		err = r.OnAnswer(response)
	}
	return response, err
}

func (l *Ledger) submit(request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.network.Begin()
	outcomes, err := b.Submit(statetest.Parse(request.GetRecords(), request.GetRawVectors()))
	if err != nil {
		return nil, err
	}
	response := &ledgerv1.SubmitResponse{}
	accepted := false
	for i, o := range outcomes {
		accepted = accepted || o.Accepted
		answer := &ledgerv1.RecordOutcome{Accepted: o.Accepted, Index: o.Index, Reason: string(o.Reason), Detail: o.Detail}
		if i > 0 && (o.Accepted || o.Reason == reason.Duplicate) {
			answer.Receipt = Receipt(o.Index)
		}
		response.Outcomes = append(response.Outcomes, answer)
	}
	if accepted {
		l.network.Apply(b)
		l.certify()
	}
	response.CertifiedHeight = l.network.Store.Head().Height
	return response, nil
}

// Receipt is what stands for the receipt of a leaf.
func Receipt(index uint64) []byte { return fmt.Appendf(nil, "receipt of leaf %d", index) }

// StreamBlocks gives the administrative view, or every record, with every certificate.
func (r *Replica) StreamBlocks(request *ledgerv1.StreamBlocksRequest, stream grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error {
	for height := request.GetFromHeight(); ; height++ {
		block, err := r.block(stream.Context(), height, request.GetView() == ledgerv1.StreamView_STREAM_VIEW_RECORDS)
		if err != nil {
			return err
		}
		if r.OnBlock != nil {
			if err := r.OnBlock(block); err != nil {
				return err
			}
		}
		if err := stream.Send(block); err != nil {
			return err
		}
	}
}

func (r *Replica) block(ctx context.Context, height uint64, full bool) (*ledgerv1.StreamBlocksResponse, error) {
	l := r.ledger
	for {
		l.mu.Lock()
		changed := l.changed
		var view *ledgerv1.StreamBlocksResponse
		if height < uint64(len(l.certificates)) {
			view = l.view(height, full)
		}
		l.mu.Unlock()
		if view != nil {
			return view, nil
		}
		select {
		case <-changed:
		case <-r.gone:
			return nil, reason.New(reason.NotReady, "the replica is stopping")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *Ledger) view(height uint64, full bool) *ledgerv1.StreamBlocksResponse {
	block := &ledgerv1.StreamBlocksResponse{Height: height, Certificate: l.certificates[height]}
	for _, leaf := range l.network.Store.BlockLeaves(height) {
		r, err := record.Parse(leaf)
		if !full && err == nil && r.GetStatement() == nil && r.GetBlockHeader() == nil {
			hash := tlog.LeafHash(leaf)
			block.Leaves = append(block.Leaves, &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Hash{Hash: hash[:]}})
			continue
		}
		block.Leaves = append(block.Leaves, &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: leaf}})
	}
	return block
}

// Package follower keeps the administrative state of the certified ledger in
// memory: meters, algorithms, nodes and the configuration. Compute, ingest and
// approval trust nothing else.
//
// Source: architecture, "The path of one measurement" step 3 ("follows certified
// administrative records"), rules C4, C6 and S6.
//
// Invariants:
//   - Nothing is published before a certificate by the quorum in force covers
//     it: a replica that feeds forged or withheld records is found by the tree's
//     root, by the running digest in the header, or by the missing quorum, and
//     the next replica is asked.
//   - The state comes from the ledger's one transition (core/state), from the
//     genesis block on; the genesis block is pinned by the network id.
//   - A Snapshot never changes.
//
// Known holes: a follower begins at the genesis block at every start and holds
// the administrative state in memory, so its start takes time in proportion to
// the ledger (32 bytes for each measurement). A replica can withhold the newest
// blocks: freshness is what the block time shows, no more.
package follower

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/registry"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// Endpoint is where a replica is, and its TLS key.
type Endpoint struct {
	Address string `yaml:"address" doc:"host:port of the replica's gRPC server"`
	SPKI    string `yaml:"spki" doc:"SHA-256 of its TLS key's SubjectPublicKeyInfo, in hexadecimal"`
}

// Config says which ledger is followed, and where.
type Config struct {
	NetworkID string     `yaml:"network_id" doc:"digest of the genesis configuration, in hexadecimal: the root of all trust"`
	Replicas  []Endpoint `yaml:"replicas" doc:"replicas to ask, in order of preference"`
}

// Validate reports every wrong field.
func (c *Config) Validate() error {
	var failures []error
	if _, err := digest.Parse(c.NetworkID); err != nil {
		failures = append(failures, fmt.Errorf("network_id: %w", err))
	}
	if len(c.Replicas) == 0 {
		failures = append(failures, errors.New("replicas: at least one is needed"))
	}
	for i, r := range c.Replicas {
		if _, err := digest.Parse(r.SPKI); err != nil {
			failures = append(failures, fmt.Errorf("replicas[%d].spki: %w", i, err))
		}
	}
	return errors.Join(failures...)
}

// maxMessageBytes is a block of many records.
const maxMessageBytes = 64 << 20

const (
	retryAfter = 300 * time.Millisecond
	cacheSize  = 1 << 12
)

// Follower follows one ledger. Make it with New, drive it with Run; the other
// methods may be called from any goroutine.
type Follower struct {
	networkID   digest.Digest
	connections []*grpc.ClientConn
	clients     []ledgerv1.LedgerServiceClient
	preferred   atomic.Int64 // index of the replica that answered last
	log         *slog.Logger
	snapshot    atomic.Pointer[Snapshot]
	changed     atomic.Pointer[chan struct{}]
}

// New prepares connections; node is this process's TLS identity, or nil for an
// anonymous reader.
func New(c Config, node *identity.Node, log *slog.Logger) (*Follower, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	networkID, err := digest.Parse(c.NetworkID)
	if err != nil {
		return nil, err
	}
	f := &Follower{networkID: networkID, log: log}
	changed := make(chan struct{})
	f.changed.Store(&changed)
	for _, r := range c.Replicas {
		spki, err := digest.Parse(r.SPKI)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		connection, err := rpcclient.Dial(r.Address, rpcclient.Options{Node: node, Server: identity.Pin(identity.SPKI(spki)), MaxMessageBytes: maxMessageBytes, Logger: log})
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.connections = append(f.connections, connection)
		f.clients = append(f.clients, ledgerv1.NewLedgerServiceClient(connection))
	}
	return f, nil
}

// Close ends all connections.
func (f *Follower) Close() error {
	var failures []error
	for _, c := range f.connections {
		failures = append(failures, c.Close())
	}
	return errors.Join(failures...)
}

// NetworkID is the identity of the ledger that is followed.
func (f *Follower) NetworkID() digest.Digest { return f.networkID }

// Snapshot is the newest certified state. The error is NOT_READY before the
// first.
func (f *Follower) Snapshot() (*Snapshot, error) {
	if s := f.snapshot.Load(); s != nil {
		return s, nil
	}
	return nil, rpcerror.With(reason.New(reason.NotReady, "the certified ledger is not read yet"), rpcerror.RetryAfter(retryAfter))
}

// Registry tells who holds a TLS key, from the newest certified state (rule N1).
func (f *Follower) Registry() identity.Registry {
	return registry.Of(func() (state.View, uint64) {
		s := f.snapshot.Load()
		if s == nil {
			return nil, 0
		}
		return s, s.head.Size
	}, f.log)
}

// Wait returns the first snapshot at or above a height.
func (f *Follower) Wait(ctx context.Context, height uint64) (*Snapshot, error) {
	for {
		changed := *f.changed.Load()
		if s := f.snapshot.Load(); s != nil && s.head.Height >= height {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, reason.New(reason.NotReady, "certified block %d is not followed yet: %v", height, ctx.Err())
		}
	}
}

func (f *Follower) publish(s *Snapshot) {
	f.snapshot.Store(s)
	next := make(chan struct{})
	close(*f.changed.Swap(&next))
}

// Run follows until ctx ends, asking another replica whenever one fails.
func (f *Follower) Run(ctx context.Context) error {
	chain := newChain(f.networkID, signature.NewCache(cacheSize))
	for ctx.Err() == nil {
		i := int(f.preferred.Load()) % len(f.clients)
		err := f.follow(ctx, f.clients[i], chain)
		if ctx.Err() != nil {
			break
		}
		f.log.WarnContext(ctx, "replica does not serve the ledger, trying the next", "replica", f.connections[i].Target(), "error", err)
		chain.forget()
		f.preferred.CompareAndSwap(int64(i), int64((i+1)%len(f.clients)))
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (f *Follower) follow(ctx context.Context, client ledgerv1.LedgerServiceClient, chain *chain) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{FromHeight: chain.next(), View: ledgerv1.StreamView_STREAM_VIEW_ADMINISTRATIVE})
	if err != nil {
		return err
	}
	for {
		block, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("the stream ended")
		}
		if err != nil {
			return err
		}
		snapshot, err := chain.add(block)
		if err != nil {
			return err
		}
		if snapshot != nil {
			f.publish(snapshot)
		}
	}
}

// Submit hands a submission to the ledger: to the replica that answered last,
// then to the others, while no leader is known.
func (f *Follower) Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	first := int(f.preferred.Load())
	var last error
	for i := range f.clients {
		response, err := f.clients[(first+i)%len(f.clients)].Submit(ctx, request)
		if err == nil {
			return response, nil
		}
		last = err
		if why := reason.Of(err); why != "" && why != reason.NotLeader && why != reason.NotReady || ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, last
}

// Report signs a security event and submits it. An event that is on the ledger
// already gives ALREADY_REPORTED.
func (f *Follower) Report(ctx context.Context, signer crypto.Signer, report *recordv1.EventReport) error {
	kind, err := sample.KindOf(signer.Public())
	if err != nil {
		return err
	}
	leaf, err := record.SignEvent(signer, kind, report)
	if err != nil {
		return err
	}
	response, err := f.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
	if err != nil {
		return err
	}
	if o := response.GetOutcomes()[0]; !o.GetAccepted() {
		return &reason.Error{Reason: reason.Reason(o.GetReason()), Detail: o.GetDetail()}
	}
	return nil
}

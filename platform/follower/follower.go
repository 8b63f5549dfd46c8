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
//     genesis block on; the genesis block is pinned by the network id. What was
//     verified once is kept in a file, and a start goes on from there (keeper):
//     whatever follows must extend it under certificates. A file that is damaged,
//     of another network or of another version is not used at all.
//   - A Snapshot never changes.
//   - No replica can hold a follower: one that fails, lies or stays quiet is left
//     for the next one.
//
// Known holes: a follower holds the administrative state in memory, and its first
// start takes time in proportion to the ledger (32 bytes for each measurement).
// The kept file is as trustworthy as the directory where it lies, like the
// configuration beside it, which pins the network: headers bind no digest of the
// whole state, so only a replay from the genesis block could tell a state that
// somebody forged there. All replicas together can withhold the newest blocks:
// freshness is what the block time shows, no more.
package follower

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/registry"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/platform/tracing"
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
	State     string     `yaml:"state" doc:"file in which the verified state is kept, so that a start goes on from there; empty: every start reads the ledger from its genesis block"`
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
	// quietAfter is how long a replica may send no block before the next one is
	// asked. An idle ledger is quiet too; then this costs one stream.
	quietAfter = 10 * time.Second
	// probeAfter is how long no block may come before the replica is asked how it
	// is, again and again: one that does not say within statusTimeout is gone, and a
	// connection to it would not end by itself for long.
	probeAfter    = 2 * time.Second
	statusTimeout = 2 * time.Second
)

// errSilent is a machine that is gone, or behind a network that drops what is sent.
var errSilent = errors.New("no block came, and it does not say how it is")

// errQuiet is not the replica's fault.
var errQuiet = errors.New("no block came for a while")

// Follower follows one ledger. Make it with New, drive it with Run; the other
// methods may be called from any goroutine.
type Follower struct {
	networkID   digest.Digest
	connections []*grpc.ClientConn
	clients     []ledgerv1.LedgerServiceClient
	spkis       []identity.SPKI // of the replicas, as configured
	registry    identity.Registry
	away        []away       // of each replica
	preferred   atomic.Int64 // index of the replica that is followed
	leading     atomic.Int64 // index of the replica to hand submissions to; or unknown
	log         *slog.Logger
	quiet       time.Duration // quietAfter but in tests
	doubt       time.Duration // doubtAfter but in tests
	ping        time.Duration // pingTimeout but in tests
	patience    time.Duration // submitTimeout but in tests
	probe       time.Duration // probeAfter but in tests
	snapshot    atomic.Pointer[Snapshot]
	changed     atomic.Pointer[chan struct{}]
	keeper      *keeper
}

// unknown is the index of no replica.
const unknown = -1

// Option changes what New makes.
type Option func(*rpcclient.Options)

// WithTraces lets submissions carry the trace that they belong to.
func WithTraces(t *tracing.Traces) Option { return func(o *rpcclient.Options) { o.Traces = t } }

// New prepares connections; node is this process's TLS identity, or nil for an
// anonymous reader.
func New(c Config, node *identity.Node, log *slog.Logger, options ...Option) (*Follower, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	networkID, err := digest.Parse(c.NetworkID)
	if err != nil {
		return nil, err
	}
	f := &Follower{networkID: networkID, log: log, quiet: quietAfter, doubt: doubtAfter, ping: pingTimeout, patience: submitTimeout, probe: probeAfter, keeper: newKeeper(c.State, networkID, log), away: make([]away, len(c.Replicas))}
	changed := make(chan struct{})
	f.changed.Store(&changed)
	f.leading.Store(unknown)
	f.registry = registry.Of(f.certified, log)
	for _, r := range c.Replicas {
		spki, err := digest.Parse(r.SPKI)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		dial := rpcclient.Options{Node: node, Server: identity.Pin(identity.SPKI(spki)), MaxMessageBytes: maxMessageBytes, Logger: log}
		for _, option := range options {
			option(&dial)
		}
		connection, err := rpcclient.Dial(r.Address, dial)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.spkis = append(f.spkis, identity.SPKI(spki))
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
func (f *Follower) Registry() identity.Registry { return f.registry }

func (f *Follower) certified() (view state.View, size uint64, admin digest.Digest) {
	s := f.snapshot.Load()
	if s == nil {
		return nil, 0, digest.Zero
	}
	return s, s.head.Size, s.head.Admin
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

// CatchUp returns when the follower is where the ledger was when it was asked:
// then a node is ready. The height is a replica's word, so one that exaggerates
// is asked no longer than one that is quiet.
func (f *Follower) CatchUp(ctx context.Context) error {
	for ctx.Err() == nil {
		status, err := f.status(ctx, f.clients[f.preferred.Load()])
		if err == nil {
			wait, cancel := context.WithTimeout(ctx, f.quiet)
			_, err = f.Wait(wait, status.GetCertifiedHeight())
			cancel()
			if err == nil {
				return nil
			}
		}
		f.log.WarnContext(ctx, "the certified height is not followed yet", "error", err)
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// status asks a replica where it stands, as one that is there can say at once.
func (f *Follower) status(ctx context.Context, client ledgerv1.LedgerServiceClient) (*ledgerv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return client.GetStatus(ctx, &ledgerv1.GetStatusRequest{})
}

// watch ends a stream whose replica is gone: it asks whenever nothing was heard for
// a while.
func (f *Follower) watch(ctx context.Context, client ledgerv1.LedgerServiceClient, heard *atomic.Bool, end context.CancelCauseFunc) {
	ticker := time.NewTicker(f.probe)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if heard.Swap(false) {
			continue
		}
		if _, err := f.status(ctx, client); err != nil && !heard.Load() {
			end(fmt.Errorf("%w: %w", errSilent, err))
			return
		}
	}
}

func (f *Follower) publish(s *Snapshot) {
	f.snapshot.Store(s)
	next := make(chan struct{})
	close(*f.changed.Swap(&next))
}

// refusedError is what a replica served and the chain refused.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// Run follows until ctx ends, asking another replica whenever one fails or has
// nothing to say. It ends with an error of reason.UnsupportedVersion when the
// certified configuration names a record version that this code does not know.
func (f *Follower) Run(ctx context.Context) error {
	chain := newChain(f.networkID, signature.NewCache(cacheSize))
	f.keeper.load(ctx, chain)
	kept := chain.certified // nothing was certified above it yet; nil when it is not used or confirmed
	if kept != nil {
		f.publish(kept)
		if err := state.CheckVersion(kept); err != nil {
			return err
		}
	}
	defer func() { f.keeper.finish(ctx, chain) }()
	contradicted := make(map[int]bool) // replicas that served what does not extend the kept state
	for ctx.Err() == nil {
		i := int(f.preferred.Load())
		err := f.follow(ctx, f.clients[i], chain)
		if ctx.Err() != nil {
			break
		}
		if snapshot := f.snapshot.Load(); snapshot != nil {
			if err := state.CheckVersion(snapshot); err != nil {
				return err // certified: another replica would say the same
			}
		}
		chain.forget()
		f.preferred.Store(int64((i + 1) % len(f.clients)))
		if errors.Is(err, errQuiet) {
			continue
		}
		f.log.WarnContext(ctx, "replica does not serve the ledger, trying the next", "replica", f.connections[i].Target(), "error", err)
		if chain.certified != kept {
			kept = nil
		}
		if refused := (*refusedError)(nil); kept != nil && errors.As(err, &refused) {
			contradicted[i] = true
			if liars := (len(f.clients) - 1) / 3; len(contradicted) > liars { // one of them is honest
				chain, kept = f.discard(ctx, chain), nil
			}
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// discard begins again at the genesis block: more replicas contradict the kept
// state than may lie. Its head was certified when it was kept, so what is read now
// must come by it; a ledger that does not is another history, and not followed.
func (f *Follower) discard(ctx context.Context, c *chain) *chain {
	head := c.certified.head
	f.log.ErrorContext(ctx, "replicas serve a ledger that does not extend the kept state, which is not used any more; the ledger is read from its genesis block",
		"height", head.Height, "root", head.Root.String())
	f.snapshot.Store(nil)
	f.keeper.started.Store(0)
	f.keeper.height.Store(head.Height) // from there on a state replaces it
	again := newChain(f.networkID, c.verifier)
	again.pin = &head
	return again
}

// follow reads one replica's stream until it ends, lies or falls quiet.
func (f *Follower) follow(ctx context.Context, client ledgerv1.LedgerServiceClient, chain *chain) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(f.quiet, func() { cancel(errQuiet) })
	defer quiet.Stop()
	var heard atomic.Bool
	go f.watch(ctx, client, &heard, cancel)
	stream, err := client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{FromHeight: chain.next(), View: ledgerv1.StreamView_STREAM_VIEW_ADMINISTRATIVE})
	for err == nil {
		var block *ledgerv1.StreamBlocksResponse
		if block, err = stream.Recv(); err != nil {
			break
		}
		heard.Store(true)
		var snapshot *Snapshot
		if snapshot, err = chain.add(block); err != nil {
			return &refusedError{err}
		}
		if snapshot != nil {
			f.publish(snapshot)
			f.keeper.offer(ctx, chain)
			if err := state.CheckVersion(snapshot); err != nil {
				return err
			}
			quiet.Reset(f.quiet) // blocks alone do not count: they cost a liar nothing
		}
	}
	switch {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return errors.New("the stream ended")
	}
	return err
}

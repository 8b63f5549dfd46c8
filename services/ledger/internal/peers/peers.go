// Package peers is this replica's side of ReplicaService: it hands cosignatures
// to the other replicas, forwards submissions to the leader, asks for positions
// (rule C7) and fetches blocks.
//
// Source: architecture, rules C3, C7 and N1.
//
// Invariants:
//   - A peer is the TLS key that the ledger registered for its node id, or the
//     one that the configuration pins until the ledger knows the node; the
//     address is local configuration and carries no trust.
//   - Cosignatures are pushed from one goroutine for each peer, with a bounded
//     queue whose oldest entry gives way: a newer cosignature covers it.
package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/reason"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/tracing"
)

// Peer is another replica.
type Peer struct {
	NodeID  string
	Address string         // host:port of its gRPC server
	Check   identity.Check // judges its server's key
}

// Peers are the other replicas. It is safe for concurrent use.
type Peers struct {
	node            *identity.Node
	maxMessageBytes int
	traces          *tracing.Traces
	log             *slog.Logger

	mu      sync.RWMutex
	peers   map[string]*peer // by node id; replaced whole by Set
	running context.Context  // of Run; nil before
	pushing sync.WaitGroup
}

type peer struct {
	id, address string
	connection  *grpc.ClientConn
	client      replicav1.ReplicaServiceClient
	cosign      chan *replicav1.CosignRequest
	gone        chan struct{} // closed when it is no peer any more
}

// New prepares connections; nothing is sent before Run or a call. A nil traces
// is none.
func New(list []Peer, node *identity.Node, maxMessageBytes int, traces *tracing.Traces, log *slog.Logger) (*Peers, error) {
	p := &Peers{node: node, maxMessageBytes: maxMessageBytes, traces: traces, log: log, peers: map[string]*peer{}}
	if err := p.Set(list); err != nil {
		return nil, err
	}
	return p, nil
}

// Set makes these the peers: those that stay where they are keep their
// connection. After an error nothing has changed.
func (p *Peers) Set(list []Peer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[string]*peer, len(list))
	var added []*peer
	for _, each := range list {
		if known := p.peers[each.NodeID]; known != nil && known.address == each.Address {
			next[each.NodeID] = known
			continue
		}
		connection, err := rpcclient.Dial(each.Address, rpcclient.Options{
			Node: p.node, Server: each.Check, MaxMessageBytes: p.maxMessageBytes, Logger: p.log, Traces: p.traces,
		})
		if err != nil {
			for _, other := range added {
				err = errors.Join(err, other.connection.Close())
			}
			return fmt.Errorf("peer %s: %w", each.NodeID, err)
		}
		next[each.NodeID] = &peer{
			id: each.NodeID, address: each.Address, connection: connection,
			client: replicav1.NewReplicaServiceClient(connection),
			cosign: make(chan *replicav1.CosignRequest, MaxCosignatures), gone: make(chan struct{}),
		}
		added = append(added, next[each.NodeID])
	}
	var failures []error
	for id, old := range p.peers {
		if next[id] != old {
			close(old.gone)
			failures = append(failures, old.connection.Close())
		}
	}
	p.peers = next
	if p.running != nil && p.running.Err() == nil {
		for _, each := range added {
			p.pushing.Go(func() { p.push(p.running, each) })
		}
	}
	if err := errors.Join(failures...); err != nil {
		p.log.Warn("closing the connection to a former peer", "error", err)
	}
	return nil
}

// all are the present peers.
func (p *Peers) all() map[string]*peer {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.peers
}

// Close ends all connections.
func (p *Peers) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failures []error
	for _, each := range p.peers {
		failures = append(failures, each.connection.Close())
	}
	p.peers = map[string]*peer{}
	return errors.Join(failures...)
}

// Run pushes cosignatures until ctx ends.
func (p *Peers) Run(ctx context.Context) error {
	p.mu.Lock()
	p.running = ctx
	for _, each := range p.peers {
		p.pushing.Go(func() { p.push(ctx, each) })
	}
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock() // Set starts nothing any more
	defer p.mu.Unlock()
	p.pushing.Wait()
	return ctx.Err()
}

// Forward hands a submission to the leader.
func (p *Peers) Forward(ctx context.Context, leader string, submit *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	to, ok := p.all()[leader]
	if !ok {
		return nil, reason.New(reason.NotLeader, "the leader %q has no address here", leader)
	}
	response, err := to.client.Forward(ctx, &replicav1.ForwardRequest{Submit: submit})
	return response.GetSubmit(), err
}

// Positions asks all peers at once and returns the answers of those that gave
// one before ctx ended, by node id, and why the others gave none. Once what came
// is enough it waits for the rest no longer than patience: one that is silent,
// because its machine is gone or cut off, would hold up all of ctx. A nil enough
// waits for all.
func (p *Peers) Positions(ctx context.Context, enough func(map[string]*replicav1.PositionResponse) bool, patience time.Duration) (map[string]*replicav1.PositionResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of those that still owe an answer
	type answer struct {
		id       string
		position *replicav1.PositionResponse
		err      error
	}
	all := p.all()
	given := make(chan answer, len(all))
	for _, each := range all {
		go func() {
			position, err := each.client.Position(ctx, &replicav1.PositionRequest{})
			given <- answer{each.id, position, err}
		}()
	}
	answers := make(map[string]*replicav1.PositionResponse)
	var failures []error
	var last <-chan time.Time // nil until enough came
	for range all {
		select {
		case a := <-given:
			if a.err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", a.id, a.err))
				continue
			}
			answers[a.id] = a.position
		case <-last:
			return answers, errors.Join(failures...)
		}
		if last == nil && enough != nil && enough(answers) {
			last = time.After(patience)
		}
	}
	return answers, errors.Join(failures...)
}

// Fetch streams blocks from one peer after the other until take has had the
// last. from says before each peer which block is due first. take verifies; an
// error of take ends the stream from that peer.
func (p *Peers) Fetch(ctx context.Context, from func() uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	var failures []error
	for id, each := range p.all() {
		next := from()
		err := fetch(ctx, each, &next, to, take)
		if err == nil && next > to {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("the stream ended before block %d", next)
		}
		failures = append(failures, fmt.Errorf("from %s: %w", id, err))
	}
	return fmt.Errorf("blocks up to %d could not be fetched: %w", to, errors.Join(failures...))
}

func fetch(ctx context.Context, from *peer, next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := from.client.FetchBlocks(ctx, &replicav1.FetchBlocksRequest{FromHeight: *next, ToHeight: to})
	if err != nil {
		return err
	}
	for {
		block, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if block.GetHeight() != *next {
			return fmt.Errorf("block %d came, block %d was due", block.GetHeight(), *next)
		}
		if err := take(block); err != nil {
			return err
		}
		*next++
	}
}

// Package raft orders entries with hashicorp/raft over raft-wal.
//
// Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), as
// implemented by github.com/hashicorp/raft v1.7.3; architecture, rules R0 to R5;
// hashicorp/raft#695, #503, #612, #614; rqlite#2747, #2759.
//
// Invariants:
//   - R0: a message counts as the node's whose certificate its connection
//     showed, or not at all; no snapshot moves the Applier backwards.
//   - R1: heartbeats are handled on the library's main goroutine only.
//   - R2: the log keeps every applied entry until a snapshot covers it, and
//     another entry at an applied index stops the node with DATA_LOSS.
//   - R3: a write to the log that hangs ends the process.
//   - R4: what was applied is asked of the Applier, never of Raft.
//   - R5: connections are mutual TLS 1.3 between registered replicas.
//   - A first configuration is written by Bootstrap alone, never by Open.
//
// What this does not give: progress while the leader or a majority is
// Byzantine, and a correct Raft membership against a Byzantine leader. Rules
// C1 to C3 keep the ledger safe then; it may stand still.
//
// Known holes. The library handles messages by one goroutine, so a disk that is
// slow, but not beyond the deadline, delays heartbeats: Timing must allow for
// it. A follower with a tail that contradicts a received snapshot keeps that
// tail's end in memory and goes on only after a restart (the library does not
// reset its last log index). Messages are decoded before they are checked, so a
// registered replica can make another one allocate memory.
package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// maxEnqueue bounds the wait for room in the library's queue when the caller's
// context allows longer.
const maxEnqueue = 5 * time.Second

// Engine is an ordering.Orderer.
type Engine struct {
	config    Config
	raft      *hraft.Raft
	transport *transport
	machine   *machine
	log       sealedLog
	news      bulletin // for senders: pipeline.go

	handsOver atomic.Bool // the lead, just now

	members sync.Mutex // held by SetMembers

	failed   chan struct{} // closed by fail
	failure  error         // valid after failed
	failOnce sync.Once

	closing   context.Context // ends when Close begins
	beginStop context.CancelFunc
	stopped   context.Context // ends when nothing is applied any more
	endStop   context.CancelFunc
	closeOnce sync.Once
	closeErr  error

	watchMu sync.Mutex
	watched map[chan struct{}]struct{}
}

var _ ordering.Orderer = (*Engine)(nil)

// Open starts the engine on its directory: an empty one for a replica that is
// to be added, or one that Bootstrap or an earlier life left. It restores a
// pointer first where a crash came in between, hence ctx, and hence the
// Applier's way to its peers must be open. Call Run afterwards. Errors:
// reason.DataLoss when log, snapshots and Applier do not fit together.
func Open(ctx context.Context, config Config) (*Engine, error) {
	return open(ctx, config, builtSeams())
}

// seams are the places where tests, and the robustness suite's own build, reach
// into an engine.
type seams struct {
	log     func(logStore) logStore                // put below the guard
	arrived func(peer string, rpc hraft.RPC) error // sees each message before the check; an error refuses it
	opened  func(*Engine)                          // before Open returns
	network func(*transport) hraft.Transport       // what the library is given in the transport's place
	// sending sees entries before they leave, and gives what leaves.
	sending func(e *Engine, peer string, m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest
}

func open(ctx context.Context, config Config, seams seams) (_ *Engine, err error) {
	config, err = config.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{config: config, failed: make(chan struct{}), watched: make(map[chan struct{}]struct{})}
	e.closing, e.beginStop = context.WithCancel(context.Background())
	e.stopped, e.endStop = context.WithCancel(context.Background())

	var snapshots *pointerStore
	if e.log, snapshots, err = openStores(config.Dir, config.Logger); err != nil {
		return nil, fmt.Errorf("raft: open %s: %w", config.Dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if err = recoverState(ctx, e.log, snapshots, config.Applier); err != nil {
		return nil, fmt.Errorf("raft: open %s: %w", config.Dir, err)
	}

	var store logStore = e.log
	if seams.log != nil {
		store = seams.log(store)
	}
	guarded := &guardedLog{
		logStore: store,
		applied:  config.Applier.AppliedIndex,
		snapshot: func() (uint64, uint64, error) {
			f, _, err := snapshots.newest()
			return f.Index, f.Term, err
		},
		deadline: config.LogWriteDeadline,
		fatal:    config.Fatal,
		fail:     e.fail,
		stored:   e.news.announce,
	}
	// The cache spares the leader from reading what it just wrote, once for each
	// follower and once for itself.
	cached, err := hraft.NewLogCache(2*config.MaxAppendEntries, guarded)
	if err != nil {
		return nil, err
	}
	e.machine = &machine{applier: config.Applier, store: snapshots, ctx: e.closing, fail: e.fail, committed: e.news.announce}
	ready := make(chan struct{}) // messages wait until e.raft is set
	e.transport = newTransport(config, func(peer string, rpc hraft.RPC) error {
		<-ready
		if seams.arrived != nil {
			if err := seams.arrived(peer, rpc); err != nil {
				return err
			}
		}
		return e.checkRPC(peer, rpc)
	})
	e.transport.lead = lead{
		changed:   e.news.changed,
		handsOver: e.handsOver.Load,
		lastIndex: func() uint64 {
			<-ready
			// The log's own is there before the announcement. It is 0 once compaction
			// has taken all, which the library's is not.
			last, err := guarded.LastIndex()
			if err != nil || e.raft == nil {
				return last
			}
			return max(last, e.raft.LastIndex())
		},
		committed: func(term uint64) (uint64, bool) {
			<-ready
			return e.committed(term)
		},
	}
	if seams.sending != nil {
		e.transport.sending = func(peer string, m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest {
			<-ready
			return seams.sending(e, peer, m)
		}
	}
	network := hraft.Transport(e.transport)
	if seams.network != nil {
		network = seams.network(e.transport)
	}
	e.raft, err = e.start(cached, stableLog{guarded}, snapshots, network)
	guarded.running.Store(true)
	close(ready)
	if err != nil {
		return nil, fmt.Errorf("raft: %w", err)
	}
	e.raft.RegisterObserver(hraft.NewObserver(nil, false, e.observe))
	if seams.opened != nil {
		seams.opened(e)
	}
	return e, nil
}

// start makes the library's part. It panics where it cannot write its term.
func (e *Engine) start(log hraft.LogStore, stable hraft.StableStore, snapshots hraft.SnapshotStore, network hraft.Transport) (_ *hraft.Raft, err error) {
	defer func() {
		select {
		case <-e.failed:
			if recover() != nil {
				err = e.failure
			}
		default: // another panic is a fault of the program
		}
	}()
	return hraft.NewRaft(e.config.engine(), e.machine, log, stable, snapshots, network)
}

// committed is lead.committed. The term is read after the index: while this node
// still leads in it, nobody else can have committed anything in between.
func (e *Engine) committed(term uint64) (index uint64, leads bool) {
	if e.raft == nil {
		return 0, false // NewRaft failed
	}
	index = e.raft.CommitIndex()
	return index, e.raft.CurrentTerm() == term && e.IsLeader()
}

// checkRPC is rule R0's check with what only the running engine knows. That a
// snapshot points backwards is found out here before the library stores it; the
// machine decides, since entries may still be on their way to it.
func (e *Engine) checkRPC(peer string, rpc hraft.RPC) error {
	if e.raft == nil {
		return hraft.ErrTransportShutdown // NewRaft failed
	}
	leader, _ := e.Leader()
	if err := checkRPC(peer, leader, rpc); err != nil {
		return err
	}
	if m, ok := rpc.Command.(*hraft.InstallSnapshotRequest); ok {
		if applied := e.config.Applier.AppliedIndex(); m.LastLogIndex < applied {
			return fmt.Errorf("snapshot is at entry %d, entries up to %d are applied here: it would discard blocks (rule R0)",
				m.LastLogIndex, applied)
		}
	}
	return nil
}

// fail makes Run return err; the first one counts.
func (e *Engine) fail(err error) {
	e.failOnce.Do(func() {
		e.failure = err
		e.config.Logger.Error("raft: this replica stops ordering", "error", err)
		close(e.failed)
	})
}

// observe is called by the library's goroutines; it must not block.
func (e *Engine) observe(o *hraft.Observation) bool {
	switch o.Data.(type) {
	case hraft.LeaderObservation, hraft.RaftState:
		e.news.announce()
		e.watchMu.Lock()
		defer e.watchMu.Unlock()
		for changes := range e.watched {
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}
	return false
}

// Leader implements ordering.Orderer.
func (e *Engine) Leader() (string, bool) {
	_, id := e.raft.LeaderWithID()
	return string(id), id != ""
}

// IsLeader implements ordering.Orderer.
func (e *Engine) IsLeader() bool { return e.raft.State() == hraft.Leader }

// LeaderChanges implements ordering.Orderer.
func (e *Engine) LeaderChanges() (<-chan struct{}, func()) {
	changes := make(chan struct{}, 1)
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	e.watched[changes] = struct{}{}
	return changes, func() {
		e.watchMu.Lock()
		defer e.watchMu.Unlock()
		delete(e.watched, changes)
	}
}

// AppliedIndex implements ordering.Orderer.
func (e *Engine) AppliedIndex() uint64 { return e.config.Applier.AppliedIndex() }

// Recheck closes standing connections of replicas that are not registered any
// more. Call it after a certified change of registrations.
func (e *Engine) Recheck() { e.transport.stream.recheck() }

// TransferLeadership implements ordering.Orderer.
func (e *Engine) TransferLeadership(ctx context.Context) error {
	if !e.IsLeader() {
		return nil
	}
	e.handsOver.Store(true) // the library waits for its senders, which must not be held
	defer e.handsOver.Store(false)
	e.news.announce()
	err := e.await(ctx, e.raft.LeadershipTransfer().Error)
	if err == nil || !e.IsLeader() {
		return nil
	}
	return fmt.Errorf("raft: hand the lead over: %w", err)
}

// await runs a blocking call of the library, which knows no context, until it
// returns, ctx ends or the engine stops. A call that is left behind ends with
// the engine, or with the process.
func (e *Engine) await(ctx context.Context, call func() error) error {
	result := make(chan error, 1)
	go func() { result <- call() }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped.Done():
		return hraft.ErrRaftShutdown
	}
}

// Run implements ordering.Orderer.
func (e *Engine) Run(ctx context.Context) error {
	select {
	case <-e.failed:
		return errors.Join(e.failure, e.Close())
	case <-e.closing.Done():
		return e.Close()
	case <-ctx.Done():
	}
	// Without a hand-over the others would notice only by the silence.
	transfer, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.config.Timing.Election)
	defer cancel()
	if len(e.Members()) > 1 {
		if err := e.TransferLeadership(transfer); err != nil {
			e.config.Logger.Warn("raft: stopping as the leader", "error", err)
		}
	}
	err := e.Close()
	select {
	case <-e.failed:
		return errors.Join(e.failure, err)
	default:
		return err
	}
}

// Close implements ordering.Orderer. The order: no new work, connections,
// goroutines (a batch that is being applied is waited for), log.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.beginStop()
		switch {
		case e.raft != nil:
			shutdown := e.raft.Shutdown()
			_ = e.transport.Close() // before waiting: goroutines hang on connections
			e.closeErr = shutdown.Error()
		case e.transport != nil:
			_ = e.transport.Close()
		default:
			_ = e.config.Listener.Close()
		}
		e.endStop()
		e.closeErr = errors.Join(e.closeErr, e.log.Close())
	})
	return e.closeErr
}

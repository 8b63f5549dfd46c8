package raft

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// proposal is an ordering.Proposal.
type proposal struct {
	done    chan struct{}
	once    sync.Once
	applied ordering.Applied // valid after done
	err     error            // valid after done
}

func (p *proposal) Done() <-chan struct{} { return p.done }

func (p *proposal) Wait(ctx context.Context) (ordering.Applied, error) {
	select {
	case <-p.done:
		return p.applied, p.err
	default:
	}
	select {
	case <-p.done:
		return p.applied, p.err
	case <-ctx.Done():
		return ordering.Applied{}, ctx.Err()
	}
}

func (p *proposal) resolve(applied ordering.Applied, err error) {
	p.once.Do(func() {
		p.applied, p.err = applied, err
		close(p.done)
	})
}

// Propose implements ordering.Orderer. It waits for room in the queue for at
// most maxEnqueue, whatever ctx allows; of ctx only the deadline can shorten it.
func (e *Engine) Propose(ctx context.Context, entry []byte) ordering.Proposal {
	p := &proposal{done: make(chan struct{})}
	if e.closing.Err() != nil || !e.IsLeader() {
		p.resolve(ordering.Applied{}, e.notLeader())
		return p
	}
	wait := maxEnqueue
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	if ctx.Err() != nil || wait <= 0 {
		p.resolve(ordering.Applied{}, ordering.ErrBusy)
		return p
	}
	future := e.raft.Apply(entry, wait)
	// The library forgets entries that are in its queues when it shuts down.
	release := context.AfterFunc(e.stopped, func() {
		p.resolve(ordering.Applied{}, fmt.Errorf("%w: the engine stopped", ordering.ErrLost))
	})
	go func() {
		err := future.Error()
		release()
		p.resolve(e.outcome(future, err))
	}()
	return p
}

// outcome translates the library's answer. Whatever is not known to have kept
// the entry out of the log is ErrLost.
func (e *Engine) outcome(future hraft.ApplyFuture, err error) (ordering.Applied, error) {
	switch {
	case err == nil:
		if stopped, ok := future.Response().(error); ok && errors.Is(stopped, errNotApplied) {
			return ordering.Applied{}, fmt.Errorf("%w: %w", ordering.ErrLost, errNotApplied)
		}
		return ordering.Applied{Index: future.Index(), Response: future.Response()}, nil
	case errors.Is(err, hraft.ErrNotLeader), errors.Is(err, hraft.ErrLeadershipTransferInProgress):
		return ordering.Applied{}, e.notLeader()
	case errors.Is(err, hraft.ErrEnqueueTimeout):
		return ordering.Applied{}, ordering.ErrBusy
	default:
		return ordering.Applied{}, fmt.Errorf("%w: %w", ordering.ErrLost, err)
	}
}

// notLeader is ErrNotLeader with a hint, which is never this node itself.
func (e *Engine) notLeader() error {
	leader, _ := e.Leader()
	if leader == e.config.NodeID {
		leader = ""
	}
	return &ordering.NotLeaderError{Leader: leader}
}

package raft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// Members implements ordering.Orderer.
func (e *Engine) Members() []ordering.Member {
	var members []ordering.Member
	for _, s := range e.raft.GetConfiguration().Configuration().Servers {
		members = append(members, ordering.Member{ID: string(s.ID), Voter: s.Suffrage == hraft.Voter})
	}
	slices.SortFunc(members, func(a, b ordering.Member) int { return strings.Compare(a.ID, b.ID) })
	return members
}

// change is one step from the present members to the wanted ones.
type change struct {
	what changeKind
	id   string
}

type changeKind int

const (
	noChange changeKind = iota
	addNonvoter
	promote  // after it has caught up
	remove   // another node than this
	handOver // this node is to go, and goes last
)

// nextChange is pure. Additions come before removals, so that the number of
// voters never falls below the smaller of before and after. A voter that is to
// stay without a vote is removed and added again.
func nextChange(present, wanted []ordering.Member, self string) change {
	find := func(members []ordering.Member, id string) int {
		return slices.IndexFunc(members, func(m ordering.Member) bool { return m.ID == id })
	}
	for _, m := range wanted {
		switch i := find(present, m.ID); {
		case i < 0:
			return change{addNonvoter, m.ID}
		case m.Voter && !present[i].Voter:
			return change{promote, m.ID}
		}
	}
	last := change{what: noChange}
	for _, m := range present {
		if i := find(wanted, m.ID); i >= 0 && (wanted[i].Voter || !m.Voter) {
			continue
		}
		if m.ID != self {
			return change{remove, m.ID}
		}
		last = change{handOver, m.ID}
	}
	return last
}

// SetMembers implements ordering.Orderer.
func (e *Engine) SetMembers(ctx context.Context, members []ordering.Member) error {
	wanted := slices.Clone(members)
	slices.SortFunc(wanted, func(a, b ordering.Member) int { return strings.Compare(a.ID, b.ID) })
	if !slices.ContainsFunc(wanted, func(m ordering.Member) bool { return m.Voter }) || wanted[0].ID == "" {
		return fmt.Errorf("raft: members %v: want at least one with a vote, each with an id", wanted)
	}
	for i := range wanted[1:] {
		if wanted[i].ID == wanted[i+1].ID {
			return fmt.Errorf("raft: member %q twice", wanted[i].ID)
		}
	}
	e.members.Lock()
	defer e.members.Unlock()
	for {
		if !e.IsLeader() {
			return e.notLeader()
		}
		next := nextChange(e.Members(), wanted, e.config.NodeID)
		if next.what == noChange {
			return nil
		}
		if err := e.change(ctx, next); err != nil {
			return err
		}
	}
}

func (e *Engine) change(ctx context.Context, next change) error {
	id, address := hraft.ServerID(next.id), hraft.ServerAddress(next.id)
	timeout := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Nanosecond)
	}
	var err error
	switch next.what {
	case addNonvoter:
		e.transport.forget(next.id)
		err = e.await(ctx, func() error { return e.raft.AddNonvoter(id, address, 0, timeout).Error() })
	case promote:
		if err = e.caughtUp(ctx, next.id); err == nil {
			err = e.await(ctx, func() error { return e.raft.AddVoter(id, address, 0, timeout).Error() })
		}
	case remove:
		err = e.await(ctx, func() error { return e.raft.RemoveServer(id, 0, timeout).Error() })
	case handOver:
		if err = e.TransferLeadership(ctx); err == nil {
			return e.notLeader()
		}
	case noChange:
	}
	if errors.Is(err, hraft.ErrNotLeader) || errors.Is(err, hraft.ErrLeadershipLost) {
		return e.notLeader()
	}
	if err != nil {
		return fmt.Errorf("raft: change of member %q: %w", next.id, err)
	}
	return nil
}

// caughtUp waits until a node has all but the last few committed entries in its
// log. Promoting too early is safe, but a voter that lacks much cannot help to
// commit, and a failure of another one would stop the cluster meanwhile.
func (e *Engine) caughtUp(ctx context.Context, id string) error {
	leader, stop := e.LeaderChanges()
	defer stop()
	for {
		if !e.IsLeader() {
			return hraft.ErrNotLeader
		}
		reached, changed := e.transport.reached(id)
		committed := e.raft.CommitIndex()
		if reached > 0 && reached+uint64(e.config.MaxAppendEntries) >= committed {
			return nil
		}
		select {
		case <-changed:
		case <-leader:
		case <-ctx.Done():
			return fmt.Errorf("%w; it has entries up to %d, committed are %d", ctx.Err(), reached, committed)
		case <-e.stopped.Done():
			return hraft.ErrRaftShutdown
		}
	}
}

// Package ordering is the boundary between what orders entries and what
// applies them.
//
// Source: architecture "The engine that orders is behind an interface", rules
// C5, C6, R0 to R5. Today's engine is ordering/raft; a Byzantine fault tolerant
// one comes later, and nothing above this package may know which is behind it.
//
// Invariants, whatever the engine:
//   - Every replica's Applier sees the same entries with the same indices, in
//     ascending order. Indices start at 1 and have gaps, because engines use
//     some for themselves.
//   - No index is ever applied with two different entries. A replica for which
//     that would come about stops with reason.DataLoss.
//   - A node that stopped with an error applies nothing more in this process.
//   - An engine gives order, not truth: over Raft a leader may order rubbish or
//     nothing. The Applier validates every record itself, and certification,
//     not ordering, makes a block final.
package ordering

import (
	"context"
	"errors"
	"fmt"
)

// Orderer puts entries into one order for all replicas. All methods may be
// called from any goroutine.
type Orderer interface {
	// Propose hands in an entry to be ordered. It copies nothing: the caller
	// leaves entry unchanged for ever. Entries that one goroutine proposes are
	// ordered as they were proposed, as long as none of them fails. Propose
	// waits, within ctx, only for room in the engine's queue; the Proposal tells
	// the rest. A Proposal's fate does not depend on ctx once Propose returned.
	Propose(ctx context.Context, entry []byte) Proposal

	// Leader is the node that orders at present, as far as this node knows. It
	// is a hint and may be out of date.
	Leader() (nodeID string, ok bool)

	// IsLeader tells whether this node believes that it orders at present.
	IsLeader() bool

	// LeaderChanges returns a channel that holds a token whenever Leader or
	// IsLeader may have changed since the last receive; changes in between are
	// merged. Call stop when done. The channel is never closed.
	LeaderChanges() (changes <-chan struct{}, stop func())

	// AppliedIndex is the Applier's: the index of the last entry whose effects
	// are durable here. Zero when there is none.
	AppliedIndex() uint64

	// Members lists the nodes that the engine replicates to, sorted by id.
	Members() []Member

	// SetMembers makes the engine's members equal to the given nodes, with and
	// without a vote (rule C6: the certified configuration decides; the engine
	// follows). A new voter first catches up without a vote; nobody waits for a
	// member that is to have none. It works on the leader only, one change at a
	// time, and returns when done. After an error, part of the changes may have
	// been made: calling it again, on whichever node then leads, goes on from
	// there. A leader that is itself to go first moves everything else, then
	// hands over and returns ErrNotLeader: the next leader removes it.
	SetMembers(ctx context.Context, members []Member) error

	// TransferLeadership hands the lead to the most advanced other voter. Nil
	// when this node does not lead any more, or did not.
	TransferLeadership(ctx context.Context) error

	// Run supervises the engine until ctx ends or the engine fails, then hands
	// the lead over, stops and closes it. It returns nil after ctx ended, and
	// the cause otherwise; a cause of reason.DataLoss must keep the process from
	// being restarted blindly.
	Run(ctx context.Context) error

	// Close stops the engine without handing over. It is idempotent, and not
	// needed after Run.
	Close() error
}

// Member is a node that takes part in ordering.
type Member struct {
	ID    string // the node id of its registration
	Voter bool   // false while it catches up, or waits for a configuration that names it
}

// Proposal is an entry on its way.
type Proposal interface {
	// Done is closed when the outcome is known.
	Done() <-chan struct{}

	// Wait returns the outcome, or ctx's error while there is none; then the
	// entry is still on its way. On success the entry was committed and this
	// node's Applier has applied it durably. Errors: *NotLeaderError
	// (errors.Is ErrNotLeader) and ErrBusy when the entry was certainly not
	// ordered and may be proposed again anywhere; ErrLost when nobody knows yet.
	Wait(ctx context.Context) (Applied, error)
}

// Applied is the outcome of a proposal.
type Applied struct {
	Index    uint64 // the entry's index
	Response any    // what the local Applier answered for this entry
}

// The errors of a proposal and of the leader's methods.
var (
	// ErrNotLeader: this node does not lead, and has not taken the entry.
	ErrNotLeader = errors.New("this node does not lead the ordering")
	// ErrLost: the lead was lost, or the node stopped, while the entry was on
	// its way. It may or may not be ordered later: the proposer finds out by
	// what gets applied, and proposes again only what is idempotent.
	ErrLost = errors.New("the entry's outcome is unknown")
	// ErrBusy: the engine's queue was full until the deadline. Not ordered.
	ErrBusy = errors.New("the ordering queue is full")
)

// NotLeaderError is ErrNotLeader with a hint where to go.
type NotLeaderError struct {
	Leader string // node id of the leader; "" when none is known
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return ErrNotLeader.Error() + "; no leader is known"
	}
	return fmt.Sprintf("%s; the leader is %q", ErrNotLeader.Error(), e.Leader)
}

// Is makes errors.Is(err, ErrNotLeader) true.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

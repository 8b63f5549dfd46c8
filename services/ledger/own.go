package ledger

import (
	"sync/atomic"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// ownLedger is this replica's ledger, as the collector of cosignatures reads it.
type ownLedger struct {
	store  *storage.Store
	nodeID string
	cached atomic.Pointer[quorums]
}

// quorums are those around the configuration in force, made once for each.
type quorums struct {
	config            digest.Digest // of the head that they were made for
	height            uint64        // of the block that brought the configuration
	before, at, after *state.Quorum
	wasMember, member bool // this replica, in the configuration before and in the one in force
}

// QuorumAt implements certify.Ledger.
func (l *ownLedger) QuorumAt(height uint64) (*state.Quorum, bool, error) {
	q, err := l.quorums()
	switch {
	case err != nil:
		return nil, false, err
	case height > q.height:
		return q.after, q.member, nil
	case height == q.height:
		return q.at, q.wasMember, nil
	default:
		return q.before, q.wasMember, nil
	}
}

func (l *ownLedger) quorums() (*quorums, error) {
	head, _ := l.store.Head()
	if q := l.cached.Load(); q != nil && q.config == head.Config {
		return q, nil
	}
	config, err := state.GetConfig(l.store)
	if err != nil {
		return nil, err
	}
	q := &quorums{config: head.Config, height: config.Height, member: config.Replica(l.nodeID) != nil}
	for _, of := range []struct {
		to     **state.Quorum
		height uint64
	}{{&q.before, max(config.Height, 1) - 1}, {&q.at, config.Height}, {&q.after, config.Height + 1}} {
		if *of.to, err = state.QuorumAt(l.store, of.height); err != nil {
			return nil, err
		}
	}
	q.wasMember = q.member
	if config.Previous != nil {
		before := state.Config{Message: config.Previous}
		q.wasMember = before.Replica(l.nodeID) != nil
	}
	if config.Digest == head.Config { // no block came in between
		l.cached.Store(q)
	}
	return q, nil
}

// Block implements certify.Ledger.
func (l *ownLedger) Block(height uint64) (state.BlockRef, bool, error) { return l.store.Block(height) }

// RootAt implements certify.Ledger.
func (l *ownLedger) RootAt(size uint64) (digest.Digest, error) {
	tree, err := tlog.RangeAt(l.store, size)
	if err != nil {
		return digest.Zero, err
	}
	return tree.Root(), nil
}

// diverged tells whoever watches the logs that two replicas have signed histories
// that exclude each other, with both signatures: they are evidence.
func (s *Service) diverged(d *certify.DivergenceError) {
	ours, err := s.store.CosignatureAt(d.Ours.Height)
	s.log.Error("another replica cosigned another history", "error", d,
		"their_checkpoint", string(d.Theirs.Checkpoint.Body()), "their_cosignature", d.Theirs.Cosignature.Line(),
		"our_size", d.Ours.Size, "our_root", d.Ours.Root, "our_signatures", string(ours), "read_error", err)
}

// doubleSigned names a replica that signed two histories, with both signatures.
func (s *Service) doubleSigned(d *certify.DoubleSignError) {
	s.log.Error("a replica signed two histories", "error", d, "cosigner", d.Other.Cosignature.Name,
		"checkpoint", string(d.Agreed.Checkpoint.Body()), "cosignature", d.Agreed.Cosignature.Line(),
		"other_checkpoint", string(d.Other.Checkpoint.Body()), "other_cosignature", d.Other.Cosignature.Line())
}

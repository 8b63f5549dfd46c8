package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
)

// errDropped says that the raw vectors of a segment were dropped. It does not leave
// this package: absent makes of it what the state says.
var errDropped = errors.New("the raw vectors of the segment were dropped")

// errNeverHere says that a block was committed without the raw vector.
var errNeverHere = errors.New("the raw vector had expired when its block was fetched")

// DropExpired lets the raw vectors of the oldest packed segment go that has them, if
// the state holds a decision that covers each of its blocks (docs/adr/0017), of a
// block up to certified: what is dropped for a block that is not may never come back.
//
// One transaction counts them as gone; then the file is removed. So a crash leaves
// them here, or gone and counted, and opening removes a file that is counted. An
// object in cold storage stays: see EraseCold. Errors are as of Pack.
func (s *Store) DropExpired(certified uint64) (done bool, err error) {
	if !s.packing.TryLock() {
		return false, nil
	}
	defer s.packing.Unlock()
	t := s.recent.Load().tip
	number := t.dropped + 1
	if s.tail == nil || number >= t.packed {
		return false, nil
	}
	height, ok, err := s.endsIn(&t, number)
	if err != nil || !ok {
		return false, err
	}
	decision, err := state.ExpiryOf(s, height)
	if err != nil || decision == nil || decision.GetHeight() > certified {
		return false, err
	}
	committed, err := s.packedSegment(number)
	if err != nil {
		return false, err
	}
	err = s.count(func(next *tip) {
		next.dropped, next.prunedBelow = number, max(next.prunedBelow, height+1)
	})
	if err != nil {
		return false, err
	}
	s.packed.dropped.Store(number)
	if number <= t.cold {
		s.packed.coldBytes.Add(-committed.raws.bytes)
		return true, nil
	}
	if err := s.options.disk.Remove(packedPath(s.dir, number, kindRawVector)); !missing(err) {
		return true, err
	}
	return true, nil
}

// EraseCold deletes the object of the oldest dropped segment for which that was not
// done yet, also where none was counted: an interrupted move may have left one.
// Deleting again what is gone is nothing. Errors are as of Pack.
func (s *Store) EraseCold(ctx context.Context) (done bool, err error) {
	if s.options.Cold == nil || !s.packing.TryLock() {
		return false, nil
	}
	defer s.packing.Unlock()
	t := s.recent.Load().tip
	number := t.erased + 1
	if s.tail == nil || number > t.dropped {
		return false, nil
	}
	committed, err := s.packedSegment(number)
	if err != nil {
		return false, err
	}
	name := coldName(number, committed.raws)
	deleting, cancel := context.WithTimeout(ctx, s.options.ColdTimeout)
	defer cancel()
	if err := s.options.Cold.Delete(deleting, name); err != nil {
		return false, fmt.Errorf("delete %s: %w", s.options.Cold.Where(name), err)
	}
	return true, s.count(func(next *tip) { next.erased = number })
}

// count commits a tip in which the numbers of segments differ and nothing else.
func (s *Store) count(change func(next *tip)) error {
	err := s.write(func() error {
		next := s.tip
		change(&next)
		err := s.update(next.write)
		if err == nil {
			s.publish(next, nil)
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		return &PoisonedError{Cause: err}
	}
	return err
}

// absent is the answer for the raw vector of a measurement that is not here, given
// why it is not: a *reason.Error of RAW_VECTOR_EXPIRED if a decision in the state
// lets it go, and otherwise a *DataLossError.
//
// A vector that had expired before its block came here is NOT_READY until the
// decision, which was proven then, comes too.
func (s *Store) absent(height, index uint64, why error) error {
	decision, err := state.ExpiryOf(s, height)
	if err != nil {
		return err
	}
	if decision != nil {
		return reason.New(reason.RawVectorExpired, "the raw vector of record %d, block %d, expired: statement %d on raw-vectors, record %d of block %d, signed by %s, lets those below block %d go (%s); this replica keeps it no longer",
			index, height, decision.GetLast().GetSequence(), decision.GetLast().GetIndex(), decision.GetHeight(),
			strings.Join(decision.GetOrganisations(), ", "), decision.GetBelowHeight(), decision.GetRule())
	}
	var lost *DataLossError
	switch {
	case errors.As(why, &lost):
		return why
	case errors.Is(why, errNeverHere):
		return reason.New(reason.NotReady, "the raw vector of record %d, block %d, had expired when its block was fetched; the decision is in a later block than the newest here", index, height)
	}
	return &DataLossError{Height: int64(height), Index: int64(index), File: dbName, Offset: None,
		What: "the raw vector is counted as expired, and no decision in the state here lets it go"}
}

// isAway tells whether an error is that a raw vector is not where it was kept: its
// segment was dropped, its object is not in cold storage any more, or it never came.
func isAway(err error) bool {
	return errors.Is(err, errDropped) || errors.Is(err, ErrAbsent) || errors.Is(err, errNeverHere)
}

// lacks tells whether a leaf without a raw vector is a measurement, committed so
// because the vector had expired where it was fetched from.
func (t *tip) lacks(height uint64, leaf []byte) bool {
	if height >= t.prunedBelow {
		return false
	}
	_, measurement := rawDigest(leaf)
	return measurement
}

// DroppedSegments is how many segments have no raw vectors any more, here or in cold
// storage: the first ones.
func (s *Store) DroppedSegments() uint32 { return s.packed.dropped.Load() }

// PrunedBelow is the lowest height from which no raw vector is absent.
func (s *Store) PrunedBelow() uint64 { return s.recent.Load().tip.prunedBelow }

// Owes tells whether raw vectors are absent for which the decision has not come yet.
func (s *Store) Owes() (bool, error) {
	decision, err := state.NewestExpiry(s)
	return err == nil && s.PrunedBelow() > decision.GetBelowHeight(), err
}

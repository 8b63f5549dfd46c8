package storage

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/lacre-metrology/lacre/core/state"
	"go.etcd.io/bbolt"
)

// Commit makes a batch durable: when it returns nil all of it survives a power
// cut. Calls are serialised. After any error the store is poisoned: it refuses
// every further write with *PoisonedError until it is opened again, because
// what the disk holds is not known; opening finds the batch whole or absent.
// The error is a *BatchError if the batch does not extend what is committed.
func (s *Store) Commit(b Batch) error {
	return s.write(func() error { return s.commit(&b) })
}

// write serialises writers and poisons the store on failure.
func (s *Store) write(f func() error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.tail == nil:
		return ErrReadOnly
	case s.failed != nil:
		return &PoisonedError{Cause: s.failed}
	}
	s.failed = f()
	return s.failed
}

func (s *Store) commit(b *Batch) error {
	next := s.tip
	if err := checkBatch(b, &next); err != nil {
		return err
	}
	values, added, err := s.appendBlocks(b.Blocks)
	if err != nil {
		return err
	}
	for i := range b.Blocks {
		block := &b.Blocks[i]
		next.blocks, next.size = next.blocks+1, block.Ref.Size
		if block.Lacking > 0 {
			next.lacking, next.prunedBelow = next.lacking+uint64(block.Lacking), max(next.prunedBelow, next.blocks)
		}
		if !block.Lock.IsZero() {
			next.lock, next.cosignature = block.Lock, block.Cosignature
		}
	}
	next.end, next.applied = s.tail.end, b.AppliedIndex

	err = s.update(func(tx *bbolt.Tx) error {
		return errors.Join(
			putBlocks(tx, values, added),
			s.putState(tx, mergeWrites(b.Blocks), &next),
			putEntries(tx, b.Entries, &next),
			next.write(tx),
		)
	})
	if err != nil {
		return err
	}
	rolled := next.end.segment > s.tip.end.segment // or raw vectors expired: there is something to do behind
	for i := range b.Blocks {
		for _, w := range b.Blocks[i].Writes {
			if page := turned(w.Key); s.hot.put(w.Key, w.Value) && page != nil {
				s.hot.drop(page)
			}
			rolled = rolled || string(w.Key) == state.KeyExpiry
		}
	}
	s.publish(next, added)
	if rolled {
		select {
		case s.full <- struct{}{}:
		default: // it is known already
		}
	}
	return nil
}

// publish shows a committed tip to the readers.
func (s *Store) publish(t tip, added []*recentBlock) {
	s.tip = t
	s.recent.Store(s.recent.Load().with(t, added, s.options.CacheBytes))
}

// update runs f in the one write transaction of a commit.
func (s *Store) update(f func(tx *bbolt.Tx) error) error {
	return guarded(func() error {
		tx, err := s.db.Begin(true)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		defer tx.Rollback() //nolint:errcheck // does nothing after a commit, and there is no answer to its failure.
		if err := f(tx); err != nil {
			return err
		}
		if err := s.options.disk.CommitTx(tx); err != nil {
			return fmt.Errorf("commit %s: %w", dbName, err)
		}
		return nil
	})
}

// appendBlocks writes the blocks' frames and makes them durable. It returns the
// sealable block values, and the blocks for the memory of recent ones.
func (s *Store) appendBlocks(blocks []Block) (values [][]byte, added []*recentBlock, err error) {
	for i := range blocks {
		b := &blocks[i]
		leaf, raw := make([]frame, len(b.Leaves)), make([]frame, len(b.Leaves))
		vectors := b.RawVectors
		for j := range b.Leaves {
			index := b.Ref.FirstIndex + uint64(j)
			if leaf[j], err = s.tail.append(kindRecord, index, b.Leaves[j]); err != nil {
				return nil, nil, err
			}
			if len(vectors) == 0 || vectors[0].Leaf != j {
				continue
			}
			if raw[j], err = s.tail.append(kindRawVector, index, vectors[0].Bytes); err != nil {
				return nil, nil, err
			}
			vectors = vectors[1:]
		}
		value, decoded, err := encodeBlock(b, leaf, raw)
		if err != nil {
			return nil, nil, err
		}
		values = append(values, value)
		added = append(added, &recentBlock{value: decoded, leaves: b.Leaves})
	}
	if len(blocks) == 0 {
		return nil, nil, nil
	}
	return values, added, s.tail.sync()
}

func putBlocks(tx *bbolt.Tx, values [][]byte, added []*recentBlock) error {
	blocks, err := tableBlocks.in(tx)
	if err != nil {
		return err
	}
	firsts, err := tableFirsts.in(tx)
	if err != nil {
		return err
	}
	for i, b := range added {
		height := number(b.value.ref.Height)
		if err := tableBlocks.put(blocks, height, values[i]); err != nil {
			return err
		}
		if err := tableFirsts.put(firsts, number(b.value.ref.FirstIndex), sealable(height)); err != nil {
			return err
		}
	}
	return nil
}

// mergeWrites is the blocks' state writes, in key order, the newest for each
// key: bbolt is spared the values that a later block of the batch replaces.
func mergeWrites(blocks []Block) []state.Write {
	if len(blocks) == 1 {
		return blocks[0].Writes
	}
	var all []state.Write
	for i := range blocks {
		all = append(all, blocks[i].Writes...)
	}
	slices.SortStableFunc(all, func(a, b state.Write) int { return bytes.Compare(a.Key, b.Key) })
	merged := all[:0]
	for i, w := range all {
		if i+1 == len(all) || !bytes.Equal(all[i+1].Key, w.Key) {
			merged = append(merged, w)
		}
	}
	return merged
}

func (s *Store) putState(tx *bbolt.Tx, writes []state.Write, t *tip) error {
	b, err := tableState.in(tx)
	if err != nil {
		return err
	}
	pages, err := tablePages.in(tx)
	if err != nil {
		return err
	}
	for _, w := range writes {
		if meter, number, ok := state.SplitPageKey(w.Key); ok {
			if err := putPage(b, pages, w, meter, number, t); err != nil {
				return err
			}
			continue
		}
		if _, known := s.hot.get(w.Key); !known && b.Get(w.Key) == nil {
			t.stateKeys++
		}
		if err := tableState.put(b, w.Key, sealable(w.Value)); err != nil {
			return err
		}
	}
	return nil
}

// putEntries keeps the digests of the newest entriesKept applied indices.
func putEntries(tx *bbolt.Tx, entries []Entry, t *tip) error {
	b, err := tableEntries.in(tx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := tableEntries.put(b, number(e.Index), sealable(e.Digest[:])); err != nil {
			return err
		}
		t.entries++
	}
	if t.applied < entriesKept {
		return nil
	}
	oldest := number(t.applied - entriesKept + 1)
	c := b.Cursor()
	// Begin anew after each deletion: a bbolt cursor may skip a key behind it.
	for key, _ := c.First(); key != nil && bytes.Compare(key, oldest) < 0; key, _ = c.First() {
		if err := c.Delete(); err != nil {
			return fmt.Errorf("drop the digest of entry %x: %w", key, err)
		}
		t.entries--
	}
	return nil
}

// RefreshCosignature replaces the newest exact signature bytes, over the same
// checkpoint with a newer time stamp (rule C2). It is durable when it returns;
// errors are as in Commit.
func (s *Store) RefreshCosignature(lock Lock, cosignature []byte) error {
	return s.write(func() error {
		next := s.tip
		if lock.IsZero() || lock != next.lock {
			return &BatchError{Height: lock.Height, Problem: fmt.Sprintf(
				"a refreshed cosignature is over height %d, size %d, root %s, the lock is height %d, size %d, root %s",
				lock.Height, lock.Size, lock.Root, next.lock.Height, next.lock.Size, next.lock.Root)}
		}
		if len(cosignature) == 0 || len(cosignature) > maxCosignatureBytes {
			return &BatchError{Height: lock.Height, Problem: fmt.Sprintf(
				"a refreshed cosignature has %d bytes, want 1 to %d", len(cosignature), maxCosignatureBytes)}
		}
		next.cosignature = clone(cosignature)
		if err := s.update(next.write); err != nil {
			return err
		}
		s.publish(next, nil)
		return nil
	})
}

package storage

import (
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// Nodes fills out with the roots of consecutive perfect subtrees of a level,
// leaves included, from a first one: what Node gives for each, with one read
// for each block that completes some of them. ErrNotStored when the last is not
// complete.
func (s *Store) Nodes(level uint, first uint64, out []digest.Digest) error {
	size := s.recent.Load().tip.size
	if level >= 63 || first+uint64(len(out)) > size>>level || first > size {
		return fmt.Errorf("nodes %d/%d to %d of %d leaves: %w", level, first, first+uint64(len(out)), size, ErrNotStored)
	}
	for done := 0; done < len(out); {
		id := tlog.NodeID{Level: level, Index: first + uint64(done)}
		err := s.withBlockOf(lastLeaf(id), func(b *blockValue, _ [][]byte) error {
			for ; done < len(out) && lastLeaf(id) < b.ref.Size; id.Index++ {
				out[done] = b.node(id)
				done++
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Records visits the exact bytes of consecutive leaves, in order, until visit
// returns an error, which it returns: what Record gives for each, with one read
// for each block. ErrNotStored before the first visit when the last is beyond
// the newest. The bytes are the caller's to keep, not to change.
func (s *Store) Records(first, count uint64, visit func(index uint64, leaf []byte) error) error {
	size := s.recent.Load().tip.size
	if first > size || count > size-first {
		return fmt.Errorf("records %d to %d of %d: %w", first, first+count, size, ErrNotStored)
	}
	for end := first + count; first < end; {
		height, err := s.HeightOf(first)
		if err != nil {
			return err
		}
		block, leaves, err := s.copyBlock(height)
		if err != nil {
			return err
		}
		to := min(end, block.ref.Size)
		if leaves != nil {
			for ; first < to; first++ {
				if err := visit(first, leaves[first-block.ref.FirstIndex]); err != nil {
					return err
				}
			}
			continue
		}
		err = s.eachFrame(&block, func(i int, p placed, r *frames) error {
			switch index := block.ref.FirstIndex + uint64(i); {
			case index < first:
				return nil
			case index >= to:
				return errEnough
			default:
				leaf, err := r.read(p.leaf, kindRecord, index)
				if err != nil {
					return err
				}
				return visit(index, leaf)
			}
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		first = to
	}
	return nil
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

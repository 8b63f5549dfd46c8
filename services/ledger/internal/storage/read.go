package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"go.etcd.io/bbolt"
)

// Head returns the newest block; ok is false while there is none.
func (s *Store) Head() (ref state.BlockRef, ok bool) {
	r := s.recent.Load()
	return r.head, r.tip.blocks > 0
}

// Lock returns the checkpoint that this replica last signed (rule C1).
func (s *Store) Lock() Lock { return s.recent.Load().tip.lock }

// Cosignature returns the newest exact signature lines, over Lock; nil without one.
func (s *Store) Cosignature() []byte { return clone(s.recent.Load().tip.cosignature) }

// AppliedIndex returns the ordering log's index up to which everything is
// applied (rule R4).
func (s *Store) AppliedIndex() uint64 { return s.recent.Load().tip.applied }

// Range returns the compact range of the whole tree, to build the next block on.
func (s *Store) Range() (*tlog.Range, error) {
	return tlog.RangeAt(s, s.recent.Load().tip.size)
}

// Get returns the state value under key, or nil when there is none. The caller
// does not change it.
func (s *Store) Get(key []byte) ([]byte, error) {
	if value, ok := s.hot.get(key); ok {
		return value, nil
	}
	var value []byte
	err := view(s.db, func(tx *bbolt.Tx) error {
		b, err := stateValue(tx, key)
		value = clone(b)
		return err
	})
	return value, err
}

// Scan visits the state under a prefix in key order, beginning with the first
// key at or above from, as one snapshot, until visit returns false. Key and
// value are valid only during the visit. A long scan keeps the file from
// reusing pages: page through large sets.
func (s *Store) Scan(prefix, from []byte, visit func(key, value []byte) bool) error {
	start := prefix
	if bytes.Compare(from, prefix) > 0 {
		start = from
	}
	return view(s.db, func(tx *bbolt.Tx) error {
		b, err := tableState.in(tx)
		if err != nil {
			return err
		}
		pages := pagesFrom(tx, prefix, start)
		c := b.Cursor()
		for key, sealed := c.Seek(start); key != nil && bytes.HasPrefix(key, prefix); key, sealed = c.Next() {
			value, err := tableState.open(key, sealed)
			if err != nil {
				return err
			}
			if goOn, err := pages.before(key, visit); err != nil || !goOn || !visit(key, value) {
				return err
			}
		}
		_, err = pages.before(nil, visit)
		return err
	})
}

// Block returns the block at a height; ok is false above the newest.
func (s *Store) Block(height uint64) (ref state.BlockRef, ok bool, err error) {
	r := s.recent.Load()
	if height >= r.tip.blocks {
		return state.BlockRef{}, false, nil
	}
	err = s.withBlock(r, height, func(b *blockValue, _ [][]byte) error {
		ref = b.ref
		return nil
	})
	return ref, err == nil, err
}

// HeightOf returns the height of the block that holds a leaf; ErrNotStored
// beyond the newest.
func (s *Store) HeightOf(index uint64) (uint64, error) {
	var height uint64
	err := s.withBlockOf(index, func(b *blockValue, _ [][]byte) error {
		height = b.ref.Height
		return nil
	})
	return height, err
}

// LeafHash returns the RFC 6962 hash of a leaf; ErrNotStored beyond the newest.
func (s *Store) LeafHash(index uint64) (digest.Digest, error) {
	return s.Node(tlog.NodeID{Level: 0, Index: index})
}

// Node returns the root of a perfect subtree, leaves included; ErrNotStored
// when it is not complete. Proofs at any tree size are made of these.
func (s *Store) Node(id tlog.NodeID) (digest.Digest, error) {
	r := s.recent.Load()
	if id.Level >= 63 || id.Index >= r.tip.size>>id.Level {
		return digest.Zero, fmt.Errorf("node %d/%d of %d leaves: %w", id.Level, id.Index, r.tip.size, ErrNotStored)
	}
	if hash, ok := r.node(id); ok {
		return hash, nil
	}
	var hash digest.Digest
	err := s.withBlockOf(lastLeaf(id), func(b *blockValue, _ [][]byte) error {
		hash = b.node(id)
		return nil
	})
	return hash, err
}

// Record returns the exact bytes of a leaf; ErrNotStored beyond the newest,
// *DataLossError if they are damaged. The caller does not change them.
func (s *Store) Record(index uint64) ([]byte, error) {
	var leaf []byte
	var at placed
	var height uint64
	err := s.withBlockOf(index, func(b *blockValue, leaves [][]byte) (err error) {
		height = b.ref.Height
		i := int(index - b.ref.FirstIndex)
		if leaves != nil {
			leaf = leaves[i]
			return nil
		}
		at, err = b.placeOf(i)
		return err
	})
	if err != nil || leaf != nil {
		return leaf, err
	}
	r := s.frames(true)
	defer r.close()
	leaf, err = r.read(at.leaf, kindRecord, index)
	return sound(leaf, height, err)
}

// RawVector returns the raw vector of the measurement at an index;
// ErrNoRawVector if the leaf has none, ErrNotStored beyond the newest, a
// *reason.Error of RAW_VECTOR_EXPIRED if it is gone by a decision in the state, and
// *DataLossError if it is damaged, or gone without one.
func (s *Store) RawVector(index uint64) ([]byte, error) {
	var at placed
	var height uint64
	err := s.withBlockOf(index, func(b *blockValue, _ [][]byte) (err error) {
		height = b.ref.Height
		at, err = b.placeOf(int(index - b.ref.FirstIndex))
		return err
	})
	if err != nil {
		return nil, err
	}
	if at.raw.length == 0 {
		return nil, s.without(height, index)
	}
	r := s.frames(true)
	defer r.close()
	raw, err := r.read(at.raw, kindRawVector, index)
	if isAway(err) {
		err = s.absent(height, index, err)
	}
	return sound(raw, height, err)
}

// without says why a leaf was committed without a raw vector.
func (s *Store) without(height, index uint64) error {
	t := s.recent.Load().tip
	if height < t.prunedBelow { // else it cannot be a measurement
		leaf, err := s.Record(index)
		if err != nil {
			return err
		}
		if t.lacks(height, leaf) {
			return s.absent(height, index, errNeverHere)
		}
	}
	return fmt.Errorf("record %d: %w", index, ErrNoRawVector)
}

// Stored is a whole block as another replica or an auditor wants it.
type Stored struct {
	Ref        state.BlockRef
	Leaves     [][]byte    // exact bytes, the header last
	RawVectors []RawVector // ascending by leaf; without bytes where it expired
}

// Load returns a whole block with its bytes; ErrNotStored above the newest.
func (s *Store) Load(height uint64) (Stored, error) {
	value, leaves, err := s.copyBlock(height)
	if err != nil {
		return Stored{}, err
	}
	out := Stored{Ref: value.ref, Leaves: leaves}
	height, t := value.ref.Height, s.recent.Load().tip
	return out, s.eachFrame(&value, func(i int, p placed, r *frames) error {
		index := value.ref.FirstIndex + uint64(i)
		if leaves == nil {
			leaf, err := r.read(p.leaf, kindRecord, index)
			if err != nil {
				return err
			}
			out.Leaves = append(out.Leaves, leaf)
		}
		var raw []byte
		var err error
		switch {
		case p.raw.length > 0:
			raw, err = r.read(p.raw, kindRawVector, index)
		case t.lacks(height, out.Leaves[i]):
			err = errNeverHere
		default:
			return nil
		}
		if isAway(err) {
			err = s.absent(height, index, err)
		}
		if err != nil && reason.Of(err) != reason.RawVectorExpired {
			return err
		}
		out.RawVectors = append(out.RawVectors, RawVector{Leaf: i, Bytes: raw})
		return nil
	})
}

// Leaves returns the exact bytes of a block's leaves, the header last;
// ErrNotStored above the newest.
func (s *Store) Leaves(height uint64) ([][]byte, error) {
	value, leaves, err := s.copyBlock(height)
	if err != nil || leaves != nil {
		return leaves, err
	}
	return leaves, s.eachFrame(&value, func(i int, p placed, r *frames) error {
		leaf, err := r.read(p.leaf, kindRecord, value.ref.FirstIndex+uint64(i))
		leaves = append(leaves, leaf)
		return err
	})
}

// CosignatureAt returns the exact signature lines that this replica committed
// with a block, or nil if it did not sign it (rule C2: it re-serves the same
// bytes). For the newest lock it is the refreshed one.
func (s *Store) CosignatureAt(height uint64) ([]byte, error) {
	r := s.recent.Load()
	if !r.tip.lock.IsZero() && r.tip.lock.Height == height {
		return clone(r.tip.cosignature), nil
	}
	var out []byte
	err := s.withBlock(r, height, func(b *blockValue, _ [][]byte) error {
		if len(b.cosignature) > 0 {
			out = clone(b.cosignature)
		}
		return nil
	})
	return out, err
}

// EntryDigest returns the digest of an applied entry of the ordering log; ok is
// false if the index was never applied here or is older than the newest 16,384.
func (s *Store) EntryDigest(index uint64) (d digest.Digest, ok bool, err error) {
	err = view(s.db, func(tx *bbolt.Tx) error {
		b, err := tableEntries.get(tx, number(index))
		if err != nil || b == nil {
			return err
		}
		d, err = digest.FromBytes(b)
		ok = err == nil
		return err
	})
	return d, ok, err
}

// frames reads frames of the store; shared is for single reads, which find again
// what others unpacked.
func (s *Store) frames(shared bool) frames {
	return frames{dir: s.dir, packed: &s.packed, shared: shared}
}

// eachFrame calls f with the places of a block's frames, in order.
func (s *Store) eachFrame(b *blockValue, f func(i int, p placed, r *frames) error) error {
	r := s.frames(false) // a walk uses each group once
	defer r.close()
	var failed error
	err := b.place(func(i int, p placed) bool {
		failed = f(i, p, &r)
		return failed == nil
	})
	_, failed = sound(nil, b.ref.Height, failed)
	return errors.Join(err, failed)
}

// sound drops the bytes of a frame that was read with an error, and completes
// the error by the height.
func sound(b []byte, height uint64, err error) ([]byte, error) {
	if err == nil {
		return b, nil
	}
	var lost *DataLossError
	if errors.As(err, &lost) && lost.Height == None {
		lost.Height = int64(height)
	}
	return nil, err
}

// withBlock calls f with the block at a height, and its leaves if they are in
// memory. What f gets is valid during the call only.
func (s *Store) withBlock(r *recent, height uint64, f func(b *blockValue, leaves [][]byte) error) error {
	if height >= r.tip.blocks {
		return fmt.Errorf("block %d of %d: %w", height, r.tip.blocks, ErrNotStored)
	}
	if b := r.block(height); b != nil {
		return f(&b.value, b.leaves)
	}
	return view(s.db, func(tx *bbolt.Tx) error {
		b, err := readBlock(tx, height)
		if err != nil {
			return err
		}
		return f(&b, nil)
	})
}

// withBlockOf is withBlock for the block that holds a leaf.
func (s *Store) withBlockOf(index uint64, f func(b *blockValue, leaves [][]byte) error) error {
	r := s.recent.Load()
	if index >= r.tip.size {
		return fmt.Errorf("record %d of %d: %w", index, r.tip.size, ErrNotStored)
	}
	if b := r.blockOf(index); b != nil {
		return f(&b.value, b.leaves)
	}
	return view(s.db, func(tx *bbolt.Tx) error {
		height, err := heightOf(tx, index)
		if err != nil {
			return err
		}
		b, err := readBlock(tx, height)
		if err != nil {
			return err
		}
		if index < b.ref.FirstIndex || index >= b.ref.Size {
			return tableBlocks.damage(number(height), fmt.Sprintf("it spans leaves %d to %d and was found for %d", b.ref.FirstIndex, b.ref.Size, index))
		}
		return f(&b, nil)
	})
}

// copyBlock is a block that outlives the transaction; leaves is nil unless they
// are in memory.
func (s *Store) copyBlock(height uint64) (value blockValue, leaves [][]byte, err error) {
	r := s.recent.Load()
	if b := r.block(height); b != nil {
		return b.value, b.leaves, nil
	}
	if height >= r.tip.blocks {
		return value, nil, fmt.Errorf("block %d of %d: %w", height, r.tip.blocks, ErrNotStored)
	}
	var encoded []byte
	err = view(s.db, func(tx *bbolt.Tx) error {
		b, err := tableBlocks.get(tx, number(height))
		encoded = clone(b)
		return err
	})
	if err != nil {
		return value, nil, err
	}
	value, err = decodeBlock(height, encoded)
	return value, nil, err
}

func readBlock(tx *bbolt.Tx, height uint64) (blockValue, error) {
	b, err := tableBlocks.get(tx, number(height))
	if err != nil {
		return blockValue{}, err
	}
	return decodeBlock(height, b) // a missing value is too short
}

// heightOf seeks the block with the greatest first index up to the one given.
func heightOf(tx *bbolt.Tx, index uint64) (uint64, error) {
	b, err := tableFirsts.in(tx)
	if err != nil {
		return 0, err
	}
	want := number(index)
	c := b.Cursor()
	key, sealed := c.Seek(want)
	switch {
	case key == nil:
		key, sealed = c.Last()
	case !bytes.Equal(key, want):
		key, sealed = c.Prev()
	}
	if key == nil {
		return 0, tableFirsts.damage(want, "no block begins at or before this leaf")
	}
	value, err := tableFirsts.open(key, sealed)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, tableFirsts.damage(key, fmt.Sprintf("the value has %d bytes, want 8", len(value)))
	}
	return binary.BigEndian.Uint64(value), nil
}

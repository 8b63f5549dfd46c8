package storage

import (
	"bytes"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// Batch is what one Commit makes durable: all of it or none.
type Batch struct {
	Blocks       []Block // consecutive, the first on top of the newest committed one; may be empty
	AppliedIndex uint64  // the ordering log's index up to which everything is applied; never decreases
	Entries      []Entry // the entries applied by this batch, ascending; may have gaps
}

// Entry names the exact bytes of one applied entry of the ordering log (rule R2).
type Entry struct {
	Index  uint64
	Digest digest.Digest
}

// Block is one block with everything that is derived from it. The store keeps
// the slices: nobody changes their bytes after Commit.
type Block struct {
	Ref         state.BlockRef
	Leaves      [][]byte        // exact bytes of the records; the header is last
	LeafHashes  []digest.Digest // RFC 6962 leaf hashes, one for each leaf
	RawVectors  []RawVector     // ascending by leaf, at most one for each
	Lacking     int             // measurements whose raw vectors are not given: they expired before the block came here
	Nodes       []Node          // the perfect subtrees of level 1 and above that this block completes, in any order
	Writes      []state.Write   // ascending by key, each key once
	Lock        Lock            // what this replica signed for the block; zero if it did not sign (rule C7)
	Cosignature []byte          // the exact note lines that it signed; empty without a lock
}

// RawVector is the raw data of one measurement.
type RawVector struct {
	Leaf  int    // position of the measurement among the block's leaves
	Bytes []byte // encoded as the meter sent it, not empty
}

// Node is the root of a perfect subtree.
type Node struct {
	ID   tlog.NodeID // Level is at least 1
	Hash digest.Digest
}

// Lock is the checkpoint that this replica last signed (rule C1).
type Lock struct {
	Height uint64
	Size   uint64 // 0 only in the zero Lock: nothing was ever signed
	Root   digest.Digest
}

// IsZero reports whether the lock locks nothing.
func (l Lock) IsZero() bool { return l.Size == 0 }

// Extend appends leaf hashes to a compact range and returns the interior nodes
// that they complete, as Block.Nodes wants them.
func Extend(r *tlog.Range, leafHashes []digest.Digest) []Node {
	nodes := make([]Node, 0, len(leafHashes))
	r.AppendVisit(leafHashes, func(id tlog.NodeID, hash digest.Digest) {
		if id.Level > 0 {
			nodes = append(nodes, Node{ID: id, Hash: hash})
		}
	})
	return nodes
}

// checkBlock checks the form of a block and that it extends a ledger of
// nextHeight blocks and size leaves. Hashes are the caller's word: it has
// just computed them, and computing them twice would double the cost.
func checkBlock(b *Block, nextHeight, size uint64, lock Lock) error {
	fail := func(format string, args ...any) error {
		return &BatchError{Height: b.Ref.Height, Problem: fmt.Sprintf(format, args...)}
	}
	n := uint64(len(b.Leaves))
	switch {
	case b.Ref.Height != nextHeight:
		return fail("the next height is %d", nextHeight)
	case b.Ref.FirstIndex != size:
		return fail("its first index is %d, the ledger has %d leaves", b.Ref.FirstIndex, size)
	case n == 0 || b.Ref.Size != size+n:
		return fail("it has %d leaves from index %d and says that the size is %d", n, size, b.Ref.Size)
	case uint64(len(b.LeafHashes)) != n:
		return fail("%d leaves have %d leaf hashes", n, len(b.LeafHashes))
	}
	for i, leaf := range b.Leaves {
		if len(leaf) == 0 || len(leaf) > maxFrameBytes {
			return fail("leaf %d has %d bytes, want 1 to %d", i, len(leaf), maxFrameBytes)
		}
	}
	last := -1
	for _, v := range b.RawVectors {
		if v.Leaf <= last || v.Leaf >= len(b.Leaves) {
			return fail("a raw vector belongs to leaf %d, after leaf %d and among %d", v.Leaf, last, n)
		}
		if len(v.Bytes) == 0 || len(v.Bytes) > maxFrameBytes {
			return fail("the raw vector of leaf %d has %d bytes, want 1 to %d", v.Leaf, len(v.Bytes), maxFrameBytes)
		}
		last = v.Leaf
	}
	for i, w := range b.Writes {
		if len(w.Key) == 0 || len(w.Value) == 0 {
			return fail("state write %d has a key of %d and a value of %d bytes", i, len(w.Key), len(w.Value))
		}
		if i > 0 && bytes.Compare(b.Writes[i-1].Key, w.Key) >= 0 {
			return fail("state key %q stands after %q", w.Key, b.Writes[i-1].Key)
		}
	}
	return checkLock(b, lock)
}

// checkLock checks what a replica signed for a block, above an earlier lock.
func checkLock(b *Block, lock Lock) error {
	fail := func(format string, args ...any) error {
		return &BatchError{Height: b.Ref.Height, Problem: fmt.Sprintf(format, args...)}
	}
	if b.Lock.IsZero() {
		if len(b.Cosignature) != 0 {
			return fail("it carries a cosignature and no lock")
		}
		return nil
	}
	// Rule C1: a lock is for this very tree, and heights strictly increase.
	switch own := (Lock{Height: b.Ref.Height, Size: b.Ref.Size, Root: b.Ref.Root}); {
	case b.Lock != own:
		return fail("its lock is height %d, size %d, root %s, the block's is height %d, size %d, root %s",
			b.Lock.Height, b.Lock.Size, b.Lock.Root, own.Height, own.Size, own.Root)
	case !lock.IsZero() && b.Lock.Height <= lock.Height:
		return fail("its lock does not rise above the lock on height %d", lock.Height)
	case len(b.Cosignature) == 0 || len(b.Cosignature) > maxCosignatureBytes:
		return fail("its cosignature has %d bytes, want 1 to %d", len(b.Cosignature), maxCosignatureBytes)
	}
	return nil
}

// checkBatch checks a whole batch against what is committed.
func checkBatch(b *Batch, t *tip) error {
	height, size, lock := t.blocks, t.size, t.lock
	for i := range b.Blocks {
		block := &b.Blocks[i]
		if err := checkBlock(block, height, size, lock); err != nil {
			return err
		}
		height, size = height+1, block.Ref.Size
		if !block.Lock.IsZero() {
			lock = block.Lock
		}
	}
	if b.AppliedIndex < t.applied {
		return &BatchError{Height: height, Problem: fmt.Sprintf("its applied index is %d, %d is committed", b.AppliedIndex, t.applied)}
	}
	last := t.applied
	for _, e := range b.Entries {
		if e.Index <= last || e.Index > b.AppliedIndex {
			return &BatchError{Height: height, Problem: fmt.Sprintf("entry %d is not above %d and up to %d", e.Index, last, b.AppliedIndex)}
		}
		last = e.Index
	}
	return nil
}

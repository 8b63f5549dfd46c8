package storage

import (
	"math/bits"
	"slices"
	"sort"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// recent is what readers find in memory: the newest commit and the newest
// blocks. It is never changed; each commit puts another in its place, so
// readers take no lock.
//
// It holds every node that a proof of a recent leaf can ask for: a sibling on
// the leaf's path is completed by a recent block, or it lies left of all recent
// leaves, and then its parent is not complete there, so it is one of the
// perfect subtrees of the frontier.
type recent struct {
	tip      tip
	head     state.BlockRef // newest block; meaningless while tip.blocks is 0
	blocks   []*recentBlock // consecutive, ending with the newest
	bytes    int64
	first    uint64            // size of the tree before blocks[0]
	frontier [64]digest.Digest // by level: the perfect subtrees of the first leaves, where first has that bit
}

// recentBlock is a block in memory.
type recentBlock struct {
	value  blockValue
	leaves [][]byte
}

func (b *recentBlock) bytes() int64 {
	n := int64(len(b.value.hashes) + len(b.value.nodes) + len(b.value.places))
	for _, leaf := range b.leaves {
		n += int64(len(leaf))
	}
	return n
}

// with is r after a commit that added blocks, within limit bytes.
func (r *recent) with(t tip, added []*recentBlock, limit int64) *recent {
	next := *r
	next.tip = t
	next.blocks = append(slices.Clone(r.blocks), added...)
	for _, b := range added {
		next.bytes += b.bytes()
		next.head = b.value.ref
	}
	for next.bytes > limit && len(next.blocks) > 1 {
		oldest := next.blocks[0]
		next.bytes -= oldest.bytes()
		next.advance(&oldest.value)
		next.blocks = slices.Delete(next.blocks, 0, 1)
	}
	return &next
}

// advance moves the frontier behind a block that leaves memory.
func (r *recent) advance(b *blockValue) {
	size := b.ref.Size
	for level := range uint(bits.Len64(size)) {
		if size>>level&1 == 0 {
			continue
		}
		if id := (tlog.NodeID{Level: level, Index: size>>level - 1}); lastLeaf(id) >= r.first {
			r.frontier[level] = b.node(id)
		}
	}
	r.first = size
}

// node finds a node in memory.
func (r *recent) node(id tlog.NodeID) (digest.Digest, bool) {
	last := lastLeaf(id)
	if b := r.blockOf(last); b != nil {
		return b.value.node(id), true
	}
	if last < r.first && r.first>>id.Level&1 == 1 && id.Index == r.first>>id.Level-1 {
		return r.frontier[id.Level], true
	}
	return digest.Zero, false
}

// blockOf finds the block that holds a leaf, or nil.
func (r *recent) blockOf(index uint64) *recentBlock {
	if len(r.blocks) == 0 || index < r.first || index >= r.tip.size {
		return nil
	}
	i := sort.Search(len(r.blocks), func(i int) bool { return r.blocks[i].value.ref.Size > index })
	return r.blocks[i]
}

// block finds the block of a height, or nil.
func (r *recent) block(height uint64) *recentBlock {
	oldest := r.tip.blocks - uint64(len(r.blocks))
	if height < oldest || height >= r.tip.blocks {
		return nil
	}
	return r.blocks[height-oldest]
}

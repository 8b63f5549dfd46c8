package audit

import (
	"context"
	"iter"
)

// Block is one block as a source has it.
type Block struct {
	Height uint64
	Leaves [][]byte // exact bytes, the header last
	// Raw are the raw vectors by the leaf's place in the block; empty or absent
	// for leaves that are no measurement, and for what the source has lost or let go
	// by a decision (no vector has 0 bytes).
	Raw [][]byte
	// Certificate is the signed note on the tree after this block; nil when the
	// source has none: a later one covers the block.
	Certificate []byte
}

// raw is the vector of a leaf; nil when it is absent.
func (b *Block) raw(leaf int) []byte {
	if leaf < len(b.Raw) && len(b.Raw[leaf]) > 0 {
		return b.Raw[leaf]
	}
	return nil
}

// Source is a ledger to audit: a running replica, or a copied data directory.
// Nothing in it is trusted.
type Source interface {
	// Blocks yields the blocks from a height upwards, without a gap, and ends
	// after the newest. An error is the last it yields. The auditor does not
	// change the bytes; re-executions hold some of them after the block, so the
	// source does not write over them. While it reads, the auditor may call it
	// again for one earlier block.
	Blocks(ctx context.Context, from uint64) iter.Seq2[*Block, error]
}

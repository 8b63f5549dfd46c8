package state

import "github.com/lacre-metrology/lacre/core/digest"

// BlockRef is what the ledger knows of one applied block.
type BlockRef struct {
	Height            uint64
	Header            digest.Digest // of the BlockHeader record's exact bytes
	BlockTimeUnixNano int64         // rule C4
	FirstIndex        uint64        // of the block's first leaf
	Size              uint64        // tree size after the block's header leaf
	Root              digest.Digest // RFC 6962 root at Size
	Config            digest.Digest // configuration in force after the block
	Admin             digest.Digest // running digest of administrative records (rule S6)
	CertifiedHeight   uint64        // what the certificate in its header certifies
}

// View is the ledger up to the newest applied block, as the transition reads
// it. Reads are repeatable while a block is built; a read error stops the
// node, it never decides an outcome.
type View interface {
	// Get returns the state value under key, or nil when there is none. The
	// caller does not change the bytes.
	Get(key []byte) ([]byte, error)
	// Block returns the block at a height; ok is false above the newest.
	Block(height uint64) (ref BlockRef, ok bool, err error)
	// Record returns the exact bytes of the leaf at an index below the tree's size.
	Record(index uint64) ([]byte, error)
}

// Remembering is a View whose values stay decoded from one use to the next.
type Remembering interface {
	View
	// Memory is the same for all views of a ledger.
	Memory() *Memory
}

// Write sets one state value. A block's writes are sorted by key, each key
// once; values are never empty and never deleted.
type Write struct {
	Key   []byte
	Value []byte
}

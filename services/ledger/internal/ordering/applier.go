package ordering

import (
	"context"

	"github.com/lacre-metrology/lacre/core/digest"
)

// Applier is the replicated state: it consumes what was ordered. The engine
// calls ApplyBatch, SnapshotPointer and RestorePointer from one goroutine at a
// time; AppliedIndex and AppliedDigest may be called from any.
type Applier interface {
	// ApplyBatch applies entries, in order and all or none, and makes their
	// effects, their digests and the index of the last of them durable in one
	// transaction (rule R4) before it returns. It answers with one response for
	// each entry. Entries are above AppliedIndex and ascend; their indices may
	// have gaps.
	//
	// An entry that makes no sense still applies (rule C5): its response says
	// so. An error means that this node cannot go on (disk, unknown version,
	// data loss): the engine never calls the Applier again and Run returns the
	// error, wrapped. The batch may have become durable all the same; the next
	// start finds out by AppliedIndex.
	ApplyBatch(entries []Entry) (responses []any, err error)

	// AppliedIndex is the highest index whose effects are durable: the last
	// entry of the last ApplyBatch, or the index that came with RestorePointer.
	// After a start, the engine gives no entry up to it again.
	AppliedIndex() uint64

	// AppliedDigest is the digest of the entry that was applied at index; false
	// when none is kept (not an entry of ours, or it came by RestorePointer). The
	// engine compares it with what it is told to apply there (rule R2); keep it
	// for as long as the engine keeps entries: from the index of the last
	// SnapshotPointer at the least.
	AppliedDigest(index uint64) (digest.Digest, bool)

	// SnapshotPointer names the present state in a few bytes (height, header
	// digest, configuration, AppliedIndex and whatever RestorePointer needs): at
	// most MaxPointer. It never dumps state. It must return quickly.
	SnapshotPointer() ([]byte, error)

	// RestorePointer brings this node to the state that another node's
	// SnapshotPointer named, by fetching blocks from peers and verifying each
	// against certificates, on top of the blocks that it holds: it never discards
	// a block (rule R0). Afterwards AppliedIndex is exactly the index at which
	// the pointer was made, durably. When the state is that far already it does
	// nothing. When the pointer contradicts blocks held here it returns
	// reason.DataLoss, which stops the node; another error lets the engine try
	// again. It returns soon after ctx ends.
	RestorePointer(ctx context.Context, pointer []byte) error
}

// MaxPointer bounds a snapshot pointer, in bytes.
const MaxPointer = 64 << 10

// Entry is an ordered entry.
type Entry struct {
	Index  uint64        // its place; above that of the entry before
	Data   []byte        // exactly what was proposed; read-only, valid until ApplyBatch returns
	Digest digest.Digest // digest.Of(digest.Entry, Data)
}

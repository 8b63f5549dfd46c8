// Package storage keeps one replica's ledger on disk: the bytes of records and
// raw vectors, the Merkle tree, the state, the replica's lock and its place in
// the ordering log.
//
// Source: architecture, "Storage and durability", rules C1, C2, R2, R4;
// RFC 6962 section 2.1 for the tree; the bbolt file format
// (go.etcd.io/bbolt v1.5.0, internal/common).
//
//	dir/LOCK             held by the one process that may write
//	dir/store.db         bbolt: everything but the bytes of leaves and raw vectors
//	dir/segments/*.seg   frames of bytes, append only (segment.go)
//	dir/segments/*.rec   records of a full segment, in compressed groups (packedfile.go)
//	dir/segments/*.raw   its raw vectors
//
// Invariants:
//   - Bytes first: a block's frames are fsynced before the one bbolt
//     transaction that makes the block exist. So what bbolt knows is on disk,
//     and a crash leaves all of a batch or none of it.
//   - That transaction also holds the state, the lock, the cosignature, the
//     applied index and the digests of entries: none is ever ahead of another.
//   - Segment bytes below the committed tail never change; bytes above it
//     belong to no block, and opening removes them. A full segment is packed once,
//     as a whole: its frames give way to two files with the same items, and a
//     transaction says which form counts (pack.go).
//   - Every value in bbolt carries a CRC-32C over table, key and value; every
//     frame one over length, kind, leaf index and bytes. Reads check them.
//     Accidents are found on reading; Verify finds what digests can show.
//   - Each page of counters is in one of two tables, the newest ones of all meters
//     together (counterpages.go).
//   - Raw vectors of the oldest packed segments may be in cold storage (cold.go).
//   - One that is absent is counted so, and a decision in the state covers its block
//     (expire.go); else it is damage.
//   - Damage is reported (DataLossError), never repaired and never served.
//
// Known holes. (1) Whoever can write the files can compute checksums too: a
// state value that was replaced together with its checksum is found only by
// replaying the records, which is the auditor's work, not Verify's. (2) A disk
// that acknowledges flushes it did not do, or an old copy of the whole
// directory, is consistent and stale; rule C7 asks the other replicas. (3) When
// bbolt's own fsync fails, the kernel may show pages that are not on disk: the
// store refuses further writes, and the operator should distrust the disk.
package storage

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/platform/durable"
	"go.etcd.io/bbolt"
)

// Options tune a store. The zero value serves a replica.
type Options struct {
	// SegmentBytes is the size at which a segment file is full; 0 means 64 MiB.
	SegmentBytes int64
	// CacheBytes bounds the leaves and hashes of recent blocks kept in memory;
	// 0 means 64 MiB. The newest block is always kept.
	CacheBytes int64
	// MapBytes is the address space reserved for store.db; 0 means 4 GiB.
	// A commit that outgrows it waits for all readers, then maps a larger one.
	MapBytes int
	// Holder is written into the lock file, for whoever finds it held.
	Holder string

	// Cold is where raw vectors of old segments are; nil: they are all here, or
	// those that are not cannot be read.
	Cold Cold
	// ColdTimeout bounds one request to it; 0 means 30 s.
	ColdTimeout time.Duration
	// SkipCold lets Verify pass over raw vectors in cold storage.
	SkipCold bool

	// disk does the writes; tests put a breaking one here.
	disk disk
	// damaged opens although values of store.db are; see OpenDamaged.
	damaged bool
}

const (
	defaultCacheBytes = 64 << 20
	defaultMapBytes   = 4 << 30

	// entriesKept is how many applied indices keep their entry's digest (rule
	// R2): more than the entries that the ordering log itself keeps.
	entriesKept = 16384
	// maxCosignatureBytes bounds a replica's own signature lines.
	maxCosignatureBytes = 4096
	// memoryBytes bounds the state values that stay decoded: those of about 30,000
	// meters, which take some 100 MiB.
	memoryBytes = 16 << 20
)

var (
	_ state.Remembering = (*Store)(nil)
	_ tlog.Nodes        = (*Store)(nil)
)

// Store is one replica's ledger on disk. All methods are safe for concurrent
// use; writes are serialised, reads see what was committed when they began.
type Store struct {
	dir     string
	options Options
	lock    *durable.Lock // nil when reading only
	db      *bbolt.DB

	recent atomic.Pointer[recent] // replaced whole by the writer
	packed packed
	hot    hot
	memory *state.Memory // of the values of the state

	packing sync.RWMutex // held by Pack; for reading by Backup, which wants the files to stay

	full    chan struct{} // told when a segment is full, or raw vectors expired; has room for one
	writing sync.Mutex    // held by Commit, PutCertificates, RefreshCosignature, Close
	tail    *tail         // the open segment; under writing; nil when reading only
	tip     tip           // what the newest transaction committed; under writing
	failed  error         // the first failed write; under writing
	closed  bool          // under writing
}

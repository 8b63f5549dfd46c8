package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/platform/durable"
	"go.etcd.io/bbolt"
)

const (
	// recoverBlocks is how many of the newest blocks opening re-hashes: the ones
	// that a crash can have touched, and those that readers want first.
	recoverBlocks = 8
	// lockTimeout bounds the wait for bbolt's own file lock.
	lockTimeout = 100 * time.Millisecond
)

// Open opens the store in dir for writing, and makes an empty one where there
// is none. It removes what an interrupted commit left behind the committed
// tail, and re-hashes the newest blocks. The error is a *durable.LockedError if
// another process writes here, and a *DataLossError if committed bytes are
// missing or damaged; nothing is changed then.
func Open(dir string, options Options) (*Store, error) {
	s := newStore(dir, options)
	if err := os.MkdirAll(filepath.Join(dir, segmentsDir), 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := durable.LockDir(dir, s.options.Holder)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.lock = lock
	if err := s.create(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.openDB(false); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenReadOnly opens a directory that no process writes to, usually a copy, for
// reading and Verify; it changes nothing, not even behind the committed tail.
// Beyond what Open checks it walks all pages of store.db, so that damage there
// comes as a *DataLossError and not as a crash.
func OpenReadOnly(dir string, options Options) (*Store, error) {
	s := newStore(dir, options)
	if err := checkPages(filepath.Join(dir, dbName)); err != nil {
		return nil, err
	}
	if err := s.openDB(true); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newStore(dir string, options Options) *Store {
	if options.SegmentBytes <= 0 {
		options.SegmentBytes = defaultSegmentBytes
	}
	if options.CacheBytes <= 0 {
		options.CacheBytes = defaultCacheBytes
	}
	if options.MapBytes <= 0 {
		options.MapBytes = defaultMapBytes
	}
	if options.Holder == "" {
		options.Holder = "ledger store"
	}
	if options.disk == nil {
		options.disk = osDisk{}
	}
	s := &Store{dir: dir, options: options}
	s.recent.Store(&recent{})
	return s
}

// Close releases the store; it waits for writes and reads under way.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if s.tail != nil && s.tail.file != nil {
		errs = append(errs, s.tail.file.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}

// create makes an empty store.db under its name in one step, if there is none
// and the directory holds no segment: a store that lost its database must not
// look like a new one.
func (s *Store) create() error {
	path := filepath.Join(s.dir, dbName)
	switch _, err := os.Stat(path); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open store: %w", err)
	}
	numbers, err := s.segments()
	if err != nil {
		return err
	}
	if len(numbers) > 0 {
		return &DataLossError{
			Height: None, Index: None, File: dbName, Offset: None,
			What: fmt.Sprintf("the database is missing, and there are %d segments", len(numbers)),
		}
	}
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("create store: %w", err)
	}
	db, err := bbolt.Open(temporary, 0o600, s.boltOptions(false))
	if err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, t := range tables {
			if _, err := tx.CreateBucket([]byte(t)); err != nil {
				return fmt.Errorf("create table %s: %w", t, err)
			}
		}
		return errors.Join((&tip{}).write(tx), certificateTip{}.write(tx))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("create store: %w", err)
	}
	// The directory itself, and its entry in its parent, must survive too.
	return errors.Join(durable.SyncDir(s.dir), durable.SyncDir(filepath.Dir(s.dir)))
}

func (s *Store) boltOptions(readOnly bool) *bbolt.Options {
	o := &bbolt.Options{
		Timeout:  lockTimeout,
		ReadOnly: readOnly,
		// The array's cost grows with fragmentation; the map's does not.
		FreelistType: bbolt.FreelistMapType,
		// The freelist stays small here (next to nothing is ever deleted), so
		// writing it costs about a page for each commit. Without it, opening
		// walks every page of the file, and bbolt panics in a goroutine of its
		// own, out of our reach, when one of them is damaged.
		NoFreelistSync: false,
		NoStatistics:   true, // spares a lock for each transaction
	}
	if !readOnly {
		// A commit that outgrows the map waits for all readers and maps anew.
		// Address space is free, so reserve enough that it happens rarely.
		o.InitialMmapSize = s.options.MapBytes
	}
	return o
}

func (s *Store) openDB(readOnly bool) error {
	path := filepath.Join(s.dir, dbName)
	// bbolt falls back to the older of its two meta pages without a word when
	// the newer is damaged, and so forgets the newest commit, lock included.
	if _, err := readMeta(path); err != nil {
		return err
	}
	err := guarded(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, s.boltOptions(readOnly))
		return err
	})
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
}

// recover loads the store for writing and cuts off what was never committed.
func (s *Store) recover() error {
	if err := s.load(); err != nil {
		return err
	}
	s.tail = &tail{dir: s.dir, disk: s.options.disk, limit: s.options.SegmentBytes, end: s.tip.end, written: s.tip.end.offset}
	numbers, err := s.segments()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n <= s.tip.end.segment {
			continue
		}
		if err := os.Remove(segmentPath(s.dir, n)); err != nil {
			return fmt.Errorf("remove a segment that was never committed: %w", err)
		}
	}
	if err := s.options.disk.SyncDir(filepath.Join(s.dir, segmentsDir)); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if s.tip.end.segment == 0 {
		return nil
	}
	file, err := s.options.disk.Open(segmentPath(s.dir, s.tip.end.segment))
	if err != nil {
		return err
	}
	s.tail.file = file
	if err := file.Truncate(s.tip.end.offset); err != nil {
		return fmt.Errorf("cut %s off at byte %d: %w", segmentName(s.tip.end.segment), s.tip.end.offset, err)
	}
	return file.Sync()
}

// load reads the tip, checks that the segments are there, re-hashes the newest
// blocks and puts them into memory.
func (s *Store) load() error {
	var t tip
	err := view(s.db, func(tx *bbolt.Tx) (err error) {
		t, err = readTip(tx)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.checkSegments(&t); err != nil {
		return err
	}
	s.tip = t
	first := t.blocks - min(t.blocks, recoverBlocks)
	r := &recent{tip: tip{blocks: first}}
	var prev *blockValue
	if first > 0 {
		s.recent.Store(r)
		value, _, err := s.copyBlock(first - 1)
		if err != nil {
			return err
		}
		prev, r = &value, &recent{tip: tip{blocks: first, size: value.ref.Size}}
	}
	// Nothing is in memory yet, so these nodes come from the disk.
	s.recent.Store(r)
	tree, err := s.Range()
	if err != nil {
		return err
	}
	loaded := &recent{first: r.tip.size}
	for level := range uint(len(loaded.frontier)) {
		if r.tip.size>>level&1 == 0 {
			continue
		}
		if loaded.frontier[level], err = s.Node(tlog.NodeID{Level: level, Index: r.tip.size>>level - 1}); err != nil {
			return err
		}
	}
	s.recent.Store(&recent{tip: t})
	check, err := newBlockCheck(s.dir, tree, prev)
	if err != nil {
		return err
	}
	defer check.frames.close()
	var added []*recentBlock
	for height := first; height < t.blocks; height++ {
		value, _, err := s.copyBlock(height)
		if err != nil {
			return err
		}
		leaves, problems := check.block(&value)
		if len(problems) > 0 {
			return problems[0]
		}
		if t.lock.Height == height && !t.lock.IsZero() {
			if problem := lockedBlock(t.lock, &value); problem != nil {
				return problem
			}
		}
		added = append(added, &recentBlock{value: value, leaves: leaves})
	}
	if problem := check.tip(&t); problem != nil {
		return problem
	}
	s.recent.Store(loaded.with(t, added, s.options.CacheBytes))
	return nil
}

// segments lists the numbers of the segment files, in order.
func (s *Store) segments() ([]uint32, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, segmentsDir))
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var numbers []uint32
	for _, e := range entries {
		name, isSegment := strings.CutSuffix(e.Name(), ".seg")
		n, err := strconv.ParseUint(name, 10, 32)
		if !isSegment || err != nil {
			continue // not ours; a note that somebody left stops no replica
		}
		numbers = append(numbers, uint32(n))
	}
	return numbers, nil
}

// checkSegments checks that each committed segment is there and that the last
// one reaches the committed tail.
func (s *Store) checkSegments(t *tip) error {
	numbers, err := s.segments()
	if err != nil {
		return err
	}
	present := make(map[uint32]bool, len(numbers))
	for _, n := range numbers {
		present[n] = true
	}
	for n := uint32(1); n <= t.end.segment; n++ {
		if !present[n] {
			return s.firstLost(t, position{segment: n}, fmt.Sprintf("the segment is missing, %d are committed", t.end.segment))
		}
	}
	if t.end.segment == 0 {
		return nil
	}
	info, err := os.Stat(segmentPath(s.dir, t.end.segment))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if size := info.Size(); size < t.end.offset {
		return s.firstLost(t, position{segment: t.end.segment, offset: size},
			fmt.Sprintf("the segment ends at byte %d, bytes up to %d are committed", size, t.end.offset))
	}
	return nil
}

// firstLost names the first committed frame that reaches beyond a position,
// where bytes are known to be gone.
func (s *Store) firstLost(t *tip, at position, what string) error {
	lost := &DataLossError{Height: None, Index: None, File: segmentName(at.segment), Offset: at.offset, What: what}
	err := view(s.db, func(tx *bbolt.Tx) error {
		// The last block that begins at or before the position, else the first.
		low, high := uint64(0), t.blocks
		for low+1 < high {
			middle := (low + high) / 2
			b, err := readBlock(tx, middle)
			if err != nil {
				return err
			}
			if b.start.after(at) {
				high = middle
			} else {
				low = middle
			}
		}
		for ; low < t.blocks; low++ {
			b, err := readBlock(tx, low)
			if err != nil {
				return err
			}
			found := false
			err = b.place(func(i int, p placed) bool {
				if found = p.end().after(at); !found {
					return true
				}
				lost.Height, lost.Index = int64(low), int64(b.ref.FirstIndex)+int64(i) //nolint:gosec // G115: shown to people only.
				lost.Want = b.leafHash(i)
				return false
			})
			if found || err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(lost, err)
}

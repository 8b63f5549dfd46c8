package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/platform/durable"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// lockTimeout bounds the wait for bbolt's own file lock.
const lockTimeout = 100 * time.Millisecond

// Open opens the store in dir for writing, and makes an empty one where there
// is none. It removes what an interrupted commit left behind the committed
// tail, checks all of store.db, and re-hashes the newest blocks. The error is a *durable.LockedError if
// another process writes here, a *DataLossError if committed bytes are missing
// or damaged, and of reason.UnsupportedVersion if a later program wrote the
// store; nothing is changed then.
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
// reading and Verify; it changes nothing, not even behind the committed tail. It
// checks what Open checks.
func OpenReadOnly(dir string, options Options) (*Store, error) {
	s := newStore(dir, options)
	if err := s.openDB(true); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenDamaged is OpenReadOnly for an auditor: it opens as long as the pages of
// store.db hold together and its newest commit can be read, and leaves it to
// Verify to name what else is damaged. Reads check what they read.
func OpenDamaged(dir string, options Options) (*Store, error) {
	s := newStore(dir, options)
	s.options.damaged = true
	if err := s.openDB(true); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.loadUnchecked(); err != nil {
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
	if options.ColdTimeout <= 0 {
		options.ColdTimeout = defaultColdTimeout
	}
	if options.Holder == "" {
		options.Holder = "ledger store"
	}
	if options.disk == nil {
		options.disk = systemDisk()
	}
	s := &Store{dir: dir, options: options, memory: state.NewMemory(memoryBytes), full: make(chan struct{}, 1)}
	s.packed.dir, s.packed.of = dir, s.packedSegment
	s.packed.away, s.packed.timeout = options.Cold, options.ColdTimeout
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
	// the newer is damaged, and so forgets the newest commit, lock included; it
	// runs in circles over damaged pages; and it answers that there is no such
	// key when a flipped bit made another of it.
	if err := checkPages(path, s.options.damaged); err != nil {
		return err
	}
	err := guarded(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, s.boltOptions(readOnly))
		return err
	})
	if errors.Is(err, berrors.ErrTimeout) {
		return fmt.Errorf("open store: another process has %s open: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	return nil
}

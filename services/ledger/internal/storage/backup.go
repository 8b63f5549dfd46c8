package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// Copied is the state that a backup holds.
type Copied struct {
	Blocks       uint64 // the newest has height Blocks-1
	Size         uint64 // leaves
	AppliedIndex uint64
	Segments     uint32 // number of the newest segment
	Packed       uint32 // segments up to this one are packed
	Cold         uint32 // raw vectors of segments up to this one are in cold storage, and not in the backup
	Dropped      uint32 // raw vectors of segments up to this one expired
	TailBytes    int64  // of the newest segment
}

// Give takes one file of a backup: its name relative to the store's directory,
// its size, and what writes exactly so many bytes.
type Give func(name string, size int64, content func(io.Writer) error) error

// Held is what an earlier backup of the same store gave: its full segments, and
// how many of them were packed.
type Held struct {
	Segments uint32
	Packed   uint32 // at most Segments
}

// Backup gives the files of one committed state, while commits go on: first
// store.db, as a read transaction sees it, then the segments up to the committed
// tail that an earlier backup does not hold in their present form: bytes below a
// tail never change but by packing, so a backup may be continued by another. Reading
// long from give keeps store.db from reusing pages only while that file is given;
// nothing is packed until the end.
func (s *Store) Backup(ctx context.Context, have Held, give Give) (Copied, error) {
	s.packing.RLock()
	defer s.packing.RUnlock()
	t, err := s.copyDB(give)
	if err != nil {
		return Copied{}, err
	}
	if (have.Segments > 0 && have.Segments >= t.end.segment) || have.Packed > t.packed || have.Packed > have.Segments {
		return Copied{}, fmt.Errorf("backup: segments up to %d are said to be full and there, up to %d packed; the newest here is %d, and %d are packed: it is of another replica, or of a later state",
			have.Segments, have.Packed, t.end.segment, t.packed)
	}
	for number := have.Packed + 1; number <= t.end.segment; number++ {
		if err := ctx.Err(); err != nil {
			return Copied{}, err
		}
		switch {
		case number <= t.packed:
			for _, k := range packedKinds {
				if k == kindRawVector && number <= max(t.cold, t.dropped) {
					continue // cold storage has it, or nobody
				}
				err = errors.Join(err, s.copyFile(packedName(number, k), None, give))
			}
		case number == t.end.segment:
			err = s.copyFile(segmentName(number), t.end.offset, give)
		case number > have.Segments:
			err = s.copyFile(segmentName(number), None, give)
		}
		if err != nil {
			return Copied{}, err
		}
	}
	return Copied{Blocks: t.blocks, Size: t.size, AppliedIndex: t.applied, Segments: t.end.segment, Packed: t.packed, Cold: t.cold, Dropped: t.dropped, TailBytes: t.end.offset}, nil
}

// copyDB gives store.db and returns what the copy holds.
func (s *Store) copyDB(give Give) (tip, error) {
	tx, err := s.begin()
	if err != nil {
		return tip{}, err
	}
	defer tx.Rollback() //nolint:errcheck // a read transaction has nothing to lose.
	t, err := readTip(tx)
	if err != nil {
		return t, err
	}
	return t, give(dbName, tx.Size(), func(w io.Writer) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// begin is a read transaction on the newest committed state.
func (s *Store) begin() (*bbolt.Tx, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	tx, err := s.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return tx, nil
}

// copyFile gives a segment's file, or its first size bytes.
func (s *Store) copyFile(name string, size int64, give Give) (err error) {
	file, err := os.Open(filepath.Join(s.dir, filepath.FromSlash(name)))
	if err != nil {
		return &DataLossError{Height: None, Index: None, File: name, Offset: None, What: "the segment cannot be opened", Cause: err}
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if size == None {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		size = info.Size()
	}
	return give(name, size, func(w io.Writer) error {
		if n, err := io.CopyN(w, file, size); err != nil {
			return fmt.Errorf("%s: %d of %d bytes can be read: %w", name, n, size, err)
		}
		return nil
	})
}

// IsBackupName tells whether Backup gives a file of that name, and if it is a
// segment's its number.
func IsBackupName(name string) (segment uint32, ok bool) {
	if name == dbName {
		return 0, true
	}
	dir, file := path.Split(name)
	if dir != segmentsDir+"/" {
		return 0, false
	}
	segment, _, ok = segmentFileName(file)
	return segment, ok
}

// RawName is the name of a packed segment's file of raw vectors.
func RawName(segment uint32) string { return packedName(segment, kindRawVector) }

// PlainName is the name of a segment's file before it is packed.
func PlainName(segment uint32) string { return segmentName(segment) }

// ForgetApplied makes the store one whose ordering log is gone: nothing counts as
// applied. Whoever calls it has noted up to which entry the blocks that are here
// hold the effects (rule R4). It is durable when it returns; errors are as in
// Commit.
//
// It commits twice. bbolt's copy has its newer meta page first, whatever the
// number of its transaction, and the next commit goes where that number says: in
// every other copy over the newer one. What is then left are two that do not
// follow each other, which opening takes for a lost commit.
func (s *Store) ForgetApplied() error {
	for range 2 {
		if err := s.forgetApplied(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) forgetApplied() error {
	return s.write(func() error {
		next := s.tip
		next.applied, next.entries = 0, 0
		err := s.update(func(tx *bbolt.Tx) error {
			if err := tx.DeleteBucket([]byte(tableEntries)); err != nil {
				return fmt.Errorf("drop table %s: %w", tableEntries, err)
			}
			if _, err := tx.CreateBucket([]byte(tableEntries)); err != nil {
				return fmt.Errorf("create table %s: %w", tableEntries, err)
			}
			return next.write(tx)
		})
		if err == nil {
			s.publish(next, nil)
		}
		return err
	})
}

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// Copied is the state that a backup holds.
type Copied struct {
	Blocks       uint64 // the newest has height Blocks-1
	Size         uint64 // leaves
	AppliedIndex uint64
	Segments     uint32 // number of the newest segment
	TailBytes    int64  // of the newest segment
}

// Give takes one file of a backup: its name relative to the store's directory,
// its size, and what writes exactly so many bytes.
type Give func(name string, size int64, content func(io.Writer) error) error

// Backup gives the files of one committed state, while commits go on: first
// store.db, as a read transaction sees it, then the segments above have up to
// the committed tail. Segments up to have are full and were given before: bytes
// below a tail never change, so a backup may be continued by another. Reading
// long from give keeps store.db from reusing pages only while that file is given.
func (s *Store) Backup(ctx context.Context, have uint32, give Give) (Copied, error) {
	t, err := s.copyDB(give)
	if err != nil {
		return Copied{}, err
	}
	if have > 0 && have >= t.end.segment {
		return Copied{}, fmt.Errorf("backup: segments up to %d are said to be full and there, the newest here is %d: it is of another replica, or of a later state", have, t.end.segment)
	}
	for number := have + 1; number <= t.end.segment; number++ {
		if err := ctx.Err(); err != nil {
			return Copied{}, err
		}
		if err := s.copySegment(number, &t, give); err != nil {
			return Copied{}, err
		}
	}
	return Copied{Blocks: t.blocks, Size: t.size, AppliedIndex: t.applied, Segments: t.end.segment, TailBytes: t.end.offset}, nil
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

func (s *Store) copySegment(number uint32, t *tip, give Give) (err error) {
	file, err := os.Open(segmentPath(s.dir, number))
	if err != nil {
		return &DataLossError{Height: None, Index: None, File: segmentName(number), Offset: None, What: "the segment cannot be opened", Cause: err}
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size := t.end.offset
	if number < t.end.segment {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		size = info.Size()
	}
	return give(segmentName(number), size, func(w io.Writer) error {
		if n, err := io.CopyN(w, file, size); err != nil {
			return fmt.Errorf("%s: %d of %d bytes can be read: %w", segmentName(number), n, size, err)
		}
		return nil
	})
}

// IsBackupName tells whether Backup gives a file of that name, and if it is a
// segment its number.
func IsBackupName(name string) (segment uint32, ok bool) {
	if name == dbName {
		return 0, true
	}
	_, err := fmt.Sscanf(name, segmentsDir+"/%010d.seg", &segment)
	return segment, err == nil && name == segmentName(segment)
}

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

package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// tamper changes store.db through bbolt itself, so that its pages are sound.
func tamper(t *testing.T, dir string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, dbName), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	must(t, err)
	must(t, errors.Join(db.Update(f), db.Close()))
}

// mustBeFound checks that opening or verifying reports data loss.
func mustBeFound(t *testing.T, dir string) {
	t.Helper()
	_, problems, err := inspect(dir, OpenReadOnly)
	var lost *DataLossError
	if len(problems) == 0 && !errors.As(err, &lost) {
		t.Fatalf("nothing was found (%v)", err)
	}
}

// A value that is missing from a table, or stands under another's key or in
// another's table, is found.
func TestMissingAndMisplacedValuesAreFound(t *testing.T) {
	damageable := func(t *testing.T) (string, string) {
		dir, want := damageable(t)
		packedToo(t, dir, 3)
		return dir, want
	}
	for _, table := range tables {
		t.Run("missing from "+string(table), func(t *testing.T) {
			dir, _ := damageable(t)
			tamper(t, dir, func(tx *bbolt.Tx) error {
				c := tx.Bucket([]byte(table)).Cursor()
				c.First()
				return c.Delete()
			})
			mustBeFound(t, dir)
		})
		t.Run("swapped in "+string(table), func(t *testing.T) {
			dir, _ := damageable(t)
			tamper(t, dir, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte(table))
				first, one := b.Cursor().First()
				last, other := b.Cursor().Last()
				if bytes.Equal(first, last) {
					last = number(7) // a table of one value: copy it
				}
				first, last, one, other = clone(first), clone(last), clone(one), clone(other)
				return errors.Join(b.Put(first, other), b.Put(last, one))
			})
			mustBeFound(t, dir)
		})
		t.Run("whole table gone: "+string(table), func(t *testing.T) {
			dir, _ := damageable(t)
			tamper(t, dir, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(table)) })
			mustBeFound(t, dir)
		})
	}
	t.Run("from another table", func(t *testing.T) {
		dir, _ := damageable(t)
		tamper(t, dir, func(tx *bbolt.Tx) error {
			value := clone(tx.Bucket([]byte(tableEntries)).Get(number(3)))
			return tx.Bucket([]byte(tableFirsts)).Put(number(3), value)
		})
		mustBeFound(t, dir)
	})
}

// Rule C1: one meta page from an older copy of the file is noticed, where
// bbolt would go on from either.
func TestC1_MetaPagesOfTransactionsApartAreFound(t *testing.T) {
	dir, old := t.TempDir(), make([]byte, 2*os.Getpagesize())
	s := mustOpen(t, dir, small())
	m := newMaker(t, 60)
	fill(t, s, m, 2)
	f, err := os.Open(filepath.Join(dir, dbName))
	must(t, err)
	_, err = f.ReadAt(old, 0)
	must(t, errors.Join(err, f.Close()))
	fill(t, s, m, 12)
	must(t, s.Close())
	for page := range 2 {
		undo := patch(t, filepath.Join(dir, dbName), int64(page*os.Getpagesize()), old[page*os.Getpagesize():][:os.Getpagesize()])
		mustBeFound(t, dir)
		_, err := Open(dir, small())
		var lost *DataLossError
		if !errors.As(err, &lost) {
			t.Fatalf("opened with meta page %d of an older copy: %v", page, err)
		}
		undo()
	}
	mustVerify(t, mustOpen(t, dir, small()))
}

// Opening cuts off what was never committed, to the byte, and bytes between two
// segments' frames are found.
func TestTailIsCutAndFullSegmentsEndWithTheirFrames(t *testing.T) {
	dir, want := damageable(t)
	s := mustOpen(t, dir, small())
	end := s.tip.end
	must(t, s.Close())
	add := func(number uint32) {
		f, err := os.OpenFile(segmentPath(dir, number), os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		_, err = f.WriteString("more")
		must(t, errors.Join(err, f.Close()))
	}
	add(end.segment)
	must(t, os.WriteFile(segmentPath(dir, end.segment+1), nil, 0o600))
	s = mustOpen(t, dir, small())
	info, err := os.Stat(segmentPath(dir, end.segment))
	must(t, err)
	if info.Size() != end.offset {
		t.Fatalf("the tail has %d bytes, want %d", info.Size(), end.offset)
	}
	if _, err := os.Stat(segmentPath(dir, end.segment+1)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a segment that was never committed: %v", err)
	}
	if mustDump(t, s) != want {
		t.Fatal("recovery changed the ledger")
	}
	must(t, s.Close())
	add(1)
	mustBeFound(t, dir)
}

package storage

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// copyTo is a backup in a directory, file by file.
func copyTo(t *testing.T, s *Store, dir string, have Held) Copied {
	t.Helper()
	copied, err := s.Backup(t.Context(), have, func(name string, size int64, content func(io.Writer) error) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := content(file); err != nil {
			return err
		}
		info, err := file.Stat()
		if err == nil && info.Size() != size {
			err = fmt.Errorf("%s has %d bytes, %d were announced", name, info.Size(), size)
		}
		if err != nil {
			return err
		}
		return file.Close()
	})
	must(t, err)
	return copied
}

// A copy of any transaction, odd or even, is a store that goes on: it opens after
// each commit upon it.
func TestBackupGoesOn(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{SegmentBytes: 4 << 10})
	m := newMaker(t, 70)
	for round := range 4 {
		must(t, s.Commit(m.batch(m.block(3, 300, 500))))
		dir := t.TempDir()
		copied := copyTo(t, s, dir, Held{})
		if copied.Blocks != uint64(round+1) || copied.AppliedIndex != s.AppliedIndex() {
			t.Errorf("copied is %+v", copied)
		}
		c := mustOpen(t, dir, Options{})
		must(t, c.ForgetApplied())
		must(t, c.Close())
		for range 3 {
			c = mustOpen(t, dir, Options{})
			if c.AppliedIndex() != 0 || c.Lock() != s.Lock() {
				t.Errorf("applied index %d, lock %+v", c.AppliedIndex(), c.Lock())
			}
			report, err := c.Verify(t.Context(), nil)
			if err != nil || report.Err() != nil || report.Blocks != copied.Blocks {
				t.Errorf("round %d: %v, %v", round, err, report.Err())
			}
			must(t, c.RefreshCosignature(c.Lock(), c.Cosignature()))
			must(t, c.Close())
		}
	}
}

func TestBackupNames(t *testing.T) {
	for name, want := range map[string]uint32{"store.db": 0, "segments/0000000007.seg": 7, "segments/0000000008.rec": 8, "segments/4294967295.raw": 4294967295} {
		if got, ok := IsBackupName(name); !ok || got != want {
			t.Errorf("%q: %d %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "LOCK", "../store.db", "segments/7.seg", "segments/0000000007.seg/x", "segments/../0000000007.seg", "segments/00000000007.seg", "segments/0000000000.rec", "segments/0000000007.zst", "segments/x/0000000007.rec", "segments/4294967296.raw"} {
		if got, ok := IsBackupName(name); ok {
			t.Errorf("%q is taken for segment %d", name, got)
		}
	}
}

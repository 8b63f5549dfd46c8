package storage

import (
	"os"
	"testing"
)

// Every byte of the segments is a record's, a raw vector's or a head's, and the
// tables fit into the file.
func TestUsageAddsUp(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{SegmentBytes: 8 << 10})
	m := newMaker(t, 60)
	for range 5 {
		must(t, s.Commit(m.batch(m.block(6, 500, 900))))
	}
	u, err := s.Usage(t.Context())
	must(t, err)
	numbers, err := s.segments()
	must(t, err)
	files := int64(0)
	for _, n := range numbers {
		info, err := os.Stat(segmentPath(dir, n))
		must(t, err)
		files += info.Size()
	}
	if u.SegmentBytes != files || u.RawVectors != 30 || u.RawBytes != 30*(900+frameHeaderBytes) {
		t.Errorf("usage is %+v, the segments have %d bytes", u, files)
	}
	held := int64(0)
	for _, table := range u.Tables {
		held += table.Allots
		if table.Used > table.Allots {
			t.Errorf("table %+v", table)
		}
	}
	if held+u.FreeBytes != u.DBBytes || u.Tables[1].Keys != 5 {
		t.Errorf("tables of %d bytes and %d free ones are not %d: %+v", held, u.FreeBytes, u.DBBytes, u.Tables)
	}
}

package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// A store of enough blocks that opening does not look at the first ones.
func damageable(t testing.TB) (dir, want string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir, Options{SegmentBytes: 700, CacheBytes: 1, MapBytes: 1 << 15, disk: newBreakingDisk(0, lost)})
	m := newMaker(t, 30)
	for i := range recoverBlocks + 4 {
		must(t, s.Commit(m.batch(m.block(i%2, 120, 40))))
	}
	must(t, s.PutCertificates([]Certificate{{4, []byte("certificate of 4")}}))
	want = mustDump(t, s)
	must(t, s.Close())
	return dir, want
}

// packedToo packs the first n segments of a store in a directory, whose answers
// stay the same.
func packedToo(t testing.TB, dir string, n int) {
	t.Helper()
	o := small()
	o.SegmentBytes = 700
	s := mustOpen(t, dir, o)
	before := mustDump(t, s)
	for i := range n {
		done, err := s.Pack(context.Background(), nil)
		must(t, err)
		if !done {
			t.Fatalf("%d segments were packed, want %d", i, n)
		}
	}
	if mustDump(t, s) != before {
		t.Fatal("packing changed what the store answers")
	}
	must(t, s.Close())
}

// inspect opens a directory, verifies it and reads everything.
func inspect(dir string, open func(string, Options) (*Store, error)) (answers string, problems []*DataLossError, err error) {
	s, err := open(dir, small())
	if err != nil {
		return "", nil, err
	}
	defer s.Close()
	report, err := s.Verify(context.Background(), nil)
	if err != nil {
		return "", nil, err
	}
	if len(report.Problems) > 0 {
		return "", report.Problems, nil
	}
	answers, err = dump(s)
	return answers, nil, err
}

// patch overwrites bytes of a file and returns what undoes it.
func patch(t testing.TB, path string, offset int64, b []byte) (undo func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	old := make([]byte, len(b))
	_, err = f.ReadAt(old, offset)
	must(t, err)
	_, err = f.WriteAt(b, offset)
	must(t, errors.Join(err, f.Close()))
	return func() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt(old, offset)
		must(t, errors.Join(err, f.Close()))
	}
}

// A damaged newest meta page would make bbolt forget the newest commit, and the
// lock in it (rule C1): opening refuses.
func TestC1_DamagedMetaPageDoesNotForgetTheLock(t *testing.T) {
	for page := range int64(2) {
		dir, _ := damageable(t)
		patch(t, filepath.Join(dir, dbName), page*int64(os.Getpagesize())+boltPageHeader+48, []byte{0xff})
		for name, open := range map[string]func(string, Options) (*Store, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
			_, err := open(dir, small())
			var lost *DataLossError
			if !errors.As(err, &lost) || !strings.Contains(err.Error(), fmt.Sprintf("meta page %d", page)) {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// What bbolt knows and the segments lack is named: block, record, file, offset.
func TestC2_MissingBytesAreNamed(t *testing.T) {
	cases := map[string]struct {
		damage func(t *testing.T, dir string, end position)
		want   []string
	}{
		"tail cut": {func(t *testing.T, dir string, end position) {
			must(t, os.Truncate(segmentPath(dir, end.segment), end.offset-1))
		}, []string{"block 11, record", "ends at byte"}},
		"tail cut to nothing": {func(t *testing.T, dir string, end position) {
			must(t, os.Truncate(segmentPath(dir, end.segment), 0))
		}, []string{"block ", "record ", "ends at byte 0"}},
		"last segment gone": {func(t *testing.T, dir string, end position) {
			must(t, os.Remove(segmentPath(dir, end.segment)))
		}, []string{"block ", "record ", "is missing"}},
		"first segment gone": {func(t *testing.T, dir string, _ position) {
			must(t, os.Remove(segmentPath(dir, 1)))
		}, []string{"block 0, record 0", "0000000001.seg", "is missing"}},
		"database gone": {func(t *testing.T, dir string, _ position) {
			must(t, os.Remove(filepath.Join(dir, dbName)))
		}, []string{dbName}},
		"database empty": {func(t *testing.T, dir string, _ position) {
			must(t, os.Truncate(filepath.Join(dir, dbName), 0))
		}, []string{dbName, "meta page 0 cannot be read"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir, _ := damageable(t)
			s, err := OpenReadOnly(dir, small())
			must(t, err)
			end := s.tip.end
			must(t, s.Close())
			c.damage(t, dir, end)
			before := listing(t, dir)
			for name, open := range map[string]func(string, Options) (*Store, error){"Open": Open, "OpenReadOnly": OpenReadOnly} {
				_, err := open(dir, small())
				var lost *DataLossError
				if !errors.As(err, &lost) {
					t.Fatalf("%s: %v, want data loss", name, err)
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Fatalf("%s: %q does not say %q", name, err, want)
					}
				}
			}
			if after := listing(t, dir); after != before {
				t.Fatalf("the refusal changed the directory from\n%s\nto\n%s", before, after)
			}
		})
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() == durable.LockName {
			return err
		}
		info, err := entry.Info()
		if err == nil && !entry.IsDir() {
			fmt.Fprintf(&out, "%s %d\n", path, info.Size())
		}
		return err
	}))
	return out.String()
}

// Verify finds what only digests can show: blocks whose parts are sound, each
// by its checksum, and do not belong together.
func TestVerifyFindsWhatDoesNotBelongTogether(t *testing.T) {
	cases := map[string]struct {
		spoil func(m *maker, b *Block)
		want  string
	}{
		"other raw vector":       {func(_ *maker, b *Block) { b.RawVectors[0].Bytes[0] ^= 1 }, "not the one that the measurement names"},
		"absent raw vector":      {func(_ *maker, b *Block) { b.RawVectors = b.RawVectors[1:] }, "raw vector is absent"},
		"stray raw vector":       {func(_ *maker, b *Block) { b.RawVectors[0].Leaf = 0 }, "is no measurement has a raw vector"},
		"other leaf":             {func(m *maker, b *Block) { b.Leaves[2] = m.measurement(b.RawVectors[1].Bytes, 200) }, "leaf hash differs"},
		"other leaf hash":        {func(_ *maker, b *Block) { b.LeafHashes[1][0] ^= 1 }, "leaf hash differs"},
		"other node":             {func(_ *maker, b *Block) { b.Nodes[0].Hash[0] ^= 1 }, "tree node 1/"},
		"other root":             {func(_ *maker, b *Block) { b.Ref.Root[0] ^= 1; b.Lock.Root = b.Ref.Root }, "root differs"},
		"other header digest":    {func(_ *maker, b *Block) { b.Ref.Header[0] ^= 1 }, "header record's digest differs"},
		"other configuration":    {func(_ *maker, b *Block) { b.Ref.Config[0] ^= 1 }, "another configuration digest"},
		"other running digest":   {func(_ *maker, b *Block) { b.Ref.Admin[0] ^= 1 }, "another administrative digest"},
		"other time":             {func(_ *maker, b *Block) { b.Ref.BlockTimeUnixNano++ }, "block time"},
		"other certified height": {func(_ *maker, b *Block) { b.Ref.CertifiedHeight++ }, "certified height"},
		"no header": {func(m *maker, b *Block) {
			*b = m.again(b, m.measurement([]byte("raw"), 200))
		}, "is no block header"},
		"header links elsewhere": {func(m *maker, b *Block) {
			h := blockHeader(b)
			h.Previous = m.bytes(32)
			*b = m.again(b, wire.MustEncode(&recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: h}}))
		}, "links to another block"},
		"header counts otherwise": {func(m *maker, b *Block) {
			h := blockHeader(b)
			h.RecordCount++
			*b = m.again(b, wire.MustEncode(&recordv1.Record{Body: &recordv1.Record_BlockHeader{BlockHeader: h}}))
		}, "record count"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, small())
			m := newMaker(t, 34)
			must(t, s.Commit(m.batch(m.block(1, 200, 20))))
			b := m.block(3, 200, 20)
			c.spoil(m, &b)
			must(t, s.Commit(m.batch(b)))
			report, err := s.Verify(t.Context(), nil)
			must(t, err)
			if err := report.Err(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "block 1, ") {
				t.Fatalf("found %v, want %q in block 1", err, c.want)
			}
			must(t, s.Close())
			var lost *DataLossError
			if _, err := Open(dir, small()); !errors.As(err, &lost) {
				t.Fatalf("opened: %v", err)
			}
		})
	}
}

func blockHeader(b *Block) *recordv1.BlockHeader {
	var r recordv1.Record
	if err := wire.Decode(b.Leaves[len(b.Leaves)-1], &r); err != nil {
		panic(err)
	}
	return r.GetBlockHeader()
}

// again is b with another last leaf, everything derived from it computed anew.
func (m *maker) again(b *Block, last []byte) Block {
	n := *b
	n.Leaves = append(append([][]byte(nil), b.Leaves[:len(b.Leaves)-1]...), last)
	n.LeafHashes = append(append([]digest.Digest(nil), b.LeafHashes[:len(b.Leaves)-1]...), tlog.LeafHash(last))
	tree := tlog.NewRange() // of the one block before, which all callers have
	tree.Append(m.before...)
	n.Nodes = Extend(tree, n.LeafHashes)
	n.Ref.Root = tree.Root()
	n.Ref.Header = digest.Of(digest.BlockHeader, last)
	n.Lock.Root = n.Ref.Root
	return n
}

func TestVerifyReportsProgressAndStops(t *testing.T) {
	s := mustOpen(t, t.TempDir(), small())
	fill(t, s, newMaker(t, 35), 6)
	var seen []Progress
	_, err := s.Verify(t.Context(), func(p Progress) { seen = append(seen, p) })
	must(t, err)
	if len(seen) != 6 || seen[5].Blocks != 6 || seen[5].Of != 6 || seen[5].Bytes == 0 {
		t.Fatalf("progress %+v", seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Verify(ctx, func(Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled verification: %v", err)
	}
}

package storage

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/platform/durable"
)

func TestCommitThenRead(t *testing.T) {
	for name, options := range map[string]Options{
		"small segments, nothing in memory": {SegmentBytes: 2000, CacheBytes: 1, MapBytes: 1 << 15},
		"defaults":                          {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, options)
			if _, ok := s.Head(); ok {
				t.Fatal("an empty store has a head")
			}
			m := newMaker(t, 1)
			var blocks []Block
			for i := range 20 {
				blocks = append(blocks, m.block(i%5, 200, 300))
				must(t, s.Commit(m.batch(blocks[i])))
			}
			check := func(s *Store) {
				t.Helper()
				for _, b := range blocks {
					stored, err := s.Load(b.Ref.Height)
					must(t, err)
					leaves, err := s.Leaves(b.Ref.Height)
					must(t, err)
					if stored.Ref != b.Ref || len(stored.Leaves) != len(b.Leaves) || len(leaves) != len(b.Leaves) || len(stored.RawVectors) != len(b.RawVectors) {
						t.Fatalf("block %d came back as %+v with %d leaves and %d raw vectors", b.Ref.Height, stored.Ref, len(stored.Leaves), len(stored.RawVectors))
					}
					vectors := b.RawVectors
					for i, leaf := range b.Leaves {
						index := b.Ref.FirstIndex + uint64(i)
						got, err := s.Record(index)
						must(t, err)
						if !bytes.Equal(got, leaf) || !bytes.Equal(stored.Leaves[i], leaf) || !bytes.Equal(leaves[i], leaf) {
							t.Fatalf("record %d came back changed", index)
						}
						raw, err := s.RawVector(index)
						if len(vectors) > 0 && vectors[0].Leaf == i {
							if err != nil || !bytes.Equal(raw, vectors[0].Bytes) {
								t.Fatalf("raw vector of %d: %v", index, err)
							}
							vectors = vectors[1:]
						} else if !errors.Is(err, ErrNoRawVector) {
							t.Fatalf("raw vector of %d: %v, want ErrNoRawVector", index, err)
						}
					}
				}
			}
			check(s)
			before := mustDump(t, s)
			report := mustVerify(t, s)
			if head, _ := s.Head(); report.Blocks != 20 || report.Records != head.Size || report.RawVectors != 40 || report.Bytes == 0 {
				t.Fatalf("report %+v", report)
			}
			must(t, s.Close())
			s = mustOpen(t, dir, options)
			check(s)
			if after := mustDump(t, s); after != before {
				t.Fatalf("reopened store differs:\n%s\nwant\n%s", after, before)
			}
			must(t, s.Close())
			s, err := OpenReadOnly(dir, options)
			must(t, err)
			defer s.Close()
			if after := mustDump(t, s); after != before {
				t.Fatal("store opened for reading differs")
			}
			if err := s.Commit(m.batch(m.block(1, 200, 10))); !errors.Is(err, ErrReadOnly) {
				t.Fatalf("commit to a read-only store: %v", err)
			}
		})
	}
}

// Proofs of every leaf at several sizes, from memory, from disk and both.
func TestProofsAtEverySize(t *testing.T) {
	for _, cacheBytes := range []int64{1, 3000, 1 << 20} {
		s := mustOpen(t, t.TempDir(), Options{SegmentBytes: 5000, CacheBytes: cacheBytes, MapBytes: 1 << 15})
		m := newMaker(t, 2)
		roots := map[uint64]digest.Digest{}
		for i := range 25 {
			b := m.block((i*7)%6, 150, 10)
			must(t, s.Commit(m.batch(b)))
			roots[b.Ref.Size] = b.Ref.Root
		}
		for size, root := range roots {
			for index := range size {
				path, err := tlog.InclusionProof(s, index, size)
				must(t, err)
				leaf, err := s.Record(index)
				must(t, err)
				must(t, tlog.VerifyInclusion(tlog.LeafHash(leaf), index, size, path, root))
			}
			for size2, root2 := range roots {
				if size2 < size {
					continue
				}
				path, err := tlog.ConsistencyProof(s, size, size2)
				must(t, err)
				must(t, tlog.VerifyConsistency(size, size2, path, root, root2))
			}
		}
		tree, err := s.Range()
		must(t, err)
		if tree.Root() != m.tree.Root() {
			t.Fatalf("range gives root %s, want %s", tree.Root(), m.tree.Root())
		}
	}
}

// A proof of a fresh leaf needs no disk: the store's files are gone.
func TestProofOfFreshBlockTouchesNoDisk(t *testing.T) {
	for _, reopened := range []bool{false, true} {
		dir := t.TempDir()
		s := mustOpen(t, dir, Options{CacheBytes: 4000, MapBytes: 1 << 15})
		m := newMaker(t, 3)
		fill(t, s, m, 30)
		if reopened {
			must(t, s.Close())
			s = mustOpen(t, dir, Options{CacheBytes: 4000, MapBytes: 1 << 15})
		}
		r := s.recent.Load()
		if len(r.blocks) == 0 || len(r.blocks) == 30 {
			t.Fatalf("%d blocks in memory, want some but not all", len(r.blocks))
		}
		must(t, s.db.Close())
		head, _ := s.Head()
		for index := r.first; index < head.Size; index++ {
			path, err := tlog.InclusionProof(s, index, head.Size)
			must(t, err)
			leaf, err := s.Record(index)
			must(t, err)
			must(t, tlog.VerifyInclusion(tlog.LeafHash(leaf), index, head.Size, path, head.Root))
		}
		if _, err := s.Record(0); !errors.Is(err, ErrClosed) {
			t.Fatalf("an old record was answered without a disk: %v", err)
		}
	}
}

func TestRefusedBatches(t *testing.T) {
	cases := map[string]struct {
		spoil func(b *Batch)
		want  string
	}{
		"height":          {func(b *Batch) { b.Blocks[0].Ref.Height++ }, "next height is 2"},
		"first index":     {func(b *Batch) { b.Blocks[0].Ref.FirstIndex-- }, "first index"},
		"size":            {func(b *Batch) { b.Blocks[0].Ref.Size++ }, "says that the size"},
		"leaf hashes":     {func(b *Batch) { b.Blocks[0].LeafHashes = b.Blocks[0].LeafHashes[1:] }, "leaf hashes"},
		"empty leaf":      {func(b *Batch) { b.Blocks[0].Leaves[1] = nil }, "leaf 1 has 0 bytes"},
		"stray vector":    {func(b *Batch) { b.Blocks[0].RawVectors[1].Leaf = 9 }, "belongs to leaf 9"},
		"same leaf twice": {func(b *Batch) { b.Blocks[0].RawVectors[1].Leaf = 1 }, "belongs to leaf 1"},
		"empty vector":    {func(b *Batch) { b.Blocks[0].RawVectors[0].Bytes = nil }, "has 0 bytes"},
		"missing node":    {func(b *Batch) { b.Blocks[0].Nodes = b.Blocks[0].Nodes[1:] }, "interior nodes"},
		"foreign node":    {func(b *Batch) { b.Blocks[0].Nodes[0].ID.Index += 100 }, "is not completed by"},
		"node twice":      {func(b *Batch) { b.Blocks[0].Nodes[0] = b.Blocks[0].Nodes[1] }, "appears twice"},
		"leaf as node":    {func(b *Batch) { b.Blocks[0].Nodes[0].ID.Level = 0 }, "is not completed by"},
		"unsorted writes": {func(b *Batch) {
			b.Blocks[0].Writes = []state.Write{{Key: []byte("b"), Value: []byte{1}}, {Key: []byte("a"), Value: []byte{1}}}
		}, "stands after"},
		"empty value":       {func(b *Batch) { b.Blocks[0].Writes[0].Value = nil }, "value of 0"},
		"applied goes back": {func(b *Batch) { b.AppliedIndex = 1; b.Entries = nil }, "2 is committed"},
		"old entry":         {func(b *Batch) { b.Entries[0].Index = 2 }, "entry 2"},
		"entry beyond":      {func(b *Batch) { b.AppliedIndex--; b.Entries[0].Index++ }, "entry 4"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, small())
			m := newMaker(t, 4)
			must(t, s.Commit(m.batch(m.block(2, 200, 20), m.block(3, 200, 20))))
			before := mustDump(t, s)
			b := m.batch(m.block(2, 200, 20))
			c.spoil(&b)
			err := s.Commit(b)
			var refused *BatchError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want a refusal with %q", err, c.want)
			}
			must(t, s.Close())
			if s = mustOpen(t, dir, small()); mustDump(t, s) != before {
				t.Fatal("a refused batch changed the store")
			}
			mustVerify(t, s)
		})
	}
}

func TestScan(t *testing.T) {
	s := mustOpen(t, t.TempDir(), small())
	m := newMaker(t, 10)
	b := m.block(0, 0, 0)
	b.Writes = nil
	for _, key := range []string{"a/1", "b/1", "b/2", "b/3", "c/1"} {
		b.Writes = append(b.Writes, state.Write{Key: []byte(key), Value: []byte("v" + key)})
	}
	must(t, s.Commit(m.batch(b)))
	for _, c := range []struct{ prefix, from, want string }{
		{"b/", "", "b/1 b/2 b/3"}, {"b/", "b/2", "b/2 b/3"}, {"b/", "a", "b/1 b/2 b/3"}, {"", "", "a/1 b/1 b/2 b/3 c/1"}, {"d", "", ""}, {"a", "b/1", ""},
	} {
		var got []string
		must(t, s.Scan([]byte(c.prefix), []byte(c.from), func(key, value []byte) bool {
			if string(value) != "v"+string(key) {
				t.Fatalf("%s is %s", key, value)
			}
			got = append(got, string(key))
			return true
		}))
		if strings.Join(got, " ") != c.want {
			t.Fatalf("under %q from %q: %q, want %q", c.prefix, c.from, got, c.want)
		}
	}
	visits := 0
	must(t, s.Scan(nil, nil, func([]byte, []byte) bool { visits++; return visits < 2 }))
	if visits != 2 {
		t.Fatalf("%d visits after the second said stop", visits)
	}
}

func TestPendingIsTheLedgerAfterTheCommit(t *testing.T) {
	s := mustOpen(t, t.TempDir(), small())
	m := newMaker(t, 11)
	fill(t, s, m, 3)
	p := s.Pending()
	var added []Block
	for range 3 {
		b := m.block(3, 200, 50)
		must(t, p.Add(b))
		added = append(added, b)
		if head, ok := p.Head(); !ok || head != b.Ref {
			t.Fatalf("pending head %+v, want %+v", head, b.Ref)
		}
	}
	var refused *BatchError
	if err := p.Add(added[0]); !errors.As(err, &refused) {
		t.Fatalf("a block was added twice: %v", err)
	}
	type answers struct {
		refs   []state.BlockRef
		leaves [][]byte
		values map[string]string
	}
	read := func(v state.View) (a answers) {
		a.values = make(map[string]string)
		for height := range uint64(7) {
			ref, ok, err := v.Block(height)
			if err != nil || ok != (height < 6) {
				t.Fatalf("block %d: %v %v", height, ok, err)
			}
			a.refs = append(a.refs, ref)
		}
		for index := range added[2].Ref.Size {
			leaf, err := v.Record(index)
			must(t, err)
			a.leaves = append(a.leaves, leaf)
		}
		if _, err := v.Record(added[2].Ref.Size); !errors.Is(err, ErrNotStored) {
			t.Fatalf("record beyond the end: %v", err)
		}
		for _, key := range []string{"meter/0000", "meter/0001", "meter/0002", "meter/0003", "meter/0004", "nobody"} {
			value, err := v.Get([]byte(key))
			must(t, err)
			a.values[key] = string(value)
		}
		return a
	}
	before := read(p)
	must(t, s.Commit(m.batch(p.Blocks()...)))
	after := read(s)
	for i := range before.refs {
		if before.refs[i] != after.refs[i] {
			t.Fatalf("block %d differs", i)
		}
	}
	for i := range before.leaves {
		if !bytes.Equal(before.leaves[i], after.leaves[i]) {
			t.Fatalf("leaf %d differs", i)
		}
	}
	for key := range before.values {
		if before.values[key] != after.values[key] {
			t.Fatalf("state %s differs", key)
		}
	}
}

func TestOneWriterPerDirectory(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, small())
	var locked *durable.LockedError
	if _, err := Open(dir, small()); !errors.As(err, &locked) {
		t.Fatalf("second open: %v", err)
	}
	if _, err := OpenReadOnly(dir, small()); err == nil {
		t.Fatal("opened for reading while a writer holds it")
	}
	must(t, s.Close())
	must(t, s.Close())
	if err := s.Commit(Batch{}); !errors.Is(err, ErrClosed) {
		t.Fatalf("commit after close: %v", err)
	}
	if _, err := s.Get([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Fatalf("get after close: %v", err)
	}
	must(t, mustOpen(t, dir, small()).Close())
}

// Readers and Verify run beside commits; the race detector watches.
func TestReadersBesideCommits(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{SegmentBytes: 4000, CacheBytes: 3000, MapBytes: 1 << 15})
	m := newMaker(t, 12)
	fill(t, s, m, 2)
	done := make(chan struct{})
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for {
				head, _ := s.Head()
				for _, index := range []uint64{0, head.Size / 2, head.Size - 1} {
					leaf, err1 := s.Record(index)
					path, err2 := tlog.InclusionProof(s, index, head.Size)
					_, err3 := s.Load(head.Height / 2)
					if err := errors.Join(err1, err2, err3); err != nil {
						t.Error(err)
						return
					}
					if err := tlog.VerifyInclusion(tlog.LeafHash(leaf), index, head.Size, path, head.Root); err != nil {
						t.Error(err)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	group.Go(func() {
		for {
			r, err := s.Verify(t.Context(), nil)
			if err = errors.Join(err, r.Err()); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	fill(t, s, m, 60)
	close(done)
	group.Wait()
}

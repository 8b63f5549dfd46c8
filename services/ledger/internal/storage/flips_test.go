package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/lacre-metrology/lacre/core/state"
)

// chosen takes all bits in the exhaustive form (make tamper), otherwise one in
// so many by a printed seed.
func chosen(t *testing.T, one int) func() bool {
	t.Helper()
	if os.Getenv("LACRE_TAMPER") == "all" {
		return func() bool { return true }
	}
	seed := rand.Uint64()
	t.Logf("seed %d: one bit in %d; LACRE_TAMPER=all takes all", seed, one)
	random := rand.New(rand.NewPCG(seed, 0))
	return func() bool { return random.IntN(one) == 0 }
}

// flipper flips single bits of a file in place.
type flipper struct {
	t       *testing.T
	file    *os.File
	content []byte
}

func newFlipper(t *testing.T, path string) *flipper {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { _ = file.Close() })
	return &flipper{t: t, file: file, content: content}
}

func (f *flipper) flip(bit int) {
	f.t.Helper()
	_, err := f.file.WriteAt([]byte{f.content[bit/8] ^ 1<<(bit%8)}, int64(bit/8))
	must(f.t, err)
}

func (f *flipper) undo(bit int) {
	f.t.Helper()
	_, err := f.file.WriteAt(f.content[bit/8:bit/8+1], int64(bit/8))
	must(f.t, err)
}

// flippable is damageable with a state of several pages under a branch.
func flippable(t *testing.T) (dir, want string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir, Options{SegmentBytes: 900, CacheBytes: 1, MapBytes: 1 << 15, disk: newBreakingDisk(0, lost)})
	m := newMaker(t, 61)
	for i := range recoverBlocks + 4 {
		b := m.block(i%2, 120, 40)
		if i == 3 {
			b.Writes = nil
			for key := range 100 {
				b.Writes = append(b.Writes, state.Write{Key: fmt.Appendf(nil, "wide/%04d", key), Value: m.bytes(100)})
			}
		}
		must(t, s.Commit(m.batch(b)))
	}
	must(t, s.PutCertificates([]Certificate{{4, []byte("certificate of 4")}, {9, []byte("certificate of 9")}}))
	want = mustDump(t, s)
	must(t, s.Close())
	return dir, want
}

// served reads everything; what cannot be read is "lost" in its place, and any
// other error fails the test.
func served(t *testing.T, s *Store) (answers []string, refused int) {
	t.Helper()
	add := func(what string, value any, err error) {
		t.Helper()
		var lost *DataLossError
		switch {
		case err == nil || errors.Is(err, ErrNoRawVector):
			answers = append(answers, fmt.Sprintf("%s %x", what, value))
		case errors.As(err, &lost):
			answers = append(answers, "")
			refused++
		default:
			t.Fatalf("%s: %v", what, err)
		}
	}
	head, _ := s.Head()
	for index := range head.Size {
		leaf, err := s.Record(index)
		add("record", leaf, err)
		raw, err := s.RawVector(index)
		add("raw vector", raw, err)
		hash, err := s.LeafHash(index)
		add("leaf hash", hash, err)
	}
	for height := range head.Height + 1 {
		stored, err := s.Load(height)
		add("block", fmt.Sprint(stored), err)
		leaves, err := s.Leaves(height)
		add("leaves", leaves, err)
	}
	return answers, refused
}

// frameAt finds the record whose frame holds a byte of a segment.
func frameAt(t *testing.T, s *Store, segment uint32, offset int64) (height, index int64) {
	t.Helper()
	head, _ := s.Head()
	height, index = None, None
	for h := range head.Height + 1 {
		must(t, s.withBlock(s.recent.Load(), h, func(b *blockValue, _ [][]byte) error {
			return b.place(func(i int, p placed) bool {
				for _, f := range []frame{p.leaf, p.raw} {
					if f.length > 0 && f.at.segment == segment && f.at.offset <= offset && offset < f.end().offset {
						height, index = int64(h), int64(b.ref.FirstIndex)+int64(i)
					}
				}
				return true
			})
		}))
	}
	return height, index
}

// inGroup checks that damage of a packed file names a record, and in a group one
// of the records that the group holds.
func inGroup(t *testing.T, sound *Store, content []byte, problem *DataLossError, offset int64) {
	t.Helper()
	_, suffix, _ := segmentFileName(filepath.Base(problem.File))
	k := kindRecord
	if suffix == packedSuffix(kindRawVector) {
		k = kindRawVector
	}
	number := binary.BigEndian.Uint32(content[12:])
	x, err := readPackedIndex(bytes.NewReader(content), number, k, int64(len(content)))
	must(t, err)
	for n, g := range x.groups {
		if offset < g.at || offset >= g.at+int64(g.stored) {
			continue
		}
		u, err := x.unpackGroup(n, content[g.at:][:g.stored])
		must(t, err)
		item, err := (&unpacked{first: g.first, content: u}).item(uint64(problem.Index))
		must(t, err)
		height, err := sound.HeightOf(uint64(problem.Index))
		must(t, err)
		if item == nil || problem.Offset != g.at || problem.Height != int64(height) {
			t.Fatalf("byte %d, in the group at %d with the first leaf %d: %v", offset, g.at, g.first, problem)
		}
	}
	if problem.Index == None {
		t.Fatalf("byte %d: %v names no record", offset, problem)
	}
}

// Every flipped bit of every segment is named by file, place, block and record,
// when the store is opened or when it is verified; what is read meanwhile is
// what was stored, or refused.
func TestEveryFlippedBitOfASegmentIsNamedAndNotServed(t *testing.T) {
	t.Run("plain", func(t *testing.T) { everyFlippedBit(t, 0) })
	t.Run("packed", func(t *testing.T) { everyFlippedBit(t, 3) })
}

func everyFlippedBit(t *testing.T, packs int) {
	dir, _ := flippable(t)
	packedToo(t, dir, packs)
	pattern := "*.seg"
	if packs > 0 {
		pattern = "*.r*"
	}
	files, err := filepath.Glob(filepath.Join(dir, segmentsDir, pattern))
	must(t, err)
	sound, err := OpenReadOnly(dir, small())
	must(t, err)
	defer sound.Close()
	want, none := served(t, sound)
	if none != 0 || len(files) < 3 {
		t.Fatalf("%d segments, %d answers refused", len(files), none)
	}
	take := chosen(t, 80)
	atOpening, verified := 0, 0
	for _, path := range files {
		f := newFlipper(t, path)
		name := segmentsDir + "/" + filepath.Base(path)
		number, suffix, ok := segmentFileName(filepath.Base(path))
		if !ok {
			t.Fatalf("%s is no segment", name)
		}
		for bit := range 8 * len(f.content) {
			if !take() {
				continue
			}
			f.flip(bit)
			s, err := OpenReadOnly(dir, small())
			var problem *DataLossError
			if err == nil {
				report, verr := s.Verify(t.Context(), nil)
				must(t, verr)
				if len(report.Problems) > 0 {
					problem = report.Problems[0]
				}
				got, refused := served(t, s)
				for k := range got {
					if got[k] != want[k] && got[k] != "" {
						t.Fatalf("%s, bit %d of byte %d flipped: served %q, stored was %q", name, bit%8, bit/8, got[k], want[k])
					}
				}
				if refused == 0 {
					t.Fatalf("%s, bit %d of byte %d flipped: every read succeeds", name, bit%8, bit/8)
				}
				must(t, s.Close())
				verified++
			} else if errors.As(err, &problem) {
				atOpening++
			}
			f.undo(bit)
			height, index := int64(None), int64(None)
			if suffix == segmentSuffix {
				height, index = frameAt(t, sound, number, int64(bit/8))
			} else if problem != nil {
				inGroup(t, sound, f.content, problem, int64(bit/8))
			}
			if problem == nil || problem.File != name || problem.Offset > int64(bit/8) || height != None && (problem.Height != height || problem.Index != index) {
				t.Fatalf("%s, bit %d of byte %d flipped, in record %d of block %d: %v, %v", name, bit%8, bit/8, index, height, problem, err)
			}
		}
	}
	if atOpening == 0 && packs == 0 || verified == 0 {
		t.Errorf("%d named at opening, %d by verifying, want some of each", atOpening, verified)
	}
	t.Logf("%d flipped bits named at opening, %d by verifying", atOpening, verified)
}

// Every flipped bit of store.db is named when the store is opened, for reading
// or for writing; but for free pages and those behind the last, which nothing
// reads: then all answers are as before.
func TestEveryFlippedBitOfTheDatabaseIsNamed(t *testing.T) {
	dir, want := flippable(t)
	packedToo(t, dir, 2)
	path := filepath.Join(dir, dbName)
	f := newFlipper(t, path)
	free := freePages(t, f.content)
	pageBits := 8 * os.Getpagesize()
	take, thorough := chosen(t, 300), rand.New(rand.NewPCG(62, 0))
	named, unread, opened := 0, 0, 0
	kinds := map[string]int{}
	for bit := range 8 * len(f.content) {
		if !take() {
			continue
		}
		// What Open and OpenReadOnly do first, on the bytes in memory. Of one in
		// 2,000 the whole way is gone, as of one in 100 of what is not named.
		f.content[bit/8] ^= 1 << (bit % 8)
		err := checkPagesFrom(bytes.NewReader(f.content), false)
		f.content[bit/8] ^= 1 << (bit % 8)
		var lost *DataLossError
		whole := thorough.IntN(2000) == 0
		switch {
		case errors.As(err, &lost):
			named++
			if lost.File != dbName || lost.What == "" {
				t.Fatalf("bit %d of byte %d flipped: %v", bit%8, bit/8, lost)
			}
			kinds[pageKind(f.content, bit/pageBits)]++
		case err != nil || !free[bit/pageBits]:
			t.Fatalf("bit %d of byte %d flipped, in page %d: %v", bit%8, bit/8, bit/pageBits, err)
		default:
			unread++
			whole = thorough.IntN(100) == 0
		}
		if whole {
			opened++
			f.flip(bit)
			for name, open := range map[string]func(string, Options) (*Store, error){"OpenReadOnly": OpenReadOnly, "Open": Open} {
				answers, problems, openErr := inspect(dir, open)
				if err != nil && (openErr == nil || openErr.Error() != err.Error()) || err == nil && (openErr != nil || len(problems) > 0 || answers != want) {
					t.Fatalf("bit %d of byte %d flipped: %s says %v, checkPages %v; same answers %v", bit%8, bit/8, name, openErr, err, answers == want)
				}
			}
			f.undo(bit)
		}
	}
	if named == 0 || unread == 0 || opened == 0 {
		t.Errorf("%d named, %d unread, %d opened", named, unread, opened)
	}
	t.Logf("%d flipped bits named %v; %d in free pages, which nothing reads; %d opened whole", named, kinds, unread, opened)
}

// freePages are those in the list of free pages, and those behind the last.
func freePages(t *testing.T, content []byte) map[int]bool {
	t.Helper()
	meta, err := readMetaFrom(bytes.NewReader(content))
	must(t, err)
	list := content[meta.freelist*meta.pageSize:]
	free := make(map[int]bool)
	for i := range int(binary.NativeEndian.Uint16(list[10:])) {
		free[int(binary.NativeEndian.Uint64(list[boltPageHeader+8*i:]))] = true
	}
	for page := int(meta.highWater); page < len(content)/os.Getpagesize(); page++ {
		free[page] = true
	}
	if len(free) == 0 {
		t.Fatal("no page is free")
	}
	return free
}

func pageKind(content []byte, page int) string {
	switch binary.NativeEndian.Uint16(content[page*os.Getpagesize()+8:]) {
	case boltMetaPage:
		return "meta"
	case boltBranchPage:
		return "branch"
	case boltLeafPage:
		return "leaf"
	case boltFreePage:
		return "freelist"
	}
	return "overflow"
}

// Bits of every key and value, flipped through bbolt, so that the pages are
// sound (in the exhaustive form one of each byte): the table is named, and the key where the value is at fault.
func TestFlippedBitsOfEveryKeyAndValueAreNamed(t *testing.T) {
	dir, _ := flippable(t)
	packedToo(t, dir, 2)
	path := filepath.Join(dir, dbName)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoSync: true})
	must(t, err)
	defer db.Close()
	type pair struct{ key, value []byte }
	pairs := make(map[table][]pair)
	must(t, db.View(func(tx *bbolt.Tx) error {
		var errs []error
		for _, name := range tables {
			errs = append(errs, tx.Bucket([]byte(name)).ForEach(func(key, value []byte) error {
				pairs[name] = append(pairs[name], pair{clone(key), clone(value)})
				return nil
			}))
		}
		return errors.Join(errs...)
	}))
	take, named := chosen(t, 50), 0
	put := func(name table, remove, key, value []byte) {
		t.Helper()
		must(t, db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(name))
			return errors.Join(b.Delete(remove), b.Put(key, value))
		}))
	}
	for _, name := range tables {
		if len(pairs[name]) == 0 {
			t.Fatalf("table %s is empty", name)
		}
		for _, p := range pairs[name] {
			for bit := range 8 * (len(p.key) + len(p.value)) {
				if !take() || bit%8 != bit/8%8 {
					continue
				}
				key, value := clone(p.key), clone(p.value)
				if bit < 8*len(key) {
					key[bit/8] ^= 1 << (bit % 8)
				} else {
					value[bit/8-len(key)] ^= 1 << (bit % 8)
				}
				put(name, p.key, key, value)
				err := checkPages(path, false)
				put(name, key, p.key, p.value)
				for _, other := range pairs[name] { // the flipped key was another's
					if bytes.Equal(other.key, key) && !bytes.Equal(other.key, p.key) {
						put(name, other.key, other.key, other.value)
					}
				}
				var lost *DataLossError
				if !errors.As(err, &lost) || !strings.Contains(lost.What, "table "+string(name)) {
					t.Fatalf("table %s, key %q, bit %d flipped: %v", name, p.key, bit, err)
				}
				named++
			}
		}
	}
	must(t, checkPages(path, false))
	t.Logf("%d flipped bits of keys and values named", named)
}

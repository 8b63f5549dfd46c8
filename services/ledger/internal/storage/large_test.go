package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// large stores a ledger of so many blocks of 512 measurements by 64 meters, each
// block made by the one transition, with a certificate for every block.
func large(t *testing.T, blocks int) (dir string) {
	t.Helper()
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	var meters []*statetest.Meter
	for i := range 64 {
		meters = append(meters, n.Register(fmt.Sprintf("meter-%02d", i)))
	}
	dir = t.TempDir()
	s := mustOpen(t, dir, Options{SegmentBytes: 1 << 20, disk: newBreakingDisk(0, lost)})
	tree, applied := tlog.NewRange(), uint64(0)
	commit := func(ref state.BlockRef, leaves, raw [][]byte, writes []state.Write) {
		b := Block{Ref: ref, Leaves: leaves, Writes: writes}
		for i, leaf := range leaves {
			b.LeafHashes = append(b.LeafHashes, tlog.LeafHash(leaf))
			if r, err := record.Parse(leaf); err == nil && r.GetMeasurement() != nil {
				b.RawVectors = append(b.RawVectors, RawVector{Leaf: i, Bytes: raw[len(b.RawVectors)]})
			}
		}
		b.Nodes = Extend(tree, b.LeafHashes)
		applied++
		must(t, s.Commit(Batch{Blocks: []Block{b}, AppliedIndex: applied}))
		must(t, s.PutCertificates([]Certificate{{Height: ref.Height, Note: n.Certificate(ref.Height)}}))
	}
	for i, ref := range n.Store.Blocks {
		var writes []state.Write // of all blocks so far, with the last
		if i == len(n.Store.Blocks)-1 {
			writes = n.Store.Writes()
		}
		commit(ref, n.Store.BlockLeaves(ref.Height), nil, writes)
	}
	for range blocks {
		var captures []*statetest.Capture
		for range 8 {
			for _, m := range meters {
				captures = append(captures, m.Capture())
			}
		}
		batch := n.Batch(captures...)
		block := n.Begin()
		outcomes, err := block.Submit(statetest.Parse(batch.Records(), batch.Raw))
		must(t, err)
		for _, o := range outcomes {
			if !o.Accepted {
				t.Fatalf("refused: %s: %s", o.Reason, o.Detail)
			}
		}
		sealed, err := block.Seal()
		must(t, err)
		ref := n.Store.Apply(sealed)
		n.NowUnix++
		commit(ref, sealed.Records, batch.Raw, sealed.Writes)
	}
	must(t, s.Close())
	return dir
}

// Sampled flips in a large ledger, built by the real transition, are named as in
// the small one. The exhaustive form (make tamper) has 20,480 measurements and
// 400 flips, the short one 1,024 and 24.
func TestFlippedBitsOfALargeLedgerAreNamed(t *testing.T) {
	blocks, flips := 2, 24
	if os.Getenv("LACRE_TAMPER") == "all" {
		blocks, flips = 40, 400
	}
	dir := large(t, blocks)
	sound, err := OpenReadOnly(dir, Options{})
	must(t, err)
	defer sound.Close()
	report := mustVerify(t, sound)
	if report.RawVectors != uint64(512*blocks) {
		t.Fatalf("%d raw vectors, want %d", report.RawVectors, 512*blocks)
	}
	files, err := filepath.Glob(filepath.Join(dir, segmentsDir, "*.seg"))
	must(t, err)
	var all []*flipper
	total := 0
	for _, path := range append(files, filepath.Join(dir, dbName)) {
		all = append(all, newFlipper(t, path))
		total += 8 * len(all[len(all)-1].content)
	}
	database := all[len(all)-1]
	free := freePages(t, database.content)
	meta, err := readMetaFrom(bytes.NewReader(database.content))
	must(t, err)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	inSegments, inDatabase, unread := 0, 0, 0
	for i := range flips {
		f, segment := database, 0
		if i%2 == 0 {
			segment = 1 + random.IntN(len(files))
			f = all[segment-1]
		}
		bit := random.IntN(8 * len(f.content))
		if f == database { // the file is longer than what is in use
			bit = random.IntN(int(8 * meta.highWater * meta.pageSize))
		}
		f.flip(bit)
		problem := firstProblem(t, dir)
		f.undo(bit)
		switch {
		case segment > 0:
			inSegments++
			height, index := frameAt(t, sound, uint32(segment), int64(bit/8))
			if problem == nil || problem.File != segmentName(uint32(segment)) || problem.Offset > int64(bit/8) || height != None && (problem.Height != height || problem.Index != index) {
				t.Fatalf("bit %d of segment %d flipped, in record %d of block %d: %v", bit, segment, index, height, problem)
			}
		case problem != nil && problem.File == dbName:
			inDatabase++
		case problem == nil && free[bit/8/os.Getpagesize()]:
			unread++
		default:
			t.Fatalf("bit %d of %s flipped: %v", bit, dbName, problem)
		}
	}
	after, err := os.ReadFile(filepath.Join(dir, dbName))
	must(t, err)
	if !bytes.Equal(after, database.content) {
		t.Error("store.db was changed")
	}
	t.Logf("%d records, %d bytes: %d flips in segments and %d in store.db named, %d in free pages", report.Records, total/8, inSegments, inDatabase, unread)
}

// firstProblem is what an audit of the directory finds first.
func firstProblem(t *testing.T, dir string) *DataLossError {
	t.Helper()
	s, err := OpenDamaged(dir, Options{})
	var lost *DataLossError
	if errors.As(err, &lost) {
		return lost
	}
	must(t, err)
	defer s.Close()
	report, err := s.Verify(t.Context(), nil)
	must(t, err)
	if len(report.Problems) == 0 {
		return nil
	}
	return report.Problems[0]
}

// An auditor opens what a replica refuses, sees all of the damage, and is not
// given what is damaged.
func TestDamagedStoreIsOpenedForAnAuditor(t *testing.T) {
	dir, _ := flippable(t)
	path := filepath.Join(dir, dbName)
	content, err := os.ReadFile(path)
	must(t, err)
	key := []byte("wide/0042")
	at := leafOf(t, content, key)
	at += bytes.Index(content[at:], key) + len(key) + 20 // in its value
	patch(t, path, int64(at), []byte{content[at] ^ 4})
	segment := segmentPath(dir, 1)
	frames, err := os.ReadFile(segment)
	must(t, err)
	patch(t, segment, 40, []byte{frames[40] ^ 1})
	if _, err := OpenReadOnly(dir, small()); err == nil {
		t.Fatal("a replica would start")
	}
	s, err := OpenDamaged(dir, small())
	must(t, err)
	defer s.Close()
	report, err := s.Verify(t.Context(), nil)
	must(t, err)
	if len(report.Problems) != 2 || report.Problems[0].File != dbName || report.Problems[1].File != segmentName(1) {
		t.Fatalf("found %v, want the value and the record", report.Problems)
	}
	var lost *DataLossError
	if _, err := s.Get(key); !errors.As(err, &lost) {
		t.Errorf("the damaged value: %v", err)
	}
	if _, err := s.Record(0); !errors.As(err, &lost) {
		t.Errorf("the damaged record: %v", err)
	}
	if _, err := s.Record(1); err != nil {
		t.Errorf("a sound record: %v", err)
	}
}

// leafOf is where the page in use begins that holds a key.
func leafOf(t *testing.T, content, key []byte) int {
	t.Helper()
	free, size := freePages(t, content), os.Getpagesize()
	for page := range len(content) / size {
		if !free[page] && pageKind(content, page) == "leaf" && bytes.Contains(content[page*size:(page+1)*size], key) {
			return page * size
		}
	}
	t.Fatalf("no page holds %q", key)
	return 0
}

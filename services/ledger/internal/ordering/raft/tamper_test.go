package raft

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/core/reason"
)

// tamperSegment is small, so that a small log has several segments.
const tamperSegment = 2500

// tamperable is a log of some segments, the last not full, with
// term and vote, cut at its head, and all that it answers.
func tamperable(t *testing.T) (dir string, want []hraft.Log) {
	t.Helper()
	dir = t.TempDir()
	log, err := openLog(dir, testLogger("tamper"), tamperSegment)
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(1)
	random := rand.New(rand.NewPCG(1, 0))
	batch := func(sizes ...int) {
		var list []*hraft.Log
		for _, size := range sizes {
			l := &hraft.Log{Index: next, Term: 1 + next/5, Type: hraft.LogCommand, AppendedAt: time.Unix(int64(next), 5)}
			for range size {
				l.Data = append(l.Data, byte(1+random.IntN(255)))
			}
			if next%4 == 0 {
				l.Type, l.Data = hraft.LogNoop, nil
			}
			if next%7 == 0 {
				l.Extensions = []byte("of the library")
			}
			list = append(list, l)
			next++
		}
		if err := log.StoreLogs(list); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		batch(120, 300)
		batch(40)
		batch(7, 8, 600)
	}
	err = errors.Join(log.SetUint64([]byte("CurrentTerm"), 7), log.SetUint64([]byte("LastVoteTerm"), 7),
		log.Set([]byte("LastVoteCand"), []byte("replica-02")), log.DeleteRange(1, 3))
	if err != nil {
		t.Fatal(err)
	}
	want = answers(t, log)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

// answers is every entry, and in a last one term and vote.
func answers(t *testing.T, log sealedLog) []hraft.Log {
	t.Helper()
	list, err := tryAnswers(log)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func tryAnswers(log sealedLog) (list []hraft.Log, err error) {
	first, err1 := log.FirstIndex()
	last, err2 := log.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	term, err1 := log.GetUint64([]byte("CurrentTerm"))
	voted, err2 := log.GetUint64([]byte("LastVoteTerm"))
	vote, err3 := log.Get([]byte("LastVoteCand"))
	list = append(list, hraft.Log{Index: first, Term: term, Data: fmt.Append(vote, voted)})
	err = errors.Join(err1, err2, err3)
	for index := first; index <= last; index++ {
		var l hraft.Log
		if e := log.GetLog(index, &l); e != nil {
			return list, errors.Join(err, e)
		}
		list = append(list, l)
	}
	return list, err
}

// same compares all but a monotonic clock, which no disk keeps.
func same(a, b []hraft.Log) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Index != b[i].Index || a[i].Term != b[i].Term || a[i].Type != b[i].Type || !bytes.Equal(a[i].Data, b[i].Data) ||
			!bytes.Equal(a[i].Extensions, b[i].Extensions) || !a[i].AppendedAt.Equal(b[i].AppendedAt) {
			return false
		}
	}
	return true
}

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

func segmentsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, segmentPattern))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d segments, want 3 at least (%v)", len(files), err)
	}
	return files
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// R2: every flipped bit of the log, its list of segments, term and vote is
// named when the log is opened. Behind the last batch, where only zeros are, it
// is wiped, and nothing else changes.
func TestR2_EveryFlippedBitOfTheLogIsNamed(t *testing.T) {
	dir, want := tamperable(t)
	take := chosen(t, 60)
	named, wiped := 0, 0
	for _, path := range append(segmentsOf(t, dir), filepath.Join(dir, metaName)) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		end := lastNonZero(content)
		for bit := range 8 * len(content) {
			if !take() {
				continue
			}
			content[bit/8] ^= 1 << (bit % 8)
			write(t, path, content)
			log, err := openLog(dir, testLogger("tamper"), tamperSegment)
			var got []hraft.Log
			if err == nil {
				got, err = tryAnswers(log)
				if e := log.Close(); e != nil {
					t.Fatal(e)
				}
			}
			content[bit/8] ^= 1 << (bit % 8)
			write(t, path, content)
			behind := strings.HasSuffix(path, ".wal") && bit/8 > end
			switch {
			case reason.Of(err) == reason.DataLoss && strings.Contains(err.Error(), filepath.Base(path)):
				named++
			case err == nil && behind && same(got, want):
				wiped++
			default:
				t.Fatalf("%s, bit %d of byte %d of %d (%d used) flipped: %v, %d entries, want %d", filepath.Base(path), bit%8, bit/8, len(content), end+1, err, len(got), len(want))
			}
		}
	}
	if named == 0 || wiped == 0 {
		t.Errorf("%d named, %d wiped", named, wiped)
	}
	t.Logf("%d flipped bits named, %d behind the last batch wiped", named, wiped)
}

// A bit that flips under an open log never changes an entry that is read.
func TestR2_ABitThatFlipsUnderAnOpenLogIsNotServed(t *testing.T) {
	dir, want := tamperable(t)
	log, err := openLog(dir, testLogger("tamper"), tamperSegment)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	take := chosen(t, 60)
	refused, irrelevant := 0, 0
	for _, path := range segmentsOf(t, dir) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range 8 * (lastNonZero(content) + 1) {
			if !take() {
				continue
			}
			at := bit / 8
			if _, err := f.WriteAt([]byte{content[at] ^ 1<<(bit%8)}, int64(at)); err != nil {
				t.Fatal(err)
			}
			got, err := tryAnswers(log)
			switch {
			case reason.Of(err) == reason.DataLoss && same(got, want[:len(got)]):
				refused++
				if !strings.Contains(err.Error(), path) {
					t.Fatalf("%s, bit %d of byte %d flipped: %v, which does not name the file", filepath.Base(path), bit%8, at, err)
				}
			case err == nil && same(got, want):
				irrelevant++ // heads of frames and commits, which only opening reads
			default:
				t.Fatalf("%s, bit %d of byte %d flipped: %v, and other entries", filepath.Base(path), bit%8, at, err)
			}
			if _, err := f.WriteAt(content[at:at+1], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	t.Logf("%d flipped bits made a read fail, %d changed no answer", refused, irrelevant)
}

// A snapshot's file is refused whole, whichever bit flips.
func TestEveryFlippedBitOfASnapshotIsNamed(t *testing.T) {
	s, err := openPointerStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := pointerFile{Index: 9, Term: 2, ConfigurationIndex: 1, Servers: []hraft.Server{{ID: "a", Address: "a"}}, Content: content{applied: 9, pointer: []byte("pointer")}.encode()}
	store(t, s, f)
	path := filepath.Join(s.dir, f.id()+pointerSuffix)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(content) {
		content[bit/8] ^= 1 << (bit % 8)
		write(t, path, content)
		if _, err := s.List(); reason.Of(err) != reason.DataLoss || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Fatalf("bit %d of byte %d flipped: %v", bit%8, bit/8, err)
		}
		content[bit/8] ^= 1 << (bit % 8)
	}
}

// What a crash leaves of an append is wiped: whichever sectors of it are
// missing, unless all are there.
func TestR2_AnInterruptedAppendIsWiped(t *testing.T) {
	dir, _ := tamperable(t)
	files := segmentsOf(t, dir)
	path := files[len(files)-1]
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log, err := openLog(dir, testLogger("tamper"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	want := answers(t, log)
	last := want[len(want)-1].Index
	random := rand.New(rand.NewPCG(2, 0))
	var list []*hraft.Log
	for i := range uint64(3) {
		// Small enough not to fill the segment: raft-wal would seal it in the background,
		// and whether it is a tail would depend on how soon the log is closed.
		l := &hraft.Log{Index: last + 1 + i, Term: 99}
		for range 300 {
			l.Data = append(l.Data, byte(1+random.IntN(255)))
		}
		list = append(list, l)
	}
	if err := errors.Join(log.StoreLogs(list), log.Close()); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := lastNonZero(before)+1, lastNonZero(after)+1
	if begin/sectorBytes == end/sectorBytes {
		t.Fatalf("the append spans bytes %d to %d: one sector", begin, end)
	}
	first, sectors := begin/sectorBytes, (end-1)/sectorBytes-begin/sectorBytes+1
	for missing := range 1 << sectors {
		torn := bytes.Clone(after)
		for s := range sectors {
			if missing>>s&1 == 0 {
				continue
			}
			for at := max(begin, (first+s)*sectorBytes); at < min(len(torn), (first+s+1)*sectorBytes); at++ {
				torn[at] = 0
			}
		}
		write(t, path, torn)
		log, err := openLog(dir, testLogger("tamper"), 1<<20)
		if err != nil {
			t.Fatalf("sectors %b of %d missing: %v", missing, sectors, err)
		}
		got := answers(t, log)
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		if missing == 0 {
			if len(got) != len(want)+3 {
				t.Fatalf("a whole append: %d entries, want %d", len(got), len(want)+3)
			}
			continue
		}
		if !same(got, want) {
			t.Fatalf("sectors %b of %d missing: other entries", missing, sectors)
		}
		left, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if lastNonZero(left) >= begin {
			t.Fatalf("sectors %b of %d missing: something is left behind the last batch", missing, sectors)
		}
	}
}

// What cannot come from a crash is DATA_LOSS, where raft-wal would delete, or
// write over, what was acknowledged.
func TestR2_MissingFilesOfTheLogAreNamed(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string) string{
		"no list of segments": func(t *testing.T, dir string) string {
			if err := os.Remove(filepath.Join(dir, metaName)); err != nil {
				t.Fatal(err)
			}
			return "meta is missing"
		},
		"a sealed segment": func(t *testing.T, dir string) string {
			path := segmentsOf(t, dir)[1]
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			return filepath.Base(path)
		},
		"the end of a sealed segment": func(t *testing.T, dir string) string {
			path := segmentsOf(t, dir)[1]
			if err := os.Truncate(path, 900); err != nil {
				t.Fatal(err)
			}
			return filepath.Base(path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := tamperable(t)
			want := damage(t, dir)
			if _, err := openLog(dir, testLogger("tamper"), tamperSegment); reason.Of(err) != reason.DataLoss || !strings.Contains(err.Error(), want) {
				t.Fatalf("%v, want DATA_LOSS that names %s", err, want)
			}
		})
	}
}

package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// packAll packs whatever is full.
func packAll(t testing.TB, s *Store) (n int) {
	t.Helper()
	for {
		done, err := s.Pack(context.Background(), nil)
		must(t, err)
		if !done {
			return n
		}
		n++
	}
}

// A packed store answers what it answered before, goes on, and keeps only its
// newest segment plain.
func TestPackedStoreAnswersTheSameAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, small())
	m := newMaker(t, 80)
	must(t, s.Commit(m.batch(m.block(2, 200, 5000), m.block(0, 0, 0)))) // frames larger than a segment and than a group
	for range 4 {
		fill(t, s, m, 10)
		want := mustDump(t, s)
		full := s.Unpacked()
		if n := packAll(t, s); n == 0 || uint32(n) != full || s.Unpacked() != 0 {
			t.Fatalf("%d segments were packed of %d that were full, %d remain", n, full, s.Unpacked())
		}
		report := mustVerify(t, s)
		if got := mustDump(t, s); got != want {
			t.Fatalf("packed, the store answers\n%s\nwant\n%s", got, want)
		}
		plain, err := s.segments()
		must(t, err)
		if len(plain) != 1 || plain[0] != s.tip.end.segment || s.tip.packed != plain[0]-1 {
			t.Fatalf("plain are %v, %d of %d are packed", plain, s.tip.packed, s.tip.end.segment)
		}
		must(t, s.Close())
		for _, open := range []func(string, Options) (*Store, error){OpenReadOnly, OpenDamaged, Open} {
			s, err = open(dir, small())
			must(t, err)
			if got := mustDump(t, s); got != want {
				t.Fatalf("opened again, the store answers\n%s\nwant\n%s", got, want)
			}
			if again := mustVerify(t, s); *again.counts() != *report.counts() {
				t.Fatalf("verified %+v, before %+v", again, report)
			}
			must(t, s.Close())
		}
		s = mustOpen(t, dir, small())
	}
}

func (r *Report) counts() *[4]uint64 {
	return &[4]uint64{r.Blocks, r.Records, r.RawVectors, uint64(r.Bytes)}
}

// Whoever reads while segments are packed gets what is stored.
func TestReadsBesidePacking(t *testing.T) {
	s := mustOpen(t, t.TempDir(), small())
	m := newMaker(t, 81)
	fill(t, s, m, 40)
	head, _ := s.Head()
	want := make([]string, head.Size)
	read := func(index uint64) string {
		leaf, err := s.Record(index)
		raw, rawErr := s.RawVector(index)
		if errors.Is(rawErr, ErrNoRawVector) {
			rawErr = nil
		}
		return fmt.Sprintf("%x %x %v", leaf, raw, errors.Join(err, rawErr))
	}
	for index := range want {
		want[index] = read(uint64(index))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for offset := range 3 {
		readers.Go(func() {
			for index := offset; ctx.Err() == nil; index = (index + 7) % len(want) {
				if got := read(uint64(index)); got != want[index] {
					t.Errorf("record %d is read as %s, want %s", index, got, want[index])
					return
				}
			}
		})
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			if report, err := s.Verify(t.Context(), nil); err != nil || report.Err() != nil {
				t.Errorf("verified meanwhile: %v %v", err, report.Err())
				return
			}
		}
	})
	n := packAll(t, s)
	cancel()
	readers.Wait()
	if n < 5 {
		t.Fatalf("%d segments were packed", n)
	}
}

// Damage of a plain segment is named before anything is packed, and packing that
// is called off leaves nothing that counts.
func TestPackingThatFailsLeavesTheStoreAsItWas(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, small())
	fill(t, s, newMaker(t, 82), 20)
	want := mustDump(t, s)
	called, cancel := context.WithCancel(t.Context())
	cancel()
	if done, err := s.Pack(called, nil); done || !errors.Is(err, context.Canceled) {
		t.Fatalf("called off: %v %v", done, err)
	}
	undo := patch(t, segmentPath(dir, 1), 100, []byte{0xff, 0xfe, 0xfd})
	var lost *DataLossError
	if done, err := s.Pack(t.Context(), nil); done || !errors.As(err, &lost) || lost.File != segmentName(1) {
		t.Fatalf("a damaged segment was packed: %v %v", done, err)
	}
	undo()
	if mustDump(t, s) != want || s.tip.packed != 0 {
		t.Fatal("the store is another")
	}
	must(t, s.Close())
	s = mustOpen(t, dir, small())
	for _, k := range packedKinds {
		if _, err := os.Stat(packedPath(dir, 1, k)); !missing(err) {
			t.Errorf("%s is still there: %v", packedName(1, k), err)
		}
	}
	packAll(t, s)
	mustVerify(t, s)
}

// Work is paced, and a rest that is interrupted ends it.
func TestPackingRests(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{SegmentBytes: 1 << 20, disk: newBreakingDisk(0, lost)})
	m := newMaker(t, 83)
	for range 14 {
		must(t, s.Commit(m.batch(m.block(200, 600, 400))))
	}
	rests := 0
	done, err := s.Pack(t.Context(), func(_ context.Context, worked time.Duration) error {
		if rests++; worked < workSlice {
			t.Errorf("rested after %v", worked)
		}
		return nil
	})
	if must(t, err); !done || rests == 0 {
		t.Fatalf("packed %v with %d rests", done, rests)
	}
	enough := errors.New("enough")
	if done, err := s.Pack(t.Context(), func(context.Context, time.Duration) error { return enough }); done || !errors.Is(err, enough) {
		t.Fatalf("interrupted: %v %v", done, err)
	}
	mustVerify(t, s)
}

// makeEarlier makes a store one of an earlier version.
func makeEarlier(tx *bbolt.Tx, version byte) error {
	if version == 1 {
		if err := tx.DeleteBucket([]byte(tableSegments)); err != nil {
			return err
		}
	}
	other, pages := tx.Bucket([]byte(tableState)), tx.Bucket([]byte(tablePages))
	err := pages.ForEach(func(meter, _ []byte) error {
		number, value, err := newestPage(pages, meter)
		return errors.Join(err, tableState.put(other, pageKey(meter, number), sealable(value)))
	})
	if err := errors.Join(err, tx.DeleteBucket([]byte(tablePages))); err != nil {
		return err
	}
	value, err := tableMeta.get(tx, keyTip)
	if err != nil {
		return err
	}
	old := append(room(len(value)), version)
	old = append(old, value[1:tipFixedBytes+laterFields(version)]...)
	b, err := tableMeta.in(tx)
	if err != nil {
		return err
	}
	return tableMeta.put(b, keyTip, append(old, value[tipFixedBytes+laterFields(tipVersion):]...))
}

// A directory of an earlier version is read as it is, and becomes one of this
// version when a replica opens it, before anything is packed or moved.
func TestStoreOfAnEarlierVersionIsReadAndUpgraded(t *testing.T) {
	for earlier := byte(1); earlier < tipVersion; earlier++ {
		dir, want := damageable(t)
		if earlier > 1 {
			packedToo(t, dir, 2)
		}
		tamper(t, dir, func(tx *bbolt.Tx) error { return makeEarlier(tx, earlier) })
		before := listing(t, dir)
		s, err := OpenReadOnly(dir, small())
		must(t, err)
		if mustVerify(t, s); mustDump(t, s) != want {
			t.Fatalf("a store of version %d is read otherwise", earlier)
		}
		_, err = s.Usage(t.Context())
		must(t, errors.Join(err, s.Close()))
		if listing(t, dir) != before {
			t.Fatal("reading changed the directory")
		}
		s = mustOpen(t, dir, small())
		must(t, s.Close()) // without a commit
		version := byte(0)
		tamper(t, dir, func(tx *bbolt.Tx) error {
			value, err := tableMeta.get(tx, keyTip)
			version = value[0]
			return err
		})
		if version != tipVersion {
			t.Fatalf("opened, the store of version %d is of version %d", earlier, version)
		}
		s = mustOpen(t, dir, small())
		if packAll(t, s) == 0 || mustDump(t, s) != want {
			t.Fatal("an upgraded store is not packed, or answers otherwise")
		}
		mustVerify(t, s)
	}
}

// Files of packed segments that are gone, cut or exchanged are named.
func TestMissingAndExchangedPackedFilesAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"records gone": {func(t *testing.T, dir string) {
			must(t, os.Remove(packedPath(dir, 2, kindRecord)))
		}, "0000000002.rec: the packed segment is missing"},
		"raw vectors gone": {func(t *testing.T, dir string) {
			must(t, os.Remove(packedPath(dir, 3, kindRawVector)))
		}, "0000000003.raw: the packed segment is missing"},
		"records cut": {func(t *testing.T, dir string) {
			must(t, os.Truncate(packedPath(dir, 1, kindRecord), 50))
		}, "0000000001.rec: the packed segment has 50 bytes"},
		"another's records": {func(t *testing.T, dir string) {
			b, err := os.ReadFile(packedPath(dir, 1, kindRecord))
			must(t, errors.Join(err, os.WriteFile(packedPath(dir, 2, kindRecord), b, 0o600)))
		}, "0000000002.rec"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := damageable(t)
			packedToo(t, dir, 3)
			c.damage(t, dir)
			_, problems, err := inspect(dir, OpenReadOnly)
			if len(problems) > 0 {
				err = problems[0]
			}
			var lost *DataLossError
			if !errors.As(err, &lost) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "record ") {
				t.Fatalf("found %v, want %q and a record", err, c.want)
			}
		})
	}
}

// A backup is continued across packing: what is packed since comes again in its
// new form, and the plain form is of no use any more.
func TestBackupAcrossPacking(t *testing.T) {
	s := mustOpen(t, t.TempDir(), small())
	m := newMaker(t, 84)
	to := t.TempDir()
	var have Held
	for round := range 5 {
		fill(t, s, m, 8)
		if round%2 == 1 {
			packAll(t, s)
		} else if _, err := s.Pack(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		copied := copyTo(t, s, to, have)
		for n := range copied.Packed {
			must(t, os.RemoveAll(filepath.Join(to, filepath.FromSlash(PlainName(n+1)))))
		}
		c, err := OpenReadOnly(to, small())
		must(t, err)
		if mustVerify(t, c); mustDump(t, c) != mustDump(t, s) {
			t.Fatalf("round %d: the backup answers otherwise", round)
		}
		must(t, c.Close())
		have = Held{Segments: copied.Segments - 1, Packed: copied.Packed}
	}
	if have.Packed == 0 {
		t.Fatal("nothing was packed")
	}
	nothing := func(string, int64, func(io.Writer) error) error { return nil }
	for _, wrong := range []Held{{Segments: 1 << 20}, {Segments: have.Segments, Packed: have.Packed + 1}, {Segments: 1, Packed: 2}} {
		if _, err := s.Backup(t.Context(), wrong, nothing); err == nil {
			t.Errorf("%+v was continued", wrong)
		}
	}
}

// While a backup is read nothing is packed: it still wants the files.
func TestNothingIsPackedDuringABackup(t *testing.T) {
	s := mustOpen(t, t.TempDir(), small())
	fill(t, s, newMaker(t, 85), 10)
	s.packing.RLock()
	if done, err := s.Pack(t.Context(), nil); done || err != nil {
		t.Fatalf("packed %v, %v", done, err)
	}
	s.packing.RUnlock()
	if done, err := s.Pack(t.Context(), nil); !done || err != nil {
		t.Fatalf("packed %v, %v", done, err)
	}
}

func TestRecently(t *testing.T) {
	var r recently[int, string]
	for i := range 10 {
		r.put(i, fmt.Sprint(i), 3, 10)
		if _, ok := r.get(0); !ok {
			t.Fatalf("what is used goes, after %d", i)
		}
	}
	for i, want := range map[int]bool{0: true, 1: false, 7: false, 8: true, 9: true} {
		if v, ok := r.get(i); ok != want || ok && v != fmt.Sprint(i) {
			t.Errorf("%d is %q %v, want %v", i, v, ok, want)
		}
	}
	if r.put(0, "again", 1, 10); r.weight != 7 || len(r.at) != 3 || r.order.Len() != 3 {
		t.Errorf("weight %d, %d and %d values", r.weight, len(r.at), r.order.Len())
	}
	if r.put(5, "too large", 11, 10); r.weight != 0 || len(r.at) != 0 {
		t.Errorf("weight %d, %d values", r.weight, len(r.at))
	}
}

package storage

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// noBound counts every block as certified.
const noBound = 1 << 62

// decide is a block that brings the first decision that raw vectors expire, as the
// transition writes it.
func decide(m *maker, below uint64) Block {
	b := m.block(0, 0, 0)
	value := wire.MustEncode(&statev1.RawExpiry{
		Last: &statev1.StatementRef{Sequence: 1, Index: 7}, BelowHeight: below, Height: b.Ref.Height,
		Rule: "storage limitation", Organisations: []string{"org-00", "org-01", "org-02"},
	})
	b.Writes = []state.Write{{Key: append([]byte(state.PrefixExpiry), append([]byte{0}, number(1)...)...), Value: value}, {Key: []byte(state.KeyExpiry), Value: value}}
	return b
}

// expiring is a store with all but the newest segments packed, in which a decision
// covers the blocks below a height.
func expiring(t *testing.T, o Options) (s *Store, dir string, below uint64) {
	t.Helper()
	dir, below = t.TempDir(), 10
	s = mustOpen(t, dir, o)
	m := newMaker(t, 91)
	for i := range recoverBlocks + 12 {
		must(t, s.Commit(m.batch(m.block(1+i%3, 120, 300))))
	}
	must(t, s.Commit(m.batch(decide(m, below))))
	packAll(t, s)
	return s, dir, below
}

func dropAll(t *testing.T, s *Store) (n int) {
	t.Helper()
	for {
		done, err := s.DropExpired(noBound)
		must(t, err)
		if !done {
			return n
		}
		n++
	}
}

// expiredIn holds what is gone to the decision: everything else answers as before,
// and what is gone says by which decision. It returns how many are gone.
func expiredIn(t *testing.T, s *Store, whole map[uint64][]byte, below uint64) (gone uint64) {
	t.Helper()
	for index, want := range whole {
		height, err := s.HeightOf(index)
		must(t, err)
		raw, err := s.RawVector(index)
		switch {
		case err == nil && !bytes.Equal(raw, want):
			t.Fatalf("record %d has another raw vector", index)
		case err == nil:
		case reason.Of(err) != reason.RawVectorExpired || height >= below:
			t.Fatalf("record %d of block %d: %v", index, height, err)
		default:
			for _, says := range []string{"statement 1 on raw-vectors", "record 7", "below block 10", "storage limitation", "org-00, org-01, org-02"} {
				if !strings.Contains(err.Error(), says) {
					t.Fatalf("%q does not say %q", err, says)
				}
			}
			gone++
		}
		stored, err := s.Load(height)
		must(t, err)
		first := stored.Ref.FirstIndex
		for _, v := range stored.RawVectors {
			if first+uint64(v.Leaf) == index && len(v.Bytes) != len(raw) {
				t.Fatalf("block %d gives %d bytes for record %d, want %d", height, len(v.Bytes), index, len(raw))
			}
		}
	}
	return gone
}

func rawVectors(t *testing.T, s *Store) map[uint64][]byte {
	t.Helper()
	whole := make(map[uint64][]byte)
	head, _ := s.Head()
	for index := range head.Size {
		raw, err := s.RawVector(index)
		if errors.Is(err, ErrNoRawVector) {
			continue
		}
		must(t, err)
		whole[index] = raw
	}
	return whole
}

// What a decision covers goes segment by segment, and nothing else; what is gone
// says by which decision, in every way to open the store and in a backup.
func TestExpiredRawVectorsGoAndSayWhy(t *testing.T) {
	s, dir, below := expiring(t, small())
	whole := rawVectors(t, s)
	before, err := s.Usage(t.Context())
	must(t, err)
	head, _ := s.Head()
	if done, err := s.DropExpired(head.Height - 1); done || err != nil {
		t.Fatalf("dropped before the decision's block is certified: %v %v", done, err)
	}
	n := dropAll(t, s)
	if n < 2 || s.DroppedSegments() != uint32(n) {
		t.Fatalf("%d segments dropped, %d counted", n, s.DroppedSegments())
	}
	for number := uint32(1); number <= s.Packed(); number++ {
		_, err := os.Stat(packedPath(dir, number, kindRawVector))
		if gone := number <= uint32(n); gone != missing(err) {
			t.Errorf("raw vectors of segment %d: %v", number, err)
		}
	}
	gone := expiredIn(t, s, whole, below)
	u, err := s.Usage(t.Context())
	must(t, err)
	if gone == 0 || gone == uint64(len(whole)) || u.Expired.RawVectors != gone || u.RawVectors+gone != before.RawVectors ||
		u.Expired.Segments != uint32(n) || u.Expired.Below > below || u.RecordBytes != before.RecordBytes || u.RawBytes >= before.RawBytes {
		t.Errorf("%d of %d are gone, usage %+v, before %+v", gone, len(whole), u, before)
	}
	backup := t.TempDir()
	if copied := copyTo(t, s, backup, Held{}); copied.Dropped != uint32(n) {
		t.Errorf("copied %+v", copied)
	}
	must(t, s.Close())
	for _, at := range []string{dir, backup} {
		for _, open := range []func(string, Options) (*Store, error){OpenReadOnly, OpenDamaged, Open} {
			s, err := open(at, small())
			must(t, err)
			if again := expiredIn(t, s, whole, below); again != gone {
				t.Errorf("opened again, %d are gone, %d were", again, gone)
			}
			r := mustVerify(t, s)
			if r.Expired.RawVectors != gone || r.RawVectors+gone != uint64(len(whole)) || r.Expired.From > 1 || r.Expired.To >= below {
				t.Errorf("verified %+v", r)
			}
			must(t, s.Close())
		}
	}
}

// Without a decision nothing goes; and what is gone without one is data loss, also
// where the store counts it as gone.
func TestNothingGoesWithoutADecision(t *testing.T) {
	s, _, _ := coldStore(t, newShelf())
	if n := dropAll(t, s); n != 0 || s.DroppedSegments() != 0 {
		t.Fatalf("%d segments dropped without a decision", n)
	}
	dir := s.dir
	must(t, s.count(func(next *tip) { next.dropped, next.prunedBelow = 1, 4 }))
	must(t, s.Close())
	s, err := OpenReadOnly(dir, small())
	must(t, err)
	defer s.Close()
	var lost *DataLossError
	index := uint64(0)
	for head, _ := s.Head(); index < head.Size; index++ {
		if _, err = s.RawVector(index); !errors.Is(err, ErrNoRawVector) {
			break
		}
	}
	if !errors.As(err, &lost) || lost.Index != int64(index) || !strings.Contains(lost.What, "no decision") {
		t.Errorf("a raw vector that was dropped without a decision: %v", err)
	}
	if _, err := s.Load(uint64(lost.Height)); !errors.As(err, &lost) {
		t.Errorf("its block: %v", err)
	}
	report, err := s.Verify(t.Context(), nil)
	must(t, err)
	if len(report.Problems) == 0 || report.Expired.RawVectors != 0 {
		t.Errorf("verified %+v", report)
	}
}

// Each write of a drop is broken, lost or persisted, with and without a power cut:
// the raw vectors are here or counted as gone, and the next drop goes on.
func TestDropBrokenAtEachWrite(t *testing.T) {
	s, sound, below := expiring(t, small())
	whole := rawVectors(t, s)
	must(t, s.Close())
	for at := 1; at <= 2; at++ { // the transaction, and the removal
		for _, how := range []breakage{lost, persisted} {
			for _, power := range []bool{false, true} {
				dir := copyDir(t, sound)
				s := mustOpen(t, dir, small())
				d := newBreakingDisk(at, how)
				s.options.disk = d
				if _, err := s.DropExpired(noBound); !errors.Is(err, errBroken) {
					t.Fatalf("write %d %s: %v", at, how, err)
				}
				if d.what != []string{"bbolt", "remove"}[at-1] {
					t.Fatalf("write %d is %s", at, d.what)
				}
				must(t, s.Close())
				if power {
					d.cutPower(t, false)
				}
				s = mustOpen(t, dir, small())
				_, err := os.Stat(packedPath(dir, 1, kindRawVector))
				dropped := s.DroppedSegments() == 1
				if gone := expiredIn(t, s, whole, below) > 0; gone != dropped || dropped != missing(err) || dropped != (at == 2 || how == persisted) {
					t.Fatalf("write %d %s: dropped %v, gone %v, %v", at, how, dropped, gone, err)
				}
				mustVerify(t, s)
				dropAll(t, s)
				mustVerify(t, s)
				must(t, s.Close())
			}
		}
	}
}

// Raw vectors in cold storage count as gone while their objects stay; objects go when
// that is asked for, each again until it is known to be gone.
func TestColdRawVectorsExpire(t *testing.T) {
	c := newShelf()
	o := small()
	o.Cold = c
	s, dir, below := expiring(t, o)
	whole := rawVectors(t, s)
	for range 2 {
		if done, err := s.MoveCold(t.Context(), 0, nil); !done || err != nil {
			t.Fatal(done, err)
		}
	}
	cold := s.ColdBytes()
	n := dropAll(t, s)
	gone := expiredIn(t, s, whole, below)
	if n < 3 || gone == 0 || len(c.objects) != 2 || s.ColdBytes() != 0 || cold == 0 {
		t.Fatalf("%d segments dropped, %d gone, %d objects, %d of %d bytes", n, gone, len(c.objects), s.ColdBytes(), cold)
	}
	erase := func() (n int) {
		for {
			done, err := s.EraseCold(t.Context())
			must(t, err)
			if !done {
				return n
			}
			n++
		}
	}
	failed := errors.New("no answer")
	for _, fail := range []func(func()) error{func(func()) error { return failed }, func(remove func()) error { remove(); return failed }} {
		c.remove = fail
		if done, err := s.EraseCold(t.Context()); done || !errors.Is(err, failed) || !strings.Contains(err.Error(), "shelf/0000000001-") {
			t.Fatalf("a deletion that fails: %v %v", done, err)
		}
	}
	c.remove = nil
	if got := erase(); got != n || len(c.objects) != 0 {
		t.Fatalf("%d of %d erased, %d objects are left", got, n, len(c.objects))
	}
	moved := moveAll(t, s) // what a decision does not cover moves as ever
	if again := expiredIn(t, s, whole, below); moved == 0 || again != gone || len(c.objects) != moved {
		t.Errorf("%d segments moved, %d objects, %d gone, %d were", moved, len(c.objects), again, gone)
	}
	r := mustVerify(t, s)
	if r.Cold == 0 || r.Expired.RawVectors != gone {
		t.Errorf("verified %+v", r)
	}
	must(t, s.Close())
	s = mustOpen(t, dir, o)
	if erase() != 0 || dropAll(t, s) != 0 || s.ColdBytes() == 0 {
		t.Error("opened again, there is something left to do")
	}
	mustVerify(t, s)
}

// A backup from before objects were deleted, once its ledger has the decision, takes
// what is not in cold storage any more as expired; what no decision covers is lost.
func TestRestoredStoreTakesDeletedObjectsAsExpired(t *testing.T) {
	c := newShelf()
	o := small()
	o.Cold = c
	s, dir, below := expiring(t, o)
	whole := rawVectors(t, s)
	moveAll(t, s)
	copied := copyDir(t, dir)
	dropAll(t, s)
	for {
		done, err := s.EraseCold(t.Context())
		must(t, err)
		if !done {
			break
		}
	}
	gone := expiredIn(t, s, whole, below)
	must(t, s.Close())
	s = mustOpen(t, copied, o)
	if again := expiredIn(t, s, whole, below); again != gone || s.DroppedSegments() != 0 {
		t.Fatalf("%d are gone, want %d", again, gone)
	}
	mustVerify(t, s)
	if n := dropAll(t, s); n == 0 {
		t.Error("nothing was dropped again")
	}
	mustVerify(t, s)
	clear(c.objects)
	report, err := s.Verify(t.Context(), nil)
	must(t, err)
	if len(report.Problems) == 0 || report.Expired.RawVectors < gone || report.Expired.To >= below {
		t.Errorf("with all objects gone: %+v", report)
	}
	for _, p := range report.Problems {
		if p.Height < int64(below) {
			t.Errorf("what a decision lets go is called lost: %v", p)
		}
	}
}

// Blocks whose raw vectors had expired elsewhere are committed without, counted, and
// never taken for blocks that have none.
func TestBlocksCommittedWithoutExpiredRawVectors(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, small())
	m := newMaker(t, 92)
	whole := make(map[uint64][]byte)
	var lacking uint64
	for i := range 14 {
		b := m.block(i%3, 120, 300)
		for _, v := range b.RawVectors {
			whole[b.Ref.FirstIndex+uint64(v.Leaf)] = v.Bytes
		}
		batch := m.batch(b)
		if i < 6 {
			batch.Blocks[0].Lacking, batch.Blocks[0].RawVectors = len(b.RawVectors), nil
			lacking += uint64(len(b.RawVectors))
		}
		must(t, s.Commit(batch))
	}
	// The decision has not come yet: nothing else says that this is no loss.
	report, err := s.Verify(t.Context(), nil)
	must(t, err)
	if len(report.Problems) != 1 || !strings.Contains(report.Problems[0].What, "the fetching did not end") || report.Expired.RawVectors != 0 {
		t.Fatalf("before the decision: %+v", report)
	}
	must(t, s.Close())
	s = mustOpen(t, dir, small())
	for index := range whole {
		height, err := s.HeightOf(index)
		must(t, err)
		if _, err := s.RawVector(index); height < 6 && reason.Of(err) != reason.NotReady || height >= 6 && err != nil {
			t.Fatalf("before the decision, record %d of block %d: %v", index, height, err)
		}
	}
	if owes, err := s.Owes(); !owes || err != nil {
		t.Errorf("before the decision it is owed nothing (%v)", err)
	}
	must(t, s.Commit(m.batch(decide(m, 10))))
	if owes, err := s.Owes(); owes || err != nil {
		t.Errorf("after the decision it is owed something (%v)", err)
	}
	if s.PrunedBelow() != 6 {
		t.Errorf("raw vectors below block %d may be absent, want 6", s.PrunedBelow())
	}
	for range 2 {
		if gone := expiredIn(t, s, whole, 10); gone != lacking {
			t.Fatalf("%d are gone, want %d", gone, lacking)
		}
		u, err := s.Usage(t.Context())
		must(t, err)
		if r := mustVerify(t, s); r.Expired.RawVectors != lacking || u.Expired.RawVectors != lacking || r.RawVectors+lacking != uint64(len(whole)) {
			t.Fatalf("verified %+v, usage %+v", r, u)
		}
		packAll(t, s)
		dropAll(t, s)
		must(t, s.Close())
		s = mustOpen(t, dir, small())
		lacking = expiredIn(t, s, whole, 10) // and those that were dropped here
		for index := range whole {
			if height, err := s.HeightOf(index); err == nil && height < 6 {
				continue
			}
			if _, err := s.RawVector(index); err != nil && reason.Of(err) != reason.RawVectorExpired {
				t.Fatal(err)
			}
		}
	}
}

// While raw vectors are dropped, from here and from cold storage, whoever reads gets
// them whole or is told by which decision they went; nothing looks like damage.
func TestReadsBesideDropping(t *testing.T) {
	for _, cold := range []bool{false, true} {
		o, c := small(), newShelf()
		if cold {
			o.Cold = c
		}
		s, _, below := expiring(t, o)
		whole := rawVectors(t, s)
		if cold {
			moveAll(t, s)
		}
		var indices []uint64
		for index := range whole {
			indices = append(indices, index)
		}
		slices.Sort(indices)
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for offset := range 3 {
			readers.Go(func() {
				for i := offset; ctx.Err() == nil; i = (i + 7) % len(indices) {
					raw, err := s.RawVector(indices[i])
					if err != nil && reason.Of(err) != reason.RawVectorExpired || err == nil && !bytes.Equal(raw, whole[indices[i]]) {
						t.Errorf("record %d: %d bytes, %v", indices[i], len(raw), err)
						return
					}
					height, err := s.HeightOf(indices[i])
					if _, loadErr := s.Load(height); err != nil || loadErr != nil {
						t.Errorf("block %d: %v, %v", height, err, loadErr)
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
		n := dropAll(t, s)
		for done := cold; done; {
			var err error
			done, err = s.EraseCold(t.Context())
			must(t, err)
		}
		cancel()
		readers.Wait()
		if n < 2 || expiredIn(t, s, whole, below) == 0 {
			t.Fatalf("%d segments were dropped", n)
		}
	}
}

// A raw vector that is missing without being counted is damage, whatever a decision
// lets go.
func TestAbsentAndNotCountedIsDamage(t *testing.T) {
	s := mustOpen(t, t.TempDir(), small())
	m := newMaker(t, 93)
	for i := range recoverBlocks + 4 {
		b := m.block(1, 100, 100)
		if i == 1 {
			b.RawVectors = nil
		}
		must(t, s.Commit(m.batch(b)))
	}
	must(t, s.Commit(m.batch(decide(m, 10))))
	report, err := s.Verify(t.Context(), nil)
	must(t, err)
	if len(report.Problems) != 1 || report.Problems[0].Height != 1 || !strings.Contains(report.Problems[0].What, "raw vector is absent") || report.Expired.RawVectors != 0 {
		t.Errorf("verified %+v", report)
	}
}

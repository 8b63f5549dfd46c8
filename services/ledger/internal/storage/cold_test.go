package storage

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
)

// shelf is cold storage in memory that can fail: before it does something, after
// it did, or by giving other bytes.
type shelf struct {
	mu      sync.Mutex
	objects map[string][]byte
	put     func(store func()) error  // nil: store
	remove  func(remove func()) error // nil: remove
	answer  func(name string, b []byte) ([]byte, error)
	asked   int
}

func newShelf() *shelf { return &shelf{objects: make(map[string][]byte)} }

func (c *shelf) Put(_ context.Context, name string, from io.Reader, size int64) error {
	b, err := io.ReadAll(from)
	if err == nil && int64(len(b)) != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	store := func() { c.objects[name] = b }
	if c.put != nil {
		return c.put(store)
	}
	store()
	return nil
}

func (c *shelf) Range(_ context.Context, name string, offset, length int64) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	b, ok := c.objects[name]
	if !ok {
		return nil, ErrAbsent
	}
	b = clone(b[min(offset, int64(len(b))):min(offset+length, int64(len(b)))])
	if c.answer != nil {
		return c.answer(name, b)
	}
	return b, nil
}

func (c *shelf) Delete(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	remove := func() { delete(c.objects, name) }
	if c.remove != nil {
		return c.remove(remove)
	}
	remove()
	return nil
}

func (c *shelf) Where(name string) string { return "shelf/" + name }

// coldStore is a store with all but the newest segments packed, and what it says.
func coldStore(t *testing.T, c *shelf) (s *Store, dir, want string) {
	t.Helper()
	dir = t.TempDir()
	o := small()
	o.Cold = c
	s = mustOpen(t, dir, o)
	m := newMaker(t, 90)
	for i := range recoverBlocks + 12 {
		must(t, s.Commit(m.batch(m.block(i%3, 120, 300))))
	}
	packAll(t, s)
	return s, dir, mustDump(t, s)
}

func moveAll(t *testing.T, s *Store) (n int) {
	t.Helper()
	for {
		done, err := s.MoveCold(t.Context(), 0, nil)
		must(t, err)
		if !done {
			return n
		}
		n++
	}
}

// Raw vectors that were moved are read as before, also after a restart, by an
// auditor and from a backup; here nothing of them is left.
func TestMovedRawVectorsAreReadAsBefore(t *testing.T) {
	c := newShelf()
	s, dir, want := coldStore(t, c)
	before, err := s.Usage(t.Context())
	must(t, err)
	if done, err := s.MoveCold(t.Context(), time.Nanosecond, nil); done || err != nil {
		t.Fatalf("moved before its time: %v %v", done, err) // all blocks are of one time
	}
	n := moveAll(t, s)
	if n < 2 || len(c.objects) != n || s.ColdSegments() != uint32(n) {
		t.Fatalf("%d segments moved, %d objects", n, len(c.objects))
	}
	check := func(s *Store) {
		t.Helper()
		if got := mustDump(t, s); got != want {
			t.Fatalf("moved, the store answers\n%s\nwant\n%s", got, want)
		}
		if r := mustVerify(t, s); r.Cold == 0 || r.Skipped != 0 || r.RawVectors <= r.Cold {
			t.Fatalf("verified %+v", r)
		}
	}
	check(s)
	for number := range uint32(n) {
		if _, err := os.Stat(packedPath(dir, number+1, kindRawVector)); !missing(err) {
			t.Errorf("segment %d has its raw vectors here: %v", number+1, err)
		}
	}
	u, err := s.Usage(t.Context())
	must(t, err)
	if u.Cold.Segments != uint32(n) || u.Cold.RawVectors == 0 || u.Cold.Bytes+u.RawBytes != before.RawBytes || u.RawVectors != before.RawVectors || u.RecordBytes != before.RecordBytes {
		t.Errorf("usage %+v, before %+v", u, before)
	}
	backup := t.TempDir()
	if copied := copyTo(t, s, backup, Held{}); copied.Cold != uint32(n) {
		t.Errorf("copied %+v", copied)
	}
	must(t, s.Close())
	o := small()
	o.Cold = c
	for _, at := range []string{dir, backup} {
		for _, open := range []func(string, Options) (*Store, error){OpenReadOnly, OpenDamaged, Open} {
			s, err := open(at, o)
			must(t, err)
			check(s)
			must(t, s.Close())
		}
	}
	o.SkipCold = true
	s, err = OpenReadOnly(dir, o)
	must(t, err)
	defer s.Close()
	asked := c.asked
	if r := mustVerify(t, s); r.Skipped == 0 || r.Skipped != r.Cold || c.asked != asked {
		t.Errorf("verified %+v, cold storage was asked %d times", r, c.asked-asked)
	}
}

// An object that is gone, cut or altered in any bit is data loss that names vector
// and object; cold storage that does not answer is not.
func TestLostAndAlteredColdObjectsAreNamed(t *testing.T) {
	c := newShelf()
	s, dir, _ := coldStore(t, c)
	moveAll(t, s)
	committed, err := s.packedSegment(1)
	must(t, err)
	name := coldName(1, committed.raws)
	var index uint64
	head, _ := s.Head()
	for index = range head.Size {
		if _, err := s.RawVector(index); !errors.Is(err, ErrNoRawVector) {
			break
		}
	}
	must(t, s.Close())
	whole := c.objects[name]
	read := func(o Options) (single error, problems []*DataLossError, verified error) {
		s, err := OpenReadOnly(dir, o)
		must(t, err)
		defer s.Close()
		_, single = s.RawVector(index)
		report, verified := s.Verify(t.Context(), nil)
		return single, report.Problems, verified
	}
	o := small()
	o.Cold = c
	lostIs := func(what string) {
		t.Helper()
		_, problems, err := read(o)
		if err != nil || len(problems) == 0 || problems[0].File != c.Where(name) || problems[0].Index == None || problems[0].Height == None {
			t.Fatalf("%s: %v %v, want one of %s", what, problems, err, c.Where(name))
		}
	}
	delete(c.objects, name)
	lostIs("gone")
	single, _, _ := read(o)
	var lost *DataLossError
	if !errors.As(single, &lost) || lost.Index != int64(index) || !errors.Is(single, ErrAbsent) {
		t.Fatalf("an absent raw vector: %v", single)
	}
	c.objects[name] = whole[:len(whole)/2]
	lostIs("cut")
	take := chosen(t, 60)
	for bit := range 8 * len(whole) {
		if !take() {
			continue
		}
		altered := clone(whole)
		altered[bit/8] ^= 1 << (bit % 8)
		c.objects[name] = altered
		lostIs("altered")
	}
	c.objects[name] = whole
	for what, o := range map[string]func(*Options){
		"hangs up":      func(o *Options) { c.answer = func(string, []byte) ([]byte, error) { return nil, io.ErrClosedPipe } },
		"none is named": func(o *Options) { o.Cold = nil },
	} {
		options := small()
		options.Cold = c
		o(&options)
		single, problems, err := read(options)
		if reason.Of(single) != reason.NotReady || reason.Of(err) != reason.NotReady || len(problems) != 0 {
			t.Errorf("cold storage %s: %v, %v, %v", what, single, problems, err)
		}
		c.answer = nil
	}
}

// An upload that is lost, that is stored with the reply lost, or that stores other
// bytes leaves everything here, and is done again.
func TestUploadThatFailsLeavesRawVectorsHere(t *testing.T) {
	c := newShelf()
	s, dir, want := coldStore(t, c)
	failed := errors.New("no answer")
	for what, fail := range map[string]func(){
		"lost":      func() { c.put = func(func()) error { return failed } },
		"persisted": func() { c.put = func(store func()) error { store(); return failed } },
		"nothing":   func() { c.put = func(func()) error { return nil } },
		"altered": func() {
			c.answer = func(_ string, b []byte) ([]byte, error) { b[len(b)/2] ^= 1; return b, nil }
		},
		"unread": func() { c.answer = func(string, []byte) ([]byte, error) { return nil, failed } },
	} {
		c.put, c.answer, c.objects = nil, nil, make(map[string][]byte)
		fail()
		var lost *DataLossError
		if done, err := s.MoveCold(t.Context(), 0, nil); done || err == nil || errors.As(err, &lost) {
			t.Fatalf("%s: %v %v", what, done, err)
		}
		c.put, c.answer = nil, nil
		if _, err := os.Stat(packedPath(dir, 1, kindRawVector)); err != nil || s.ColdSegments() != 0 || mustDump(t, s) != want {
			t.Fatalf("%s: the store is another (%v)", what, err)
		}
	}
	path := packedPath(dir, 1, kindRawVector)
	undo := patch(t, path, 40, []byte{0xff, 0xfe})
	var lost *DataLossError
	if _, err := s.MoveCold(t.Context(), 0, nil); !errors.As(err, &lost) || !strings.HasSuffix(path, lost.File) {
		t.Fatalf("damaged raw vectors were moved: %v", err)
	}
	undo()
	if moveAll(t, s) == 0 || mustDump(t, s) != want {
		t.Fatal("what failed was not done again")
	}
	mustVerify(t, s)
}

// Each write of a move is broken, lost or persisted, with and without a power cut:
// the raw vectors are here or moved, and the next move goes on.
func TestMoveBrokenAtEachWrite(t *testing.T) {
	first := newShelf()
	s, sound, want := coldStore(t, first)
	must(t, s.Close())
	for at := 1; at <= 2; at++ { // the transaction, and the removal
		for _, how := range []breakage{lost, persisted} {
			for _, power := range []bool{false, true} {
				c, dir := newShelf(), copyDir(t, sound)
				o := small()
				o.Cold = c
				s := mustOpen(t, dir, o)
				d := newBreakingDisk(at, how)
				s.options.disk = d
				if _, err := s.MoveCold(t.Context(), 0, nil); !errors.Is(err, errBroken) {
					t.Fatalf("write %d %s: %v", at, how, err)
				}
				if d.what != []string{"bbolt", "remove"}[at-1] {
					t.Fatalf("write %d is %s", at, d.what)
				}
				must(t, s.Close())
				if power {
					d.cutPower(t, false)
				}
				s = mustOpen(t, dir, o)
				if mustDump(t, s) != want || len(c.objects) != 1 {
					t.Fatalf("write %d %s: the store is another, %d objects", at, how, len(c.objects))
				}
				_, err := os.Stat(packedPath(dir, 1, kindRawVector))
				if moved := s.ColdSegments() == 1; moved != missing(err) || moved != (at == 2 || how == persisted) {
					t.Fatalf("write %d %s: moved %v, %v", at, how, moved, err)
				}
				moveAll(t, s)
				mustVerify(t, s)
				if mustDump(t, s) != want {
					t.Fatalf("write %d %s: moved on, the store is another", at, how)
				}
				must(t, s.Close())
			}
		}
	}
}

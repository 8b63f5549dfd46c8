package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

var errBroken = errors.New("injected failure")

// How a write breaks.
type breakage int

const (
	lost      breakage = iota // nothing was done
	persisted                 // it was done, the reply was lost
	torn                      // half of the bytes were written
)

func (b breakage) String() string { return [...]string{"lost", "persisted", "torn"}[b] }

// breakingDisk breaks one write, the one numbered at (from 1; 0 breaks none),
// and refuses every later one, as a disk that is gone. It knows what was synced,
// so that a power cut can take the rest; hence it need not really sync, which is
// what makes the campaign quick.
type breakingDisk struct {
	at      int
	how     breakage
	seen    int
	what    string // the broken write
	dead    bool
	synced  map[string]int64 // bytes of each file that survive a power cut
	written map[string]int64
	unnamed map[string]bool   // files whose directory entry was not synced
	removed map[string][]byte // files whose removal was not synced: a power cut brings them back
	step    func()            // called before and after each write, if set
}

func newBreakingDisk(at int, how breakage) *breakingDisk {
	return &breakingDisk{at: at, how: how, synced: make(map[string]int64), written: make(map[string]int64), unnamed: make(map[string]bool), removed: make(map[string][]byte)}
}

// do runs a write, or breaks it; half is what a torn one does.
func (d *breakingDisk) do(what string, whole, half func() error) error {
	if d.step != nil {
		d.step()
		defer d.step()
	}
	if d.dead {
		return errBroken
	}
	if d.seen++; d.seen != d.at {
		return whole()
	}
	d.dead, d.what = true, what
	switch {
	case d.how == persisted:
		if err := whole(); err != nil {
			return err
		}
	case d.how == torn && half != nil:
		if err := half(); err != nil {
			return err
		}
	}
	return errBroken
}

func (d *breakingDisk) Create(path string) (segmentFile, error) {
	var f segmentFile
	err := d.do("create", func() (err error) {
		d.unnamed[path] = true
		f, err = osDisk{}.Create(path)
		return err
	}, nil)
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, err
	}
	d.synced[path], d.written[path] = 0, 0
	return &breakingFile{d, path, f}, nil
}

func (d *breakingDisk) Open(path string) (segmentFile, error) {
	f, err := osDisk{}.Open(path)
	if err != nil {
		return nil, err
	}
	return &breakingFile{d, path, f}, nil
}

func (d *breakingDisk) SyncDir(dir string) error {
	return d.do("sync directory", func() error {
		for path := range d.unnamed {
			if filepath.Dir(path) == dir {
				delete(d.unnamed, path)
			}
		}
		for path := range d.removed {
			if filepath.Dir(path) == dir {
				delete(d.removed, path)
			}
		}
		return nil
	}, nil)
}

func (d *breakingDisk) Remove(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err // nothing to remove is no write
	}
	return d.do("remove", func() error {
		if !d.unnamed[path] {
			d.removed[path] = content
		}
		return os.Remove(path)
	}, nil)
}

func (d *breakingDisk) CommitTx(tx *bbolt.Tx) error {
	return d.do("bbolt", func() error {
		tx.DB().NoSync, tx.DB().NoGrowSync = true, true
		return tx.Commit()
	}, nil)
}

// cutPower takes what no sync made durable. Half of it remains as zeros if
// zeros is set: file systems may extend a file before its content is written.
func (d *breakingDisk) cutPower(t *testing.T, zeros bool) {
	t.Helper()
	for path, content := range d.removed {
		must(t, os.WriteFile(path, content, 0o600))
	}
	for path := range d.unnamed {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			must(t, err)
		}
	}
	for path, synced := range d.synced {
		if _, err := os.Stat(path); err != nil {
			continue // removed by a recovery
		}
		must(t, os.Truncate(path, synced))
		if zeros {
			must(t, os.Truncate(path, synced+(d.written[path]-synced)/2))
		}
	}
}

type breakingFile struct {
	d    *breakingDisk
	path string
	file segmentFile
}

func (f *breakingFile) WriteAt(b []byte, offset int64) (int, error) {
	write := func(b []byte) func() error {
		return func() error {
			_, err := f.file.WriteAt(b, offset)
			f.d.written[f.path] = max(f.d.written[f.path], offset+int64(len(b)))
			return err
		}
	}
	if err := f.d.do("append", write(b), write(b[:len(b)/2])); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *breakingFile) Sync() error {
	return f.d.do("sync", func() error {
		f.d.synced[f.path] = f.d.written[f.path]
		return nil
	}, nil)
}

func (f *breakingFile) Truncate(size int64) error {
	return f.d.do("truncate", func() error {
		f.d.synced[f.path], f.d.written[f.path] = size, size
		return f.file.Truncate(size)
	}, nil)
}

func (f *breakingFile) Close() error { return f.file.Close() }

// script is a replica's life: commits of several shapes, certificates, a
// refreshed cosignature, a restart with leftovers behind the tail.
func script(t *testing.T) []func(s **Store, dir string, d disk) error {
	m := newMaker(t, 20)
	commit := func(b Batch) func(s **Store, dir string, d disk) error {
		return func(s **Store, _ string, _ disk) error { return (*s).Commit(b) }
	}
	open := func(s **Store, dir string, d disk) (err error) {
		o := small()
		o.disk = d
		*s, err = Open(dir, o)
		return err
	}
	pack := func(s **Store, _ string, _ disk) error {
		for done := true; done; {
			var err error
			if done, err = (*s).Pack(t.Context(), nil); err != nil {
				return err
			}
		}
		return nil
	}
	first := commit(m.batch(m.block(0, 0, 0)))
	second := commit(m.batch(m.block(3, 200, 300), m.block(2, 200, 900)))
	newest := m.block(2, 200, 30)
	third := commit(m.batch(newest))
	return []func(s **Store, dir string, d disk) error{
		open,
		first,
		second,
		func(s **Store, _ string, _ disk) error {
			return (*s).PutCertificates([]Certificate{{1, []byte("certificate of 1")}})
		},
		third,
		func(s **Store, _ string, _ disk) error {
			return (*s).RefreshCosignature(newest.Lock, []byte("refreshed"))
		},
		commit(m.batch()), // an entry without a block
		func(s **Store, dir string, d disk) error {
			end := (*s).tip.end
			if err := (*s).Close(); err != nil {
				return err
			}
			f, err := os.OpenFile(segmentPath(dir, end.segment), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("the start of a frame that was never commit")
			must(t, errors.Join(err, f.Close(), os.WriteFile(segmentPath(dir, end.segment+1), []byte("LACRE"), 0o600)))
			return open(s, dir, d)
		},
		commit(m.batch(m.block(4, 200, 100), m.block(0, 0, 0), m.block(1, 200, 4000))),
		pack,
		commit(m.batch(m.block(3, 200, 500))),
		pack,
	}
}

// reference runs the script on a sound disk: the dump after each step, and how
// many writes there were.
func reference(t *testing.T) (dumps []string, writes int) {
	t.Helper()
	dir, d := t.TempDir(), newBreakingDisk(0, lost)
	var s *Store
	for i, step := range script(t) {
		if err := step(&s, dir, d); err != nil {
			t.Fatalf("step %d on a sound disk: %v", i, err)
		}
		dumps = append(dumps, mustDump(t, s))
	}
	mustVerify(t, s)
	must(t, s.Close())
	return dumps, d.seen
}

// Each write of the script is broken in each way, with and without a power cut.
// A reopened store has all of the interrupted step or none of it, and goes on to
// the same end. So the rules hold at every point: C1 (a lock is there exactly
// with its block), C2 (a locked block's raw vectors are all on disk), R4 (the
// applied index is that of the blocks): the dump shows all three.
func TestC1_C2_R4_EachWriteBrokenTwice(t *testing.T) {
	dumps, writes := reference(t)
	if writes < 25 {
		t.Fatalf("the script has %d writes", writes)
	}
	broken := make(map[string]int)
	empty := t.TempDir() // copied rather than made, which really syncs
	must(t, mustOpen(t, empty, small()).Close())
	for at := 1; at <= writes; at++ {
		for _, how := range []breakage{lost, persisted, torn} {
			for power, cut := range []func(d *breakingDisk){
				func(*breakingDisk) {},
				func(d *breakingDisk) { d.cutPower(t, false) },
				func(d *breakingDisk) { d.cutPower(t, true) },
			} {
				name := fmt.Sprintf("write %d %s, power %d", at, how, power)
				if how == torn && power > 0 {
					continue // the cut takes what was torn
				}
				dir, d := copyDir(t, empty), newBreakingDisk(at, how)
				var s *Store
				steps, failed := script(t), -1
				for i, step := range steps {
					if err := step(&s, dir, d); err != nil {
						if !errors.Is(err, errBroken) {
							t.Fatalf("%s: step %d: %v", name, i, err)
						}
						failed = i
						break
					}
				}
				if failed < 0 {
					t.Fatalf("%s: nothing failed", name)
				}
				broken[d.what]++
				if s != nil {
					// A packing that fails before its transaction leaves the store as it was.
					if packing := failed == 9 || failed == 11; !packing || d.what == "bbolt" {
						checkPoisoned(t, name, s)
					}
					must(t, s.Close())
				}
				cut(d)

				s = mustOpen(t, dir, small())
				next, want := max(failed, 1), dumps[max(failed, 1)-1] // after a failed first open comes another
				if d.what == "bbolt" && how == persisted {
					next, want = failed+1, dumps[failed]
				}
				if got := mustDump(t, s); got != want {
					t.Fatalf("%s: %s broken in step %d, reopened store holds\n%s\nwant\n%s", name, d.what, failed, got, want)
				}
				mustVerify(t, s)
				for i := next; i < len(steps); i++ {
					if i == 7 {
						continue // the restart has just happened
					}
					if err := steps[i](&s, dir, osDisk{}); err != nil {
						t.Fatalf("%s: step %d after recovery: %v", name, i, err)
					}
				}
				if mustDump(t, s) != dumps[len(dumps)-1] {
					t.Fatalf("%s: the script ends otherwise", name)
				}
				mustVerify(t, s)
				must(t, s.Close())
			}
		}
	}
	for _, what := range []string{"create", "sync directory", "append", "sync", "truncate", "remove", "bbolt"} {
		if broken[what] == 0 {
			t.Errorf("no %s was broken", what)
		}
	}
	t.Logf("broken: %v", broken)
}

// checkPoisoned checks that a store whose write failed refuses all others. A
// store that failed to open is closed instead.
func checkPoisoned(t *testing.T, name string, s *Store) {
	t.Helper()
	for what, err := range map[string]error{
		"commit":      s.Commit(Batch{AppliedIndex: 1 << 40}),
		"certificate": s.PutCertificates(nil),
		"cosignature": s.RefreshCosignature(s.Lock(), []byte("x")),
	} {
		var poisoned *PoisonedError
		if (!errors.As(err, &poisoned) || !errors.Is(err, errBroken)) && !errors.Is(err, ErrClosed) {
			t.Fatalf("%s: %s after the failure: %v", name, what, err)
		}
	}
}

// A process may be killed at any point: the directory as it stands before and
// after each write opens as the ledger before or after the step.
func TestR4_KilledAtEachPoint(t *testing.T) {
	dumps, _ := reference(t)
	dir, d := t.TempDir(), newBreakingDisk(0, lost)
	var s *Store
	step, points := 0, 0
	d.step = func() {
		points++
		killed := copyDir(t, dir)
		reopened := mustOpen(t, killed, small())
		got := mustDump(t, reopened)
		if got != dumps[step] && (step == 0 || got != dumps[step-1]) {
			t.Fatalf("killed at point %d in step %d: the copy opens as neither side of the step:\n%s", points, step, got)
		}
		must(t, reopened.Close())
		must(t, os.RemoveAll(killed))
	}
	for i, run := range script(t) {
		step = i
		must(t, run(&s, dir, d))
	}
	must(t, s.Close())
	if points < 50 {
		t.Fatalf("killed at %d points only", points)
	}
}

// A crash while an empty store is made leaves nothing that looks like a store.
func TestKilledWhileCreating(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, segmentsDir), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, dbName+".new"), []byte("half a database"), 0o600))
	s := mustOpen(t, dir, small())
	fill(t, s, newMaker(t, 21), 2)
	mustVerify(t, s)
}

// copyDir copies a store's directory, as cp would.
func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

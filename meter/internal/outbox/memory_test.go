package outbox

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

// memory is a file system that can lose what a real one may lose. Directory
// operations go into a journal; SyncDir commits the journal up to the last
// operation on that directory; Crash keeps the committed part and a random
// prefix of the rest, and truncates content that was never written to its end
// under a call that returned. That is how journaling file systems behave.
type memory struct {
	mu       sync.Mutex
	names    map[string][]byte
	durable  map[string][]byte // what the committed journal says
	journal  []change
	fail     func(op, name string) fault // nil: nothing fails
	mutation int
}

type change struct {
	dirs  []string
	apply func(names map[string][]byte)
}

// fault says how one operation fails.
type fault int

const (
	none      fault = iota
	lost            // it fails and does nothing
	persisted       // it happens, and reports failure
)

var errInjected = errors.New("injected failure")

func newMemory() *memory {
	return &memory{names: map[string][]byte{}, durable: map[string][]byte{}}
}

// mutate runs one operation under the fault that the test wants for it.
func (m *memory) mutate(op, name string, run func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mutation++
	how := none
	if m.fail != nil {
		how = m.fail(op, name)
	}
	if how == lost {
		return errInjected
	}
	if err := run(); err != nil {
		return err
	}
	if how == persisted {
		return errInjected
	}
	return nil
}

func (m *memory) record(apply func(map[string][]byte), dirs ...string) {
	apply(m.names)
	m.journal = append(m.journal, change{dirs: dirs, apply: apply})
}

func (m *memory) MakeDir(string) error { return nil } // directories need no entry here

func (m *memory) List(dir string) ([]File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var files []File
	for name, b := range m.names {
		if path.Dir(name) == path.Clean(dir) {
			files = append(files, File{Name: path.Base(name), Size: int64(len(b))})
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

func (m *memory) Read(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.names[path.Clean(name)]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(b), nil
}

func (m *memory) Write(name string, parts ...[]byte) error {
	content := bytes.Join(parts, nil)
	return m.mutate("write", name, func() error {
		m.record(func(names map[string][]byte) { names[path.Clean(name)] = content }, path.Dir(name))
		return nil
	})
}

func (m *memory) Rename(from, to string) error {
	return m.mutate("rename", to, func() error {
		if _, ok := m.names[path.Clean(from)]; !ok {
			return fs.ErrNotExist
		}
		m.record(func(names map[string][]byte) {
			names[path.Clean(to)] = names[path.Clean(from)]
			delete(names, path.Clean(from))
		}, path.Dir(from), path.Dir(to))
		return nil
	})
}

func (m *memory) Remove(name string) error {
	return m.mutate("remove", name, func() error {
		if _, ok := m.names[path.Clean(name)]; !ok {
			return fs.ErrNotExist
		}
		m.record(func(names map[string][]byte) { delete(names, path.Clean(name)) }, path.Dir(name))
		return nil
	})
}

func (m *memory) SyncDir(dir string) error {
	return m.mutate("sync", dir, func() error {
		for i := len(m.journal) - 1; i >= 0; i-- {
			if slices.Contains(m.journal[i].dirs, path.Clean(dir)) {
				m.commit(i + 1)
				break
			}
		}
		return nil
	})
}

func (m *memory) commit(n int) {
	for _, c := range m.journal[:n] {
		c.apply(m.durable)
	}
	m.journal = m.journal[n:]
}

// crash is the file system after the power came back.
func (m *memory) crash(rng *rand.Rand) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := newMemory()
	for name, b := range m.durable {
		after.names[name] = b
	}
	for _, c := range m.journal[:rng.IntN(len(m.journal)+1)] {
		c.apply(after.names)
	}
	for name := range after.names { // an unfinished write has any length
		if strings.HasSuffix(name, temporary) {
			after.names[name] = after.names[name][:rng.IntN(len(after.names[name])+1)]
		}
	}
	for name, b := range after.names {
		after.durable[name] = b
	}
	return after
}

func TestMemoryLosesOnlyWhatWasNotSynced(t *testing.T) {
	m := newMemory()
	for _, name := range []string{"a/1", "b/1"} {
		if err := m.Write(name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.SyncDir("a"); err != nil {
		t.Fatal(err)
	}
	lostB := false
	rng := rand.New(rand.NewPCG(1, 1))
	for range 64 {
		after := m.crash(rng)
		if _, err := after.Read("a/1"); err != nil {
			t.Fatal("a synced file was lost")
		}
		_, err := after.Read("b/1")
		lostB = lostB || err != nil
	}
	if !lostB {
		t.Error("64 crashes never lost a file without sync: the model proves nothing")
	}
}

package raft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// memory is an Applier whose state survives the engine, as a disk would, and
// that can fail before or after persisting.
type memory struct {
	cluster *cluster
	id      string

	mu       sync.Mutex
	entries  []ordering.Entry
	applied  uint64
	digests  map[uint64]digest.Digest
	batches  []int // sizes of the batches it was given
	restores int   // calls of RestorePointer that moved it
	changed  chan struct{}

	failBefore, failAfter error // of the next ApplyBatch
}

var errDisk = errors.New("the disk failed")

func newMemory(c *cluster, id string) *memory {
	return &memory{cluster: c, id: id, digests: make(map[uint64]digest.Digest), changed: make(chan struct{})}
}

func (m *memory) ApplyBatch(entries []ordering.Entry) ([]any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.failBefore; err != nil {
		m.failBefore = nil
		return nil, err
	}
	responses := make([]any, len(entries))
	for i, e := range entries {
		if e.Index <= m.applied {
			return nil, fmt.Errorf("entry %d after %d", e.Index, m.applied)
		}
		if e.Digest != digest.Of(digest.Entry, e.Data) {
			return nil, fmt.Errorf("entry %d has digest %s", e.Index, e.Digest)
		}
		e.Data = slices.Clone(e.Data)
		m.entries = append(m.entries, e)
		m.digests[e.Index] = e.Digest
		m.applied = e.Index
		responses[i] = string(e.Data)
	}
	m.batches = append(m.batches, len(entries))
	m.signal()
	if err := m.failAfter; err != nil {
		m.failAfter = nil
		return nil, err
	}
	return responses, nil
}

func (m *memory) signal() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) AppliedIndex() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

func (m *memory) AppliedDigest(index uint64) (digest.Digest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.digests[index]
	return d, ok
}

// pointer is memory's snapshot pointer.
type pointer struct {
	Node    string
	Applied uint64
}

func (m *memory) SnapshotPointer() ([]byte, error) {
	return json.Marshal(pointer{Node: m.id, Applied: m.AppliedIndex()})
}

func (m *memory) RestorePointer(_ context.Context, b []byte) error {
	var p pointer
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	from := m.cluster.nodes[p.Node].state.upTo(p.Applied)
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.Applied <= m.applied {
		return nil
	}
	for i, e := range m.entries {
		if i >= len(from) || from[i].Index != e.Index || from[i].Digest != e.Digest {
			return reason.New(reason.DataLoss, "the pointer contradicts entry %d", e.Index)
		}
	}
	m.entries = slices.Clone(from) // digests stay unknown
	m.applied = p.Applied
	m.restores++
	m.signal()
	return nil
}

func (m *memory) upTo(index uint64) []ordering.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []ordering.Entry
	for _, e := range m.entries {
		if e.Index <= index {
			out = append(out, e)
		}
	}
	return out
}

// texts are the applied entries, without those that a client proposed again
// because it did not learn of the first one's fate.
func (m *memory) texts() []string {
	var out []string
	for _, e := range m.upTo(^uint64(0)) {
		if !slices.Contains(out, string(e.Data)) {
			out = append(out, string(e.Data))
		}
	}
	return out
}

// wait returns when the entry at index, or a later one, is applied.
func (m *memory) wait(t testing.TB, index uint64) {
	t.Helper()
	ctx := testContext(t)
	for {
		m.mu.Lock()
		applied, changed := m.applied, m.changed
		m.mu.Unlock()
		if applied >= index {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s has applied up to %d, want %d", m.id, applied, index)
		}
	}
}

package storage

import (
	"sync"

	"github.com/lacre-metrology/lacre/core/state"
)

// hotBytes bounds a generation of the state values in memory.
const hotBytes = 32 << 20

// Memory is state.Remembering.
func (s *Store) Memory() *state.Memory { return s.memory }

// hot is the newest values of the state keys that blocks are built on, so that
// a meter that measures each second is not sought in bbolt each second. Only
// whoever commits puts values in, a Pending and a Commit, which do not overlap:
// another reader could put back what a commit has just replaced.
//
// There are two generations, and when the young one is full the old one is dropped.
// A page of counters goes when the meter begins the next: nobody needs it but a
// sample that comes late or twice, and of pages there are more and more.
type hot struct {
	mu    sync.RWMutex // guards the rest
	bytes int          // of the young generation
	young map[string][]byte
	old   map[string][]byte
}

// get finds a value; what it returns is not changed.
func (h *hot) get(key []byte) (value []byte, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if value, ok = h.young[string(key)]; !ok {
		value, ok = h.old[string(key)]
	}
	return value, ok
}

// drop forgets a key.
func (h *hot) drop(key []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if value, ok := h.young[string(key)]; ok {
		h.bytes -= len(key) + len(value)
		delete(h.young, string(key))
	}
	delete(h.old, string(key))
}

// put sets the newest value of a key, and tells whether it is new to the
// generation.
func (h *hot) put(key, value []byte) (added bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.young == nil || h.bytes >= hotBytes {
		h.old, h.young, h.bytes = h.young, make(map[string][]byte, len(h.young)), 0
	}
	before, ok := h.young[string(key)]
	if ok {
		h.bytes += len(value) - len(before)
	} else {
		h.bytes += len(key) + len(value)
	}
	h.young[string(key)] = value
	return !ok
}

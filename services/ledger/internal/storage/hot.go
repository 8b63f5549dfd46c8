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

// put sets the newest value of a key.
func (h *hot) put(key, value []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.young == nil || h.bytes >= hotBytes {
		h.old, h.young, h.bytes = h.young, make(map[string][]byte, len(h.young)), 0
	}
	if before, ok := h.young[string(key)]; ok {
		h.bytes += len(value) - len(before)
	} else {
		h.bytes += len(key) + len(value)
	}
	h.young[string(key)] = value
}

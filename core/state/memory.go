package state

import (
	"bytes"
	"sync"
)

// Memory keeps what was decoded from state values from one block to the next,
// so that a meter that measures each second is not decoded each second. What it
// keeps counts only while the view's value is the very bytes that it was decoded
// from or encoded to: like a cache of signature checks (rule B4) it can say
// nothing else than doing the work again would, and a block that was never
// committed leaves nothing wrong behind. Configurations and parameters, of which
// the state holds each under its digest, are known by that. What a Memory gives
// is never changed in place.
//
// It is bounded: there are two generations, and when the values of the young one
// reach the limit the old one is dropped. One Memory may serve any number of
// goroutines, of one ledger.
type Memory struct {
	limit int // bytes of values in a generation; constant

	mu    sync.Mutex // guards the rest
	bytes int        // of the young generation
	young map[string]decoded
	old   map[string]decoded
}

// decoded is a value's bytes and what they say.
type decoded struct {
	value []byte
	what  any
}

// NewMemory keeps what was decoded from about so many bytes of values; decoded
// it takes several times as much.
func NewMemory(limit int) *Memory {
	return &Memory{limit: limit / 2, young: make(map[string]decoded)}
}

// find is what the value under a key says, if that is known. A nil Memory knows nothing.
func (m *Memory) find(key string, value []byte) (any, bool) {
	if m == nil {
		return nil, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.young[key]
	if !ok {
		if d, ok = m.old[key]; ok {
			delete(m.old, key)
			m.insert(key, d)
		}
	}
	if !ok || !bytes.Equal(d.value, value) {
		return nil, false
	}
	return d.what, true
}

// keep remembers what a value says. Nobody changes either any more.
func (m *Memory) keep(key string, value []byte, what any) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.insert(key, decoded{value, what})
}

// forget drops what nobody will ask for again.
func (m *Memory) forget(key string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes -= len(m.young[key].value)
	delete(m.young, key)
	delete(m.old, key)
}

// insert needs mu.
func (m *Memory) insert(key string, d decoded) {
	if m.bytes >= m.limit {
		m.old, m.young, m.bytes = m.young, make(map[string]decoded, len(m.young)), 0
	}
	m.bytes += len(d.value) - len(m.young[key].value)
	m.young[key] = d
}

// once decodes a value, or gives what a decoding of the same bytes under this
// key gave before.
func once[T any](m *Memory, key string, value []byte, decode func() (T, error)) (T, error) {
	if known, ok := m.find(key, value); ok {
		if what, ok := known.(T); ok {
			return what, nil
		}
	}
	what, err := decode()
	if err == nil {
		m.keep(key, value, what)
	}
	return what, err
}

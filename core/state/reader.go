package state

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/wire"
)

// reader is a view with decoded values and, in a block, its writes so far. A
// value that was read is kept, so each key is read and decoded once; a reader
// for one look-up (lookup) keeps nothing and is never written to.
type reader struct {
	view   View
	memory *Memory // the view's; may be nil
	cells  map[string]*cell
	dirty  []string // keys written, each once, in order of first writing
	// founding: this is the genesis block.
	founding bool
	// approved are parsed approvals, each valid while the state value is the same.
	approved map[digest.Digest]*approved
}

// cell is one state value, decoded or raw; present is false for a key that has
// none. Messages in it are never changed in place: a write puts another.
type cell struct {
	present bool
	dirty   bool
	message proto.Message
	raw     []byte
}

func newReader(view View) *reader {
	r := lookup(view)
	r.cells, r.approved = make(map[string]*cell), make(map[digest.Digest]*approved)
	return r
}

// lookup is a reader for one value.
func lookup(view View) *reader {
	r := &reader{view: view}
	if v, ok := view.(Remembering); ok {
		r.memory = v.Memory()
	}
	return r
}

// note keeps what was read.
func (r *reader) note(key string, c *cell) {
	if r.cells != nil {
		r.cells[key] = c
	}
}

func (c *cell) encode() ([]byte, error) {
	if c.message == nil {
		return c.raw, nil
	}
	return wire.Encode(c.message) // the one form, as the header covers it
}

// raw reads a value that is not a message; nil when there is none.
func (r *reader) raw(key string) ([]byte, error) {
	c, ok := r.cells[key]
	if !ok {
		value, err := r.view.Get([]byte(key))
		if err != nil {
			return nil, fmt.Errorf("read state %q: %w", key, err)
		}
		c = &cell{present: value != nil, raw: value}
		r.note(key, c)
	}
	return c.raw, nil
}

func (r *reader) putRaw(key string, value []byte) { r.put(key, &cell{raw: value}) }

func (r *reader) putMessage(key string, m proto.Message) { r.put(key, &cell{message: m}) }

func (r *reader) put(key string, c *cell) {
	old, ok := r.cells[key]
	if !ok || !old.dirty {
		r.dirty = append(r.dirty, key)
	}
	c.present, c.dirty = true, true
	r.cells[key] = c
}

// message reads a value of message type M; nil when there is none. The caller
// does not change it.
func message[T any, M interface {
	*T
	proto.Message
}](r *reader, key string) (M, error) {
	c, ok := r.cells[key]
	if !ok {
		value, err := r.view.Get([]byte(key))
		if err != nil {
			return nil, fmt.Errorf("read state %q: %w", key, err)
		}
		c = &cell{present: value != nil}
		if value != nil {
			m, err := once(r.memory, key, value, func() (M, error) {
				m := M(new(T))
				return m, proto.Unmarshal(value, m)
			})
			if err != nil {
				return nil, corrupt("%q: %w", key, err)
			}
			c.message = m
		}
		r.note(key, c)
	}
	if !c.present {
		return nil, nil
	}
	m, ok := c.message.(M)
	if !ok {
		return nil, corrupt("%q holds a %T", key, c.message)
	}
	return m, nil
}

// index reads an 8-byte index; ok is false when there is none.
func (r *reader) index(key string) (index uint64, ok bool, err error) {
	value, err := r.raw(key)
	if err != nil || value == nil {
		return 0, false, err
	}
	index, err = decodeIndex(key, value)
	return index, err == nil, err
}

package state

import (
	"fmt"
	"slices"
	"strings"
)

// Overlay is a View of blocks that are sealed but not yet stored, over the view
// of what is: a host builds several blocks on it before one commit. It is not
// safe for use while Add runs.
type Overlay struct {
	base    View
	blocks  []BlockRef // ascending heights
	leaves  [][]byte   // from index first
	first   uint64
	written map[string][]byte
}

// NewOverlay is an overlay without blocks.
func NewOverlay(base View) *Overlay {
	return &Overlay{base: base, written: make(map[string][]byte)}
}

// Add puts a sealed block on top; ref is its reference with the root.
func (o *Overlay) Add(s *Sealed, ref BlockRef) {
	if len(o.blocks) == 0 {
		o.first = ref.FirstIndex
	}
	o.blocks = append(o.blocks, ref)
	o.leaves = append(o.leaves, s.Records...)
	for _, w := range s.Writes {
		o.written[string(w.Key)] = w.Value
	}
}

// Writes are the merged writes of all blocks, sorted, each key once with its
// last value.
func (o *Overlay) Writes() []Write {
	writes := make([]Write, 0, len(o.written))
	for key, value := range o.written { // order is restored below
		writes = append(writes, Write{Key: []byte(key), Value: value})
	}
	slices.SortFunc(writes, func(a, b Write) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return writes
}

// Get implements View.
func (o *Overlay) Get(key []byte) ([]byte, error) {
	if value, ok := o.written[string(key)]; ok {
		return value, nil
	}
	return o.base.Get(key)
}

// Block implements View.
func (o *Overlay) Block(height uint64) (BlockRef, bool, error) {
	if n := len(o.blocks); n > 0 && height >= o.blocks[0].Height {
		if height > o.blocks[n-1].Height {
			return BlockRef{}, false, nil
		}
		return o.blocks[height-o.blocks[0].Height], true, nil
	}
	return o.base.Block(height)
}

// Record implements View.
func (o *Overlay) Record(index uint64) ([]byte, error) {
	if len(o.blocks) > 0 && index >= o.first {
		if at := index - o.first; at < uint64(len(o.leaves)) {
			return o.leaves[at], nil
		}
		return nil, fmt.Errorf("leaf %d is above the newest, %d", index, o.first+uint64(len(o.leaves))-1)
	}
	return o.base.Record(index)
}

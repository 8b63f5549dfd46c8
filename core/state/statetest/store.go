// Package statetest is a whole Lacre network in memory, for tests: keys, a
// store that is a state.View, certificates, statements, meters and endorsed
// measurements. Keys derive from names, so a test gives the same bytes each
// time (but for P-256 signatures, which draw randomness).
//
// Source: package state; it takes the same steps as a ledger replica and its
// clients, without their services.
package statetest

import (
	"fmt"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// Store is a ledger in memory: a state.View, the tree and all leaves.
type Store struct {
	Values map[string][]byte
	Leaves [][]byte
	Hashes []digest.Digest
	Blocks []state.BlockRef
	tree   *tlog.Range
	// Fail, if set, is asked before each read; its error is the read's. key is
	// the state key, "block" or "record".
	Fail func(key string) error
}

// NewStore is a store without a genesis block.
func NewStore() *Store {
	return &Store{Values: make(map[string][]byte), tree: tlog.NewRange()}
}

// Head is the newest block.
func (s *Store) Head() state.BlockRef { return s.Blocks[len(s.Blocks)-1] }

// Apply appends a sealed block and returns its reference with the root.
func (s *Store) Apply(b *state.Sealed) state.BlockRef {
	s.tree.Append(b.LeafHashes...)
	s.Leaves = append(s.Leaves, b.Records...)
	s.Hashes = append(s.Hashes, b.LeafHashes...)
	for _, w := range b.Writes {
		s.Values[string(w.Key)] = slices.Clone(w.Value)
	}
	ref := b.Complete(s.tree.Root())
	s.Blocks = append(s.Blocks, ref)
	return ref
}

// BlockLeaves are the leaves of a block, the header last.
func (s *Store) BlockLeaves(height uint64) [][]byte {
	ref := s.Blocks[height]
	return s.Leaves[ref.FirstIndex:ref.Size]
}

// Clone is an independent copy.
func (s *Store) Clone() *Store {
	c := NewStore()
	c.tree = s.tree.Clone()
	c.Leaves, c.Hashes, c.Blocks = slices.Clone(s.Leaves), slices.Clone(s.Hashes), slices.Clone(s.Blocks)
	for k, v := range s.Values {
		c.Values[k] = v
	}
	return c
}

// Digest covers all state values.
func (s *Store) Digest() digest.Digest { return state.DigestWrites(s.Writes()) }

func (s *Store) failing(key string) error {
	if s.Fail == nil {
		return nil
	}
	return s.Fail(key)
}

// Get implements state.View.
func (s *Store) Get(key []byte) ([]byte, error) {
	if err := s.failing(string(key)); err != nil {
		return nil, err
	}
	return s.Values[string(key)], nil
}

// Block implements state.View.
func (s *Store) Block(height uint64) (state.BlockRef, bool, error) {
	if err := s.failing("block"); err != nil {
		return state.BlockRef{}, false, err
	}
	if height >= uint64(len(s.Blocks)) {
		return state.BlockRef{}, false, nil
	}
	return s.Blocks[height], true, nil
}

// Record implements state.View.
func (s *Store) Record(index uint64) ([]byte, error) {
	if err := s.failing("record"); err != nil {
		return nil, err
	}
	if index >= uint64(len(s.Leaves)) {
		return nil, fmt.Errorf("leaf %d of %d", index, len(s.Leaves))
	}
	return s.Leaves[index], nil
}

// Writes are all state values, sorted by key.
func (s *Store) Writes() []state.Write {
	keys := make([]string, 0, len(s.Values))
	for k := range s.Values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	writes := make([]state.Write, len(keys))
	for i, k := range keys {
		writes[i] = state.Write{Key: []byte(k), Value: s.Values[k]}
	}
	return writes
}

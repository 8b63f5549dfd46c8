package storage

import (
	"fmt"

	"github.com/lacre-metrology/lacre/core/state"
)

var _ state.Remembering = (*Pending)(nil)

// Pending is the ledger as it will be when the blocks added so far are
// committed on top of a store: so block k+1 of a batch is built on block k. It
// belongs to one goroutine, and nothing else may commit meanwhile.
type Pending struct {
	store   *Store
	blocks  []Block
	writes  map[string][]byte // newest value for each key that the first indexed blocks write
	indexed int               // most batches are of one block, on which nothing is built: see Get
	next    uint64            // height of the next block
	size    uint64            // leaves
	lock    Lock
}

// Pending starts a batch on top of what is committed.
func (s *Store) Pending() *Pending {
	t := s.recent.Load().tip
	return &Pending{store: s, writes: make(map[string][]byte), next: t.blocks, size: t.size, lock: t.lock}
}

// Add puts a block on top; *BatchError if it does not extend the ones before.
func (p *Pending) Add(b Block) error {
	if err := checkBlock(&b, p.next, p.size, p.lock); err != nil {
		return err
	}
	p.blocks = append(p.blocks, b)
	p.next, p.size = p.next+1, b.Ref.Size
	if !b.Lock.IsZero() {
		p.lock = b.Lock
	}
	return nil
}

// Cosign puts what this replica signs into the newest block; *BatchError if it
// is not for that block or does not rise above the lock before.
func (p *Pending) Cosign(lock Lock, cosignature []byte) error {
	newest := &p.blocks[len(p.blocks)-1]
	signed := *newest
	signed.Lock, signed.Cosignature = lock, cosignature
	if err := checkLock(&signed, p.lock); err != nil {
		return err
	}
	*newest, p.lock = signed, lock
	return nil
}

// Blocks are those added so far, for Batch.Blocks.
func (p *Pending) Blocks() []Block { return p.blocks }

// Head is the newest block, pending ones included; ok is false while there is none.
func (p *Pending) Head() (ref state.BlockRef, ok bool) {
	if n := len(p.blocks); n > 0 {
		return p.blocks[n-1].Ref, true
	}
	return p.store.Head()
}

// Get is View.Get.
func (p *Pending) Get(key []byte) ([]byte, error) {
	for ; p.indexed < len(p.blocks); p.indexed++ {
		for _, w := range p.blocks[p.indexed].Writes {
			p.writes[string(w.Key)] = w.Value
		}
	}
	if value, ok := p.writes[string(key)]; ok {
		return value, nil
	}
	value, err := p.store.Get(key)
	if err == nil && value != nil {
		p.store.hot.put(key, value)
	}
	return value, err
}

// Memory is state.Remembering.
func (p *Pending) Memory() *state.Memory { return p.store.memory }

// Block is View.Block.
func (p *Pending) Block(height uint64) (state.BlockRef, bool, error) {
	if height >= p.next {
		return state.BlockRef{}, false, nil
	}
	if committed := p.next - uint64(len(p.blocks)); height >= committed {
		return p.blocks[height-committed].Ref, true, nil
	}
	return p.store.Block(height)
}

// Record is View.Record; ErrNotStored beyond the pending blocks.
func (p *Pending) Record(index uint64) ([]byte, error) {
	if index >= p.size {
		return nil, fmt.Errorf("record %d of %d, pending ones included: %w", index, p.size, ErrNotStored)
	}
	for i := len(p.blocks) - 1; i >= 0; i-- {
		if b := &p.blocks[i]; index >= b.Ref.FirstIndex {
			return b.Leaves[index-b.Ref.FirstIndex], nil
		}
	}
	return p.store.Record(index)
}

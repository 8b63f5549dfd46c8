package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/kept"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// State is a ledger replayed up to a block: its state values, a reference for
// each block with a digest of its leaves, and the compact range of its tree. Keep it (Bytes) to audit later
// what was added since. It is as trustworthy as the place where it is kept.
type State struct {
	values          map[string][]byte
	memory          *state.Memory    // of values
	blocks          []state.BlockRef // by height
	leaves          []digest.Digest  // of each block's leaf hashes, by height: what is read again must be these
	tree            *tlog.Range
	certified       bool
	certifiedHeight uint64
}

// memoryBytes bounds the values that stay decoded: those of about 30,000 meters,
// which take some 100 MiB.
const memoryBytes = 16 << 20

// digestOf is the plain SHA-256 over a block's leaf hashes.
func digestOf(leafHashes []digest.Digest) digest.Digest {
	h := sha256.New()
	for i := range leafHashes {
		h.Write(leafHashes[i][:])
	}
	return digest.Digest(h.Sum(nil))
}

func newState() *State {
	return &State{values: make(map[string][]byte), memory: state.NewMemory(memoryBytes), tree: tlog.NewRange()}
}

// Next is the height of the first block that it does not have.
func (s *State) Next() uint64 { return uint64(len(s.blocks)) }

// Settled reports whether a certificate covers all of its blocks. Who counts by
// certified blocks can only continue where that is so.
func (s *State) Settled() bool { return s.certified && s.certifiedHeight+1 == s.Next() }

// ViewFrom reads it as the transition does. Records come from the source again, and
// are those that replayed, or an error. One goroutine uses it.
func (s *State) ViewFrom(ctx context.Context, source Source) state.View {
	return &view{State: s, ctx: ctx, source: source}
}

func (s *State) head() state.BlockRef { return s.blocks[len(s.blocks)-1] }

// Head is the newest block that it has; there must be one.
func (s *State) Head() state.BlockRef { return s.head() }

// HeightOf is the block that holds a leaf, of those that it has.
func (s *State) HeightOf(index uint64) uint64 {
	at, _ := slices.BinarySearchFunc(s.blocks, index, func(b state.BlockRef, index uint64) int {
		return cmp.Compare(b.Size, index+1) // the first block that ends after the leaf
	})
	return uint64(at)
}

// View reads the state after the newest block. It holds no records.
func (s *State) View() state.View { return recordless{&view{State: s}} }

// recordless is a state whose source is gone.
type recordless struct{ *view }

// Record implements state.View.
func (recordless) Record(index uint64) ([]byte, error) {
	return nil, reason.New(reason.NotFound, "the state of an audit holds no records, record %d is asked for", index)
}

// Again reads its blocks from a source once more, in order, for whoever wants
// more of them than the state says. Each is visited once it is known to be the
// block that was replayed: that costs a hash for each leaf, and no signature. The
// block's certificate is as the source gives it, and judged by nobody. The error
// is the source's, or says that it gives other blocks than it gave before.
func (s *State) Again(ctx context.Context, source Source, visit func(b *Block)) error {
	height := uint64(0)
	for b, err := range source.Blocks(ctx, 0) {
		if err == nil {
			err = cmp.Or(ctx.Err(), s.same(b, height))
		}
		if err != nil {
			return fmt.Errorf("audit: read block %d again: %w", height, err)
		}
		visit(b)
		if height++; height == s.Next() {
			return nil
		}
	}
	return fmt.Errorf("audit: read block %d again: the source has it no more", height)
}

// same says whether a block that came is the one of a height that replayed.
func (s *State) same(b *Block, height uint64) error {
	hashes := make([]digest.Digest, len(b.Leaves))
	for i, leaf := range b.Leaves {
		hashes[i] = tlog.LeafHash(leaf)
	}
	if b.Height != height || digestOf(hashes) != s.leaves[height] {
		return fmt.Errorf("the source gives block %d, which is not the one that it gave before", b.Height)
	}
	return nil
}

// Keys are the state's keys with a prefix, ascending.
func (s *State) Keys(prefix string) []string {
	var keys []string
	for k := range s.values { // order is restored below
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (s *State) clone() *State {
	c := &State{values: make(map[string][]byte, len(s.values)), memory: s.memory, blocks: slices.Clone(s.blocks), leaves: slices.Clone(s.leaves), tree: s.tree.Clone(),
		certified: s.certified, certifiedHeight: s.certifiedHeight}
	for k, v := range s.values {
		c.values[k] = v
	}
	return c
}

// apply puts a replayed block on top.
func (s *State) apply(b *state.Sealed) state.BlockRef {
	s.tree.Append(b.LeafHashes...)
	for _, w := range b.Writes {
		s.values[string(w.Key)] = bytes.Clone(w.Value)
	}
	ref := b.Complete(s.tree.Root())
	s.blocks, s.leaves = append(s.blocks, ref), append(s.leaves, digestOf(b.LeafHashes))
	return ref
}

// certify notes that a certificate covers the tree up to a height.
func (s *State) certify(height uint64) {
	s.certified, s.certifiedHeight = true, max(s.certifiedHeight, height)
}

// Memory is state.Remembering.
func (s *State) Memory() *state.Memory { return s.memory }

// view is the state as the transition reads it; records come from the source.
type view struct {
	*State
	ctx    context.Context
	source Source
	again  *Block // the block that was read again last
}

// sourceError marks a failure to read, so that it ends the audit and is never
// taken for the ledger's fault.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// Get implements state.View.
func (v *view) Get(key []byte) ([]byte, error) { return v.values[string(key)], nil }

// Block implements state.View.
func (v *view) Block(height uint64) (state.BlockRef, bool, error) {
	if height >= v.Next() {
		return state.BlockRef{}, false, nil
	}
	return v.blocks[height], true, nil
}

// Record implements state.View. The transition decides by earlier leaves too (it
// judges a canary's verdicts by them), so a source that gives others now than it
// gave before hides nothing.
func (v *view) Record(index uint64) ([]byte, error) {
	height := v.HeightOf(index)
	if height == v.Next() {
		return nil, &sourceError{fmt.Errorf("record %d is asked for, the blocks end before %d", index, v.tree.Size())}
	}
	if v.again == nil || v.again.Height != height {
		b, err := v.read(height)
		if err != nil {
			return nil, &sourceError{fmt.Errorf("read block %d again: %w", height, err)}
		}
		v.again = b
	}
	return v.again.Leaves[index-v.blocks[height].FirstIndex], nil
}

// read reads one replayed block again.
func (v *view) read(height uint64) (*Block, error) {
	for b, err := range v.source.Blocks(v.ctx, height) {
		if err == nil {
			err = v.same(b, height)
		}
		if err != nil {
			return nil, err
		}
		return b, nil
	}
	return nil, errors.New("the source has it no more")
}

const stateMagic = "lacre/audit-state/v2\n"

// ErrState says that bytes are not what State.Bytes wrote.
var ErrState = errors.New("not the state of an audit")

// Bytes is the state in its one form (core/kept).
func (s *State) Bytes() []byte {
	w := kept.NewWriter(stateMagic)
	w.Values(s.values)
	w.Number(uint64(len(s.blocks)))
	for i, r := range s.blocks {
		w.Block(r, s.leaves[i])
	}
	w.Field(s.tree.Bytes())
	if s.certified {
		w.Number(s.certifiedHeight + 1)
	} else {
		w.Number(0)
	}
	return w.Bytes()
}

// ParseState reads what Bytes writes (errors.Is ErrState).
func ParseState(b []byte) (*State, error) {
	r, err := kept.Open(stateMagic, b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	s := newState()
	s.values = r.Values()
	for range r.Count(kept.BlockSize(1)) {
		var leaves digest.Digest
		s.blocks = append(s.blocks, r.Block(&leaves))
		s.leaves = append(s.leaves, leaves)
	}
	if s.tree, err = tlog.ParseRange(r.Field()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if plusOne := r.Number(); plusOne > 0 {
		s.certified, s.certifiedHeight = true, plusOne-1
	}
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if len(s.blocks) == 0 || s.head().Height+1 != s.Next() || s.head().Size != s.tree.Size() {
		return nil, fmt.Errorf("%w: its parts do not fit", ErrState)
	}
	if !bytes.Equal(s.Bytes(), b) { // numbers longer than need be, keys out of order or twice
		return nil, fmt.Errorf("%w: not in its one form", ErrState)
	}
	return s, nil
}

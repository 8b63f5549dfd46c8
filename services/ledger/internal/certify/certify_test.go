package certify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

func ref(height uint64, root string) state.BlockRef {
	return state.BlockRef{Height: height, Size: 10 + 2*height, Root: digest.Plain([]byte(root))}
}

func newSigner(lock storage.Lock, now *int64) *Signer {
	clock := func() time.Time { return time.Unix(*now, 0) }
	return NewSigner("origin.test/0011223344556677", "origin.test/0011223344556677/replica-00", statetest.Key("c"), statetest.Key("l"), clock, lock)
}

func TestC1_SignerRefusesWhatItsLockExcludes(t *testing.T) {
	now := int64(1000)
	locked := ref(5, "five")
	lock := storage.Lock{Height: locked.Height, Size: locked.Size, Root: locked.Root}
	rootIs := func(root digest.Digest) RootAt {
		return func(size uint64) (digest.Digest, error) {
			if size != lock.Size {
				return digest.Zero, fmt.Errorf("root asked at %d, the lock has size %d", size, lock.Size)
			}
			return root, nil
		}
	}
	smaller := ref(6, "six")
	smaller.Size = lock.Size
	for name, c := range map[string]struct {
		block state.BlockRef
		root  digest.Digest
	}{
		"the locked height again":            {locked, locked.Root},
		"another root at the locked height":  {ref(5, "other"), locked.Root},
		"a lower height":                     {ref(4, "four"), locked.Root},
		"a higher height of the locked size": {smaller, locked.Root},
		"a tree that does not extend it":     {ref(6, "six"), digest.Plain([]byte("other"))},
	} {
		s := newSigner(lock, &now)
		s.SignFrom(0)
		if signed, err := s.Sign(c.block, rootIs(c.root)); reason.Of(err) != reason.DataLoss || signed != nil {
			t.Errorf("%s: %v, %v", name, signed, err)
		}
		if s.Lock() != lock {
			t.Errorf("%s: the lock moved to %+v", name, s.Lock())
		}
	}
	s := newSigner(lock, &now)
	s.SignFrom(0)
	if _, err := s.Sign(ref(6, "six"), func(uint64) (digest.Digest, error) { return digest.Zero, errors.New("unreadable") }); err == nil {
		t.Error("signed without knowing the root at the lock")
	}
	next := ref(9, "nine") // heights may have gaps: rule C7
	signed, err := s.Sign(next, rootIs(locked.Root))
	if err != nil || signed == nil || s.Lock() != (storage.Lock{Height: 9, Size: next.Size, Root: next.Root}) {
		t.Fatalf("%+v, %v, lock %+v", signed, err, s.Lock())
	}
}

func TestC2_RefreshChangesTheTimeAlone(t *testing.T) {
	now := int64(1000)
	s := newSigner(storage.Lock{}, &now)
	s.SignFrom(0)
	signed, err := s.Sign(ref(1, "one"), nil)
	if err != nil {
		t.Fatal(err)
	}
	now += 5
	again, err := s.Refresh(*signed)
	if err != nil || again.Checkpoint != signed.Checkpoint || again.Height != signed.Height || again.Log != signed.Log ||
		again.Cosignature.TimestampUnix != 1005 || signed.Cosignature.TimestampUnix != 1000 {
		t.Errorf("refreshed %+v (%v), signed was %+v", again, err, signed)
	}
	if s.Lock().Height != 1 {
		t.Errorf("refreshing moved the lock to %+v", s.Lock())
	}
}

func TestC7_NothingIsSignedBeforeTheAnswer(t *testing.T) {
	now := int64(1000)
	s := newSigner(storage.Lock{}, &now)
	for _, c := range []struct{ from, height, signs uint64 }{{math.MaxUint64, 1, 0}, {4, 3, 0}, {4, 4, 1}} {
		if c.from != math.MaxUint64 {
			s.SignFrom(c.from)
		}
		block := ref(c.height, "x")
		signed, err := s.Sign(block, func(uint64) (digest.Digest, error) { return digest.Zero, nil })
		if err != nil || (signed != nil) != (c.signs == 1) {
			t.Errorf("from %d, height %d: %+v, %v", c.from, c.height, signed, err)
		}
		again, err := s.Refresh(Signed{Height: c.height, Checkpoint: tlog.Checkpoint{Origin: s.origin, Size: block.Size, Root: block.Root}})
		if err != nil || (again != nil) != (c.signs == 1) {
			t.Errorf("from %d: height %d is refreshed as %+v, %v", c.from, c.height, again, err)
		}
	}
}

// The archive gives the same certificate from memory and from disk.
func TestArchiveKeepsTheFirstCertificateOfAHeight(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	store, err := storage.Open(filepath.Join(t.TempDir(), "store"), storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	tree := tlog.NewRange()
	for height := range uint64(4) {
		if height > 0 {
			n.Apply(n.Begin())
		}
		block := storage.Block{Ref: n.Store.Blocks[height], Leaves: n.Store.BlockLeaves(height)}
		for _, leaf := range block.Leaves {
			block.LeafHashes = append(block.LeafHashes, tlog.LeafHash(leaf))
		}
		block.Nodes = storage.Extend(tree, block.LeafHashes)
		if err := store.Commit(storage.Batch{Blocks: []storage.Block{block}}); err != nil {
			t.Fatal(err)
		}
	}
	a := NewArchive(store)
	check := func(when string) {
		t.Helper()
		for height, want := range []string{"one", "one", "three", "three"} {
			c, ok, err := a.From(uint64(height))
			if err != nil || !ok || string(c.Note) != want {
				t.Errorf("%s: from %d: %q, %v, %v, want %q", when, height, c.Note, ok, err, want)
			}
		}
		if c, ok, err := a.From(4); ok || err != nil {
			t.Errorf("%s: from 4: %+v, %v", when, c, err)
		}
	}
	a.Keep(Certified{Block: n.Store.Blocks[1], Text: []byte("one")})
	a.Keep(Certified{Block: n.Store.Blocks[3], Text: []byte("three")})
	check("in memory")
	if err := a.flush(); err != nil {
		t.Fatal(err)
	}
	check("on disk")
	a.Keep(Certified{Block: n.Store.Blocks[1], Text: []byte("another")})
	check("another certificate of a height")
	a.Keep(Certified{Block: n.Store.Blocks[2], Text: []byte("two")})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if note, err := store.Certificate(2); err != nil || string(note) != "two" {
		t.Errorf("what was kept before the end is not on disk: %q, %v", note, err)
	}
}

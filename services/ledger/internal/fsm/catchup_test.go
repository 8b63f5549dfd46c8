package fsm

import (
	"context"
	"errors"
	"testing"

	"github.com/lacre-metrology/lacre/core/state/statetest"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
)

// certified lets a peer's blocks carry the certificates of some heights.
func (r *replica) certified(at func(height uint64) bool) func(*replicav1.FetchBlocksResponse) {
	return func(b *replicav1.FetchBlocksResponse) {
		if at(b.GetHeight()) {
			b.Certificate = r.n.Certificate(b.GetHeight())
		}
	}
}

// Joining is cut off again and again, by a death of the process each time, while
// the ledger goes on. Every block that is held is a certified one, none is made
// twice, and in the end the replica is as the others are.
func TestR4_JoiningSurvivesInterruption(t *testing.T) {
	r, _ := follower(t, 200)
	died := errors.New("the process died")
	var last uint64
	for round := uint64(1); round < 100; round++ {
		goal := min(20+60*round, r.n.Store.Head().Height) // the ledger goes on meanwhile
		stop := r.machine.Head().Block.Height + 67        // a batch and a few that are lost
		sent := r.serve(r.certified(func(uint64) bool { return true }))
		r.fetch = each(r, func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
			if stop < to {
				return errors.Join(sent(next, stop, take), died)
			}
			return sent(next, to, take)
		})
		err := r.machine.CatchUp(context.Background(), goal, goal+1)
		if head := r.machine.Head().Block; head != r.n.Store.Blocks[head.Height] {
			t.Fatalf("round %d: holds %+v", round, head)
		}
		if got, err := r.store.Certificate(r.machine.Head().Block.Height); err != nil || r.machine.Head().Block.Height > 0 && got == nil {
			t.Fatalf("the newest block is held without its certificate (%v)", err)
		}
		if err == nil && goal == r.n.Store.Head().Height {
			last = round
			break
		}
		if err != nil && !errors.Is(err, died) {
			t.Fatal(err)
		}
		r.restart()
	}
	if last < 3 {
		t.Errorf("joined after %d rounds; the test did not interrupt it", last)
	}
	r.same()
	if !r.machine.Restoring() {
		t.Error("the entries of the fetched blocks count as applied")
	}
	if _, err := r.machine.SnapshotPointer(); err == nil {
		t.Error("a snapshot names blocks whose entries come again")
	}
	if got := r.collector.Newest(); got.Block != r.n.Store.Head() || len(got.Text) == 0 {
		t.Errorf("certified is %+v, want the newest block", got.Block)
	}
	if _, ok := r.machine.EntryOf(r.machine.Head().Block.Height); ok {
		t.Error("it tells others an index that it only heard")
	}
	// The ordering log gives the entries from the beginning, then a new one.
	r.restart()
	for height := uint64(0); height <= r.n.Store.Head().Height; height++ {
		if applied := r.apply(r.entry()); !errors.Is(applied.Ignored, errRestored) {
			t.Fatalf("entry %d applies as %+v", r.index, applied)
		}
	}
	r.apply(r.entry())
	r.n.Apply(r.n.Begin())
	r.same()
	if index, ok := r.machine.EntryOf(r.machine.Head().Block.Height); !ok || index != r.index {
		t.Errorf("the newest block is of entry %d (%v), want %d", index, ok, r.index)
	}
	if _, err := r.machine.SnapshotPointer(); err != nil {
		t.Error(err)
	}
}

// A peer that gives no certificate, or a wrong one, is left for the next.
func TestR0_NothingIsFetchedWithoutACertificate(t *testing.T) {
	r, _ := follower(t, 100)
	head := r.n.Store.Head()
	other := statetest.New(t, statetest.Options{Organisations: 5})
	short := func(b *replicav1.FetchBlocksResponse) {
		if b.Certificate = r.n.Certificate(b.GetHeight()); b.GetHeight() == 70 {
			b.Certificate = r.n.Certificate(69)
		}
	}
	for name, lie := range map[string]func(*replicav1.FetchBlocksResponse){
		"none at the end":   r.certified(func(height uint64) bool { return height < head.Height }),
		"another network's": func(b *replicav1.FetchBlocksResponse) { b.Certificate = other.Certificate(0) },
		"another block's":   short,
	} {
		r.fetch = each(r, r.serve(lie))
		if err := r.machine.CatchUp(context.Background(), head.Height, head.Height+1); err == nil {
			t.Fatalf("%s: all blocks are taken", name)
		}
		if got := r.machine.Head().Block; got != r.n.Store.Blocks[got.Height] || got.Height == head.Height {
			t.Errorf("%s: block %d is kept", name, got.Height)
		}
	}
	if err := r.machine.CatchUp(context.Background(), head.Height, r.machine.AppliedIndex()); err == nil {
		t.Error("a block is of an entry that is applied already")
	}
	r.fetch = each(r, r.serve(short), r.serve(r.certified(func(uint64) bool { return true })))
	if err := r.machine.CatchUp(context.Background(), head.Height, head.Height+1); err != nil {
		t.Fatal(err)
	}
	r.same()
}

// The ordering engine's pointer meets blocks that were fetched before it ran.
func TestR0_PointerBehindFetchedBlocks(t *testing.T) {
	r, whole := follower(t, 100)
	r.fetch = each(r, r.serve(r.certified(func(uint64) bool { return true })))
	if err := r.machine.CatchUp(context.Background(), 80, 81); err != nil {
		t.Fatal(err)
	}
	earlier := pointer{height: 60, header: r.n.Store.Blocks[60].Header, applied: 61}
	if err := r.machine.RestorePointer(context.Background(), earlier.encode()); err != nil {
		t.Fatal(err)
	}
	if r.machine.AppliedIndex() != 61 || r.machine.Head().Block.Height != 80 || !r.machine.Restoring() {
		t.Errorf("applied index %d, block %d", r.machine.AppliedIndex(), r.machine.Head().Block.Height)
	}
	if err := r.machine.RestorePointer(context.Background(), whole); err != nil {
		t.Fatal(err)
	}
	r.same()
	if r.machine.Restoring() {
		t.Error("the restoration does not end")
	}
}

// Whoever is of no configuration gives no word.
func TestC6_OnlyMembersCosign(t *testing.T) {
	r, m := ready(t)
	r.published = nil
	r.signer = certify.NewSigner(r.signer.Name()[:len(r.signer.Name())-len("replica-00")-1], r.signer.Name()+"x", r.n.Replicas[0].Cosigner, r.n.Replicas[0].Log, nil, r.store.Lock())
	r.machine.signer, r.machine.cosigns = r.signer, membership{}
	r.signer.SignFrom(0)
	r.measure(m.Capture())
	if len(r.published) != 0 {
		t.Errorf("%d cosignatures of a stranger", len(r.published))
	}
}

package fsm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// serve gives blocks of the mirror; change may replace what a peer sends.
func (r *replica) serve(change func(*replicav1.FetchBlocksResponse)) func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	return func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		for ; *next <= to; *next++ {
			b := &replicav1.FetchBlocksResponse{Height: *next}
			for _, leaf := range r.n.Store.BlockLeaves(*next) {
				b.Records = append(b.Records, bytes.Clone(leaf))
			}
			if change != nil {
				change(b)
			}
			if err := take(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// follower is an empty replica of a network that has blocks, each of one entry,
// and the pointer that a replica with all of them makes.
func follower(t *testing.T, blocks int) (*replica, []byte) {
	t.Helper()
	r := newReplica(t, statetest.New(t, statetest.Options{}))
	for i := range blocks {
		r.n.NowUnix++
		if i == blocks/2 {
			r.n.Accept(r.n.SignApproval(r.n.Terms(), statetest.Body(), statetest.Maker()))
			continue
		}
		r.n.Apply(r.n.Begin())
	}
	head := r.n.Store.Head()
	return r, pointer{height: head.Height, header: head.Header, applied: head.Height + 1}.encode()
}

// each asks one peer after the other.
func each(r *replica, peers ...func(next *uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error) Fetch {
	return func(_ context.Context, from func() uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		var failures []error
		for _, peer := range peers {
			next := from()
			err := peer(&next, to, take)
			if err == nil && next > to {
				return nil
			}
			failures = append(failures, err)
		}
		return errors.Join(append(failures, errors.New("no peer is left"))...)
	}
}

func TestR0_PointerIsReachedByFetchingBlocks(t *testing.T) {
	r, pointer := follower(t, 150) // more than two batches
	r.fetch = each(r, r.serve(nil))
	if err := r.machine.RestorePointer(context.Background(), pointer); err != nil {
		t.Fatal(err)
	}
	r.same()
	if p, _ := parsePointer(pointer); r.machine.AppliedIndex() != p.applied {
		t.Errorf("applied index %d, the pointer was made at %d", r.machine.AppliedIndex(), p.applied)
	}
	if len(r.published) != 1 || r.published[0].Height != r.machine.Head().Block.Height {
		t.Errorf("%d cosignatures, want the newest block's alone", len(r.published))
	}
	// Again, and an older one: nothing moves.
	head := r.machine.Head()
	if err := r.machine.RestorePointer(context.Background(), pointer); err != nil || r.machine.Head() != head {
		t.Errorf("a second time: %v", err)
	}
	r.restart()
	r.same()
	r.index = r.machine.AppliedIndex()
	r.apply(r.entry())
	r.n.Apply(r.n.Begin())
	r.same()
}

// What a lying peer sends is dropped, and an honest one is asked.
func TestR0_LyingPeersCostNothing(t *testing.T) {
	for name, lie := range map[string]func(*replicav1.FetchBlocksResponse){
		"flipped header": func(b *replicav1.FetchBlocksResponse) { b.Records[len(b.Records)-1][9] ^= 1 },
		"no leaves":      func(b *replicav1.FetchBlocksResponse) { b.Records = nil },
		"more leaves":    func(b *replicav1.FetchBlocksResponse) { b.Records = append([][]byte{b.Records[0]}, b.Records...) },
		"more raw":       func(b *replicav1.FetchBlocksResponse) { b.RawVectors = [][]byte{{1}} },
	} {
		t.Run(name, func(t *testing.T) {
			r, pointer := follower(t, 100)
			liar := r.serve(func(b *replicav1.FetchBlocksResponse) {
				if b.GetHeight() == 90 { // in the second batch, behind blocks that are right
					lie(b)
				}
			})
			r.fetch = each(r, liar, r.serve(nil))
			if err := r.machine.RestorePointer(context.Background(), pointer); err != nil {
				t.Fatal(err)
			}
			r.same()
		})
	}
}

// A peer continues the ledger with valid blocks that no quorum has certified:
// they end before the pointer's block, and none of them may stay.
func TestR0_UncoveredBlocksAreNotKept(t *testing.T) {
	r, pointer := follower(t, 100)
	forked := r.n.Clone(t)
	forked.Store = statetest.NewStore()
	genesis, err := state.ReplayGenesis(r.n.Store.BlockLeaves(0), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	forked.Store.Apply(genesis)
	for height := uint64(1); height <= 60; height++ {
		sealed, err := state.Replay(forked.Store, forked.Store.Head(), state.Options{}, r.n.Store.BlockLeaves(height), nil)
		if err != nil {
			t.Fatal(err)
		}
		forked.Store.Apply(sealed)
	}
	for range 5 { // on the certificates of the true blocks; the time differs
		head := forked.Store.Head()
		b, err := state.BeginEmpty(forked.Store, head, state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		forked.Apply(b)
	}
	fork := &replica{t: t, n: forked}
	liar := func(next *uint64, _ uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		if err := fork.serve(nil)(next, 65, take); err != nil {
			return err
		}
		return errors.New("that is all")
	}
	r.fetch = each(r, liar)
	if err := r.machine.RestorePointer(context.Background(), pointer); err == nil {
		t.Fatal("a fork that does not lead to the pointer was taken for it")
	}
	for height := uint64(0); height <= r.machine.Head().Block.Height; height++ {
		got, _, err := r.store.Block(height)
		if want := r.n.Store.Blocks[height]; err != nil || got != want {
			t.Fatalf("block %d is kept as %+v (%v), want %+v", height, got, err, want)
		}
	}
	r.fetch = each(r, r.serve(nil))
	if err := r.machine.RestorePointer(context.Background(), pointer); err != nil {
		t.Fatal(err)
	}
	r.same()
}

// The log may deliver entries whose blocks a restoration brought that did not
// end: they must not make blocks a second time.
func TestR4_EntriesOfAnUnfinishedRestorationApplyOnce(t *testing.T) {
	r, pointer := follower(t, 100)
	p, err := parsePointer(pointer)
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("the connection broke")
	r.fetch = each(r, func(next *uint64, _ uint64, take func(*replicav1.FetchBlocksResponse) error) error {
		return errors.Join(r.serve(nil)(next, 80, take), stop)
	})
	if err := r.machine.RestorePointer(context.Background(), pointer); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if height := r.machine.Head().Block.Height; height == 0 || height >= p.height {
		t.Fatalf("restored up to %d of %d, want a part", height, p.height)
	}
	first := r.order(r.entry())
	if _, err := r.machine.ApplyBatch([]ordering.Entry{first}); err == nil {
		t.Fatal("an entry is applied on half a restoration")
	}
	r.restart()
	r.fetch = each(r, r.serve(nil))
	if err := r.machine.Resume(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.same()
	r.index = 0
	for r.index < p.applied {
		if applied := r.apply(r.entry()); !errors.Is(applied.Ignored, errRestored) {
			t.Fatalf("entry %d applies as %+v", r.index, applied)
		}
	}
	r.same()
	r.apply(r.entry())
	r.n.Apply(r.n.Begin())
	r.same()
	if _, err := os.Stat(filepath.Join(r.dir, "restoring")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the note of the restoration stays: %v", err)
	}
}

func TestR0_PointerThatContradictsHeldBlocksIsDataLoss(t *testing.T) {
	r, _ := ready(t)
	head := r.machine.Head().Block
	for name, p := range map[string]pointer{
		"another header at our head":    {height: head.Height, header: digest.Of(digest.BlockHeader, []byte("x")), applied: r.index + 5},
		"another header below it":       {height: 1, header: digest.Of(digest.BlockHeader, []byte("x")), applied: r.index},
		"fewer blocks at a later entry": {height: 1, header: r.n.Store.Blocks[1].Header, applied: r.index + 5},
	} {
		err := r.machine.RestorePointer(context.Background(), p.encode())
		if reason.Of(err) != reason.DataLoss {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.machine.Head().Block; got != head {
			t.Errorf("%s: head moved from %+v to %+v", name, head, got)
		}
	}
	if err := r.machine.RestorePointer(context.Background(), []byte("short")); err == nil {
		t.Error("half a pointer is accepted")
	}
}

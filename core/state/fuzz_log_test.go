package state_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// scripted is a network with an approved module and the three meters of a script.
func scripted(tb testing.TB) (*statetest.Network, *statetest.Script) {
	n := statetest.New(tb, statetest.Options{})
	n.Approve()
	return n, statetest.NewScript(n, nil)
}

// played is the script's life on a clone of the network, with its log: the steps
// in order, and the outcomes and the block of each.
type played struct {
	*statetest.Network
	from     *statetest.Network
	steps    []statetest.Step
	outcomes [][][]state.Outcome
	refs     []state.BlockRef // after each step
}

func play(tb testing.TB, from *statetest.Network, script *statetest.Script, data []byte) *played {
	p := &played{Network: from.Clone(tb), from: from}
	s := script.On(p.Network, data)
	for step, ok := s.Next(); ok; step, ok = s.Next() {
		outcomes, _ := p.Play(step)
		p.steps, p.outcomes, p.refs = append(p.steps, step), append(p.outcomes, outcomes), append(p.refs, p.Store.Head())
	}
	return p
}

// reopened is a store as a process finds it after a start: nothing of the old
// one's memory is in it.
func reopened(s *statetest.Store) *statetest.Store {
	c := s.Clone()
	for key, value := range c.Values {
		c.Values[key] = slices.Clone(value)
	}
	for i, leaf := range c.Leaves {
		c.Leaves[i] = slices.Clone(leaf)
	}
	return c
}

// remembering is a store whose values stay decoded.
type remembering struct {
	*statetest.Store
	memory *state.Memory
}

func (r remembering) Memory() *state.Memory { return r.memory }

// again builds the log a second time: submissions are parsed one by one and only
// when their turn comes, signatures come from a cache that ahead filled and
// values from a memory too small for all, and between blocks the process ends.
// crash also throws each block away once before it is durable, which the memory
// must survive.
func (p *played) again(t *testing.T, ahead, crash bool) {
	t.Helper()
	store := reopened(p.from.Store)
	view := func() state.View { return store }
	if ahead {
		memory := state.NewMemory(4 << 10)
		view = func() state.View { return remembering{store, memory} }
	}
	for i, step := range p.steps {
		options := state.Options{Verifier: p.Verifier}
		if ahead {
			options.Verifier = signature.NewCache(64) // too few for all: some are forgotten
		}
		build := func() (*state.Sealed, [][]state.Outcome) {
			block, empty, err := step.Begin(view(), store.Head(), options)
			if err != nil {
				t.Fatal(err)
			}
			if block == nil {
				return nil, nil
			}
			var outcomes [][]state.Outcome
			for _, s := range step.Submissions {
				if empty {
					break
				}
				parsed := statetest.Parse(s.Records, s.RawVectors)
				if cache, ok := options.Verifier.(*signature.Cache); ok {
					checks, err := state.Checks(store, parsed)
					if err != nil {
						t.Fatal(err)
					}
					cache.VerifyBatch(checks)
				}
				var refused []state.Outcome
				first := len(outcomes) == 0
				if first { // what is asked of a block that is not kept
					trial, _, err := step.Begin(view(), store.Head(), options)
					if err == nil {
						refused, err = trial.Refused(parsed)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				o, err := block.Submit(parsed)
				if err != nil {
					t.Fatal(err)
				}
				accepts := slices.ContainsFunc(o, func(o state.Outcome) bool { return o.Accepted })
				if first && (accepts != (refused == nil) || !accepts && !slices.Equal(refused, o)) {
					t.Fatalf("step %d: refused as %v, outcomes are %v", i, refused, o)
				}
				outcomes = append(outcomes, o)
			}
			sealed, err := block.Seal()
			if err != nil {
				t.Fatal(err)
			}
			return sealed, outcomes
		}
		if crash {
			build()
			store = reopened(store)
		}
		sealed, outcomes := build()
		if fmt.Sprint(outcomes) != fmt.Sprint(p.outcomes[i]) {
			t.Fatalf("step %d: outcomes %v, before %v", i, outcomes, p.outcomes[i])
		}
		if sealed != nil {
			store.Apply(sealed)
		}
		if store.Head() != p.refs[i] {
			t.Fatalf("step %d ends in %+v, before in %+v", i, store.Head(), p.refs[i])
		}
		store = reopened(store)
	}
	p.same(t, store)
}

// same compares all that two replicas must have in common.
func (p *played) same(t *testing.T, store *statetest.Store) {
	t.Helper()
	if store.Head() != p.Store.Head() || store.Digest() != p.Store.Digest() || !slices.Equal(store.Hashes, p.Store.Hashes) {
		t.Fatalf("one log ends in %+v with state %s and in %+v with state %s",
			p.Store.Head(), p.Store.Digest().Short(), store.Head(), store.Digest().Short())
	}
}

// replays rebuilds every block from its leaves, as an auditor does, and from the
// statements and headers alone, as a follower does.
func (p *played) replays(t *testing.T) {
	t.Helper()
	audited, followed := reopened(p.from.Store), reopened(p.from.Store)
	for height := p.from.Store.Head().Height + 1; height < uint64(len(p.Store.Blocks)); height++ {
		leaves := p.Store.BlockLeaves(height)
		sealed, err := state.Replay(audited, audited.Head(), state.Options{}, leaves, nil)
		if err != nil {
			t.Fatal(err)
		}
		audited.Apply(sealed)
		seen := make([]state.Leaf, len(leaves))
		for i, leaf := range leaves {
			r, err := record.Parse(leaf)
			if err != nil {
				t.Fatal(err)
			}
			seen[i] = state.Leaf{Hash: tlog.LeafHash(leaf)}
			if r.GetStatement() != nil || r.GetBlockHeader() != nil {
				seen[i].Record = leaf
			}
		}
		if sealed, err = state.ReplayAdministrative(followed, followed.Head(), state.Options{}, seen); err != nil {
			t.Fatal(err)
		}
		followed.Apply(sealed)
		if a, f := audited.Head(), followed.Head(); a != p.Store.Blocks[height] || f != a {
			t.Fatalf("block %d is %+v, audited %+v, followed %+v", height, p.Store.Blocks[height], a, f)
		}
	}
	p.same(t, audited)
}

// sound checks, from the leaves alone, what is true of every ledger: one leaf for
// a counter (rule S3), which the state finds; the running digest of the statements
// (rule S6); times that never fall (rule C4); and an outcome for every record.
func (p *played) sound(t *testing.T) {
	t.Helper()
	type place struct {
		meter   string
		counter uint64
	}
	measured := make(map[place]int)
	admin, height, last := digest.Zero, 0, int64(0)
	for i, leaf := range p.Store.Leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.GetStatement() != nil:
			admin = state.ChainAdmin(admin, leaf)
		case r.GetMeasurement() != nil:
			header, err := sample.Parse(r.GetMeasurement().GetHeader())
			if err != nil {
				t.Fatal(err)
			}
			at := place{header.MeterID, header.Counter}
			if other, twice := measured[at]; twice {
				t.Fatalf("leaves %d and %d are both %v", other, i, at)
			}
			measured[at] = i
			if index, ok, err := state.IndexOf(p.Store, at.meter, at.counter); err != nil || !ok || index != uint64(i) {
				t.Fatalf("leaf %d is %v, the state finds %d (%v, %v)", i, at, index, ok, err)
			}
		case r.GetBlockHeader() != nil:
			ref := p.Store.Blocks[height]
			if ref.Size != uint64(i)+1 || ref.Admin != admin || ref.BlockTimeUnixNano < last || !bytes.Equal(r.GetBlockHeader().GetAdmin(), admin[:]) {
				t.Fatalf("block %d is %+v, by its leaves it ends at %d with statements %s, after time %d", height, ref, i+1, admin.Short(), last)
			}
			height, last = height+1, ref.BlockTimeUnixNano
		}
	}
	for i, step := range p.outcomes {
		for _, submission := range step {
			for _, o := range submission {
				if o.Accepted != (o.Reason == "") || !o.Accepted && o.Detail == "" {
					t.Fatalf("step %d: outcome %+v", i, o)
				}
			}
		}
	}
}

// FuzzLog lives a script and builds its log again in every way that a replica, a
// restarted replica, an auditor and a follower would: all reach one root, one
// state and one digest of statements.
func FuzzLog(f *testing.F) {
	n, script := scripted(f)
	for _, data := range scripts(12) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 256 {
			return
		}
		p := play(t, n, script, data)
		p.sound(t)
		p.again(t, false, true)
		p.again(t, true, false)
		p.replays(t)
	})
}

const scriptSeed = 20261122

// scripts are so many scripts of random bytes.
func scripts(count int) [][]byte {
	random := rand.New(rand.NewPCG(scriptSeed, 0))
	list := make([][]byte, count)
	for i := range list {
		list[i] = make([]byte, 20+random.IntN(200))
		for j := range list[i] {
			list[i][j] = byte(random.Uint32())
		}
	}
	return list
}

// TestScriptsAreWorthPlaying: the scripts cause records of every kind and refusals
// of most; FuzzLog would otherwise prove little.
func TestScriptsAreWorthPlaying(t *testing.T) {
	t.Logf("seed %d", scriptSeed)
	n, script := scripted(t)
	kinds, reasons := make(map[string]int), make(map[reason.Reason]int)
	for _, data := range scripts(60) {
		p := play(t, n, script, data)
		p.sound(t)
		for _, leaf := range p.Store.Leaves[n.Store.Head().Size:] {
			r, err := record.Parse(leaf)
			if err != nil {
				t.Fatal(err)
			}
			kind := fmt.Sprintf("%T", r.GetBody())
			if s := r.GetStatement(); s != nil {
				kind = s.GetPayloadType()
			}
			kinds[kind]++
		}
		for _, step := range p.outcomes {
			for _, submission := range step {
				for _, o := range submission {
					reasons[o.Reason]++
				}
			}
		}
	}
	t.Log(kinds, reasons)
	if len(kinds) < 12 || len(reasons) < 20 {
		t.Errorf("%d kinds of records, %d reasons", len(kinds), len(reasons))
	}
}

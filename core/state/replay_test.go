package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// history is a ledger with every kind of record, gaps, late samples, refusals,
// several submissions in a block, blocks without new certificates and a change
// of the configuration.
func history(t testing.TB) *statetest.Network {
	t.Helper()
	n, m := ready(t)
	other := n.RegisterWith("meter-2", statetest.P256Key("m2"))
	submit := func(batches ...*statetest.Batch) {
		t.Helper()
		b := n.Begin()
		for _, batch := range batches {
			if _, err := b.Submit(statetest.Parse(batch.Records(), batch.Raw)); err != nil {
				t.Fatal(err)
			}
		}
		n.Apply(b)
	}
	a, b, c, d := m.Capture(), m.Capture(), m.Capture(), m.Capture()
	x, y := other.Capture(), other.Capture()
	submit(n.Batch(a, d, x), n.Batch(c), n.Batch(a)) // a gap, and a duplicate
	n.NowUnix += 5
	submit(n.Batch(b, y))
	forged := m.Capture()
	forged.Signature[0] ^= 1
	submit(n.Batch(forged))
	n.Accept(equivocation(n, m, nil))
	n.Accept(status(n, m, recordv1.MeterAction_METER_ACTION_SUSPEND, n.NowUnix*second))
	empty, err := state.BeginEmpty(n.Store, n.Store.Head(), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n.Apply(empty)
	joining := joined(t, n)
	old := n.Replicas
	n.Replicas = slices.Concat(old[:4], []statetest.Replica{joining})
	n.Apply(n.Begin())
	n.Replicas = []statetest.Replica{old[0], old[1], old[2], joining}
	n.NowUnix += 200_000
	n.Apply(n.Begin())
	late := other.Capture(atNano(n.NowUnix*second-100_000*second), knowsGenesis(n))
	batch := n.Batch(late)
	batch.Measurements[0].Disposition = recordv1.Disposition_DISPOSITION_LATE
	submit(batch)
	// The history is only worth what is in it.
	for meter, want := range map[string]uint64{m.ID: 4, other.ID: 3} {
		if chain, err := state.GetMeterChain(n.Store, meter); err != nil || chain.GetNewestCounter() != want || len(chain.GetMissing()) != 0 {
			t.Fatalf("chain of %s is %v (%v), want %d samples", meter, chain, err, want)
		}
	}
	return n
}

func replayAll(n *statetest.Network, raw func(leaf int) (state.RawVector, bool)) (*statetest.Store, error) {
	s := statetest.NewStore()
	for height := range n.Store.Blocks {
		leaves := n.Store.BlockLeaves(uint64(height))
		var sealed *state.Sealed
		var err error
		if height == 0 {
			sealed, err = state.ReplayGenesis(leaves, state.Options{})
		} else {
			sealed, err = state.Replay(s, s.Head(), state.Options{}, leaves, raw)
		}
		if err != nil {
			return nil, err
		}
		s.Apply(sealed)
	}
	return s, nil
}

func TestReplayRebuildsEveryBlock(t *testing.T) {
	n := history(t)
	s, err := replayAll(n, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Digest() != n.Store.Digest() || s.Head() != n.Store.Head() {
		t.Errorf("replay ends in %+v with state %s, the ledger in %+v with %s", s.Head(), s.Digest().Short(), n.Store.Head(), n.Store.Digest().Short())
	}
}

// Whichever byte of a block is altered, replay does not accept the block as the
// one that the tree has.
func TestReplayFindsAlteredLeaves(t *testing.T) {
	n := history(t)
	random := rand.New(rand.NewPCG(1, 2))
	t.Log("seed 1, 2")
	s := statetest.NewStore()
	genesis, err := state.ReplayGenesis(n.Store.BlockLeaves(0), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Apply(genesis)
	for height := 1; height < len(n.Store.Blocks); height++ {
		head, leaves := s.Head(), n.Store.BlockLeaves(uint64(height))
		for range 12 {
			altered := make([][]byte, len(leaves))
			copy(altered, leaves)
			i := random.IntN(len(leaves))
			leaf := append([]byte(nil), leaves[i]...)
			at, bit := random.IntN(len(leaf)), byte(1)<<random.IntN(8)
			leaf[at] ^= bit
			altered[i] = leaf
			sealed, err := state.Replay(s, head, state.Options{}, altered, nil)
			if err != nil {
				continue
			}
			// A P-256 or header signature cannot be altered and still verify; so an
			// accepted replay would be another block with this one's header.
			t.Fatalf("block %d: leaf %d altered at byte %d by %#x and still replayed: %+v", height, i, at, bit, sealed.Ref)
		}
		sealed, err := state.Replay(s, head, state.Options{}, leaves, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(sealed)
	}
}

func TestReplayNamesTheLeaf(t *testing.T) {
	n, m := ready(t)
	n.AcceptCaptures(m.Capture(), m.Capture(), m.Capture())
	height := n.Store.Head().Height
	s := n.Store.Clone()
	leaves := s.BlockLeaves(height)
	s.Blocks = s.Blocks[:height]
	// As if an auditor's store ended one block earlier.
	before := statetest.NewStore()
	for h := range s.Blocks {
		var sealed *state.Sealed
		var err error
		if h == 0 {
			sealed, err = state.ReplayGenesis(s.BlockLeaves(0), state.Options{})
		} else {
			sealed, err = state.Replay(before, before.Head(), state.Options{}, s.BlockLeaves(uint64(h)), nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		before.Apply(sealed)
	}
	wrong := func(leaf int) (state.RawVector, bool) {
		return state.RawVector{Digest: stranger}, leaf == 2
	}
	var replay *state.ReplayError
	if _, err := state.Replay(before, before.Head(), state.Options{}, leaves, wrong); !errors.As(err, &replay) || replay.Leaf != 2 || replay.Height != height {
		t.Errorf("the raw vector of leaf 2 is wrong and the error is %v", err)
	}
	swapped := [][]byte{leaves[0], leaves[2], leaves[1], leaves[3], leaves[4]}
	if _, err := state.Replay(before, before.Head(), state.Options{}, swapped, nil); !errors.As(err, &replay) {
		t.Errorf("leaves in another order: %v", err)
	}
	missing := [][]byte{leaves[0], leaves[1], leaves[2], leaves[4]}
	if _, err := state.Replay(before, before.Head(), state.Options{}, missing, nil); !errors.As(err, &replay) || replay.Leaf != 3 {
		t.Errorf("a leaf left out: %v", err)
	}
	for name, none := range map[string][][]byte{"no leaf": nil, "no header": leaves[:4], "no record": {[]byte("x")}} {
		if _, err := state.Replay(before, before.Head(), state.Options{}, none, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// S6: a follower of statements and headers alone arrives at the same standing of
// follow replays the ledger as a follower does, which sees statements and headers and
// of all else the hashes; withhold is the number of a statement that it is not shown.
func follow(t *testing.T, n *statetest.Network, withhold int) (*statetest.Store, error) {
	s := statetest.NewStore()
	statement := 0
	for height := range n.Store.Blocks {
		leaves := n.Store.BlockLeaves(uint64(height))
		if height == 0 {
			sealed, err := state.ReplayGenesis(leaves, state.Options{})
			if err != nil {
				return nil, err
			}
			s.Apply(sealed)
			continue
		}
		view := make([]state.Leaf, len(leaves))
		for i, leaf := range leaves {
			r, err := record.Parse(leaf)
			if err != nil {
				t.Fatal(err)
			}
			view[i] = state.Leaf{Hash: tlog.LeafHash(leaf)}
			if r.GetStatement() != nil {
				if statement++; statement == withhold {
					continue
				}
				view[i] = state.Leaf{Record: leaf}
			}
			if r.GetBlockHeader() != nil {
				view[i] = state.Leaf{Record: leaf}
			}
		}
		sealed, err := state.ReplayAdministrative(s, s.Head(), state.Options{}, view)
		if err != nil {
			return nil, err
		}
		s.Apply(sealed)
	}
	return s, nil
}

// nodes, algorithms and meters, and notices a statement withheld.
func TestS6_FollowerSeesAllStatements(t *testing.T) {
	n := history(t)
	s, err := follow(t, n, 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.Head() != n.Store.Head() {
		t.Errorf("follower's head is %+v, the ledger's %+v", s.Head(), n.Store.Head())
	}
	for _, prefix := range []string{state.KeyConfig, state.PrefixNode, state.PrefixAlgorithm, state.PrefixMeter} {
		found := 0
		for key, value := range n.Store.Values {
			if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
				found++
				if !bytes.Equal(s.Values[key], value) {
					t.Errorf("%q differs at the follower", key)
				}
			}
		}
		if found == 0 {
			t.Errorf("no value under %q", prefix)
		}
	}
	for name, leaves := range map[string][]state.Leaf{"no leaf": nil, "header withheld": {{Hash: stranger}}} {
		if _, err := state.ReplayAdministrative(n.Store, n.Store.Head(), state.Options{}, leaves); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for withhold := 1; withhold <= 5; withhold++ {
		if _, err := follow(t, n, withhold); err == nil {
			t.Errorf("statement %d was withheld unnoticed", withhold)
		}
	}
}

// B4: one sequence of proposals gives one root and one state, whether a host
// verifies each signature as it comes or all before into a cache, and however
// small that cache is.
func TestB4_HowSignaturesAreVerifiedDecidesNothing(t *testing.T) {
	type proposal struct {
		height      uint64
		certificate []byte
		submissions [][2][][]byte
	}
	for seed := uint64(1); seed <= 4; seed++ {
		random := rand.New(rand.NewPCG(seed, 7))
		base, m := ready(t)
		start := base.Store.Clone()
		var proposals []proposal
		for range 12 {
			base.NowUnix += random.Int64N(3)
			head := base.Store.Head()
			p := proposal{height: head.Height, certificate: base.Certificate(head.Height)}
			b := base.Begin()
			for range random.IntN(3) {
				var captures []*statetest.Capture
				for range 1 + random.IntN(4) {
					c := m.Capture()
					switch random.IntN(6) {
					case 0: // lost
						continue
					case 1:
						c.Signature[9] ^= 1
					}
					captures = append(captures, c)
				}
				random.Shuffle(len(captures), func(i, j int) { captures[i], captures[j] = captures[j], captures[i] })
				if len(captures) == 0 {
					continue
				}
				batch := base.Batch(captures...)
				s := [2][][]byte{batch.Records(), batch.Raw}
				p.submissions = append(p.submissions, s)
				if _, err := b.Submit(statetest.Parse(s[0], s[1])); err != nil {
					t.Fatal(err)
				}
			}
			base.Apply(b)
			proposals = append(proposals, p)
		}
		want := fmt.Sprint(base.Store.Head(), base.Store.Digest())
		for _, entries := range []int{1, 10_000} {
			s, cache := start.Clone(), signature.NewCache(entries)
			for _, p := range proposals {
				var parsed []*state.Submission
				for _, sub := range p.submissions {
					parsed = append(parsed, statetest.Parse(sub[0], sub[1]))
				}
				checks, err := state.Checks(s, parsed...)
				if err != nil {
					t.Fatal(err)
				}
				cache.VerifyBatch(checks)
				b, err := state.Begin(s, s.Head(), state.Options{Verifier: cache}, p.height, p.certificate)
				if err != nil {
					t.Fatal(err)
				}
				for _, sub := range parsed {
					if _, err := b.Submit(sub); err != nil {
						t.Fatal(err)
					}
				}
				sealed, err := b.Seal()
				if err != nil {
					t.Fatal(err)
				}
				s.Apply(sealed)
			}
			if got := fmt.Sprint(s.Head(), s.Digest()); got != want {
				t.Errorf("seed %d: with a cache of %d it ends in %s, without in %s", seed, entries, got, want)
			}
		}
	}
}

package state_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

const day = 86_400 * second

var three = []string{"org-00", "org-01", "org-02"}

// aged is a network that keeps raw vectors for ten days, with two blocks that are
// older than that and one that is a second younger.
func aged(t *testing.T) (n *statetest.Network, old uint64) {
	t.Helper()
	n, m := ready(t)
	n.KeepRawVectors(10 * day)
	n.AcceptCaptures(m.Capture())
	n.AcceptCaptures(m.Capture())
	old = n.Store.Head().Height
	n.NowUnix++
	n.AcceptCaptures(m.Capture())
	n.NowUnix += 10*86_400 - 1
	n.Apply(n.Begin())
	return n, old
}

// Nobody but a majority of the root keys in force lets raw vectors expire, by the
// next decision in sequence, of the blocks of this chain, after the retention.
func TestS4_RawVectorsExpireByAMajorityAfterTheRetention(t *testing.T) {
	n, old := aged(t)
	for name, c := range map[string]struct {
		change func(*recordv1.RawVectorExpiry)
		by     []string
		want   reason.Reason
	}{
		"two of four":                    {nil, three[:2], reason.NotAuthorised},
		"a stranger's key as well":       {nil, append(slices.Clone(three), "org-09"), reason.NotAuthorised},
		"one block too young":            {func(e *recordv1.RawVectorExpiry) { proto.Reset(e); proto.Merge(e, n.ExpiryDraft(old+2)) }, three, reason.RetentionNotOver},
		"another chain":                  {func(e *recordv1.RawVectorExpiry) { e.LastBlock = digest.Plain(nil).Bytes() }, three, reason.UnknownBlock},
		"the header of the block before": {func(e *recordv1.RawVectorExpiry) { e.LastBlock = n.Store.Blocks[old-1].Header.Bytes() }, three, reason.UnknownBlock},
		"a block that does not exist":    {func(e *recordv1.RawVectorExpiry) { e.BelowHeight = 1 << 60 }, three, reason.UnknownBlock},
		"its own block":                  {func(e *recordv1.RawVectorExpiry) { e.BelowHeight = n.Store.Head().Height + 2 }, three, reason.UnknownBlock},
		"below nothing":                  {func(e *recordv1.RawVectorExpiry) { e.BelowHeight = 0 }, three, reason.Malformed},
		"no block named":                 {func(e *recordv1.RawVectorExpiry) { e.LastBlock = nil }, three, reason.Malformed},
		"no rule":                        {func(e *recordv1.RawVectorExpiry) { e.Rule = "" }, three, reason.Malformed},
		"a long rule":                    {func(e *recordv1.RawVectorExpiry) { e.Rule = strings.Repeat("x", state.MaxReason+1) }, three, reason.TooLarge},
		"another subject":                {func(e *recordv1.RawVectorExpiry) { e.Header.Subject = "raw-vectors/1" }, three, reason.Malformed},
		"another subject of statements":  {func(e *recordv1.RawVectorExpiry) { e.Header = n.Header(record.SubjectNetwork) }, three, reason.Malformed},
		"another network":                {func(e *recordv1.RawVectorExpiry) { e.Header.NetworkId = digest.Plain(nil).Bytes() }, three, reason.WrongNetwork},
		"not the next":                   {func(e *recordv1.RawVectorExpiry) { e.Header.Sequence, e.Header.Predecessor = 2, make([]byte, 32) }, three, reason.OutOfSequence},
	} {
		e := n.ExpiryDraft(old + 1)
		if c.change != nil {
			c.change(e)
		}
		if o := try(t, n, [][]byte{n.SignExpiry(e, c.by...)}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
	if d, err := state.NewestExpiry(n.Store); d != nil || err != nil {
		t.Fatalf("what was refused decided %v (%v)", d, err)
	}
	leaf := n.Expiry(old+1, three...)
	index := n.Accept(leaf)
	d, err := state.NewestExpiry(n.Store)
	if err != nil || d.GetBelowHeight() != old+1 || d.GetLast().GetIndex() != index || d.GetHeight() != n.Store.Head().Height ||
		d.GetRule() != "storage limitation" || !slices.Equal(d.GetOrganisations(), three) {
		t.Errorf("decided %v (%v)", d, err)
	}
	refuseStatement(t, n, leaf, reason.Duplicate)
	refuseStatement(t, n, n.Expiry(old+1, three...), reason.InvalidStatement)
	refuseStatement(t, n, n.Expiry(old, three...), reason.InvalidStatement)
}

// The retention of the configuration in force when the decision is recorded counts,
// for all blocks alike; without one nothing expires.
func TestS4_RetentionInForceCounts(t *testing.T) {
	n, old := aged(t)
	for retention, want := range map[int64]reason.Reason{0: reason.RetentionNotOver, 10*day + 2*second: reason.RetentionNotOver, 9 * day: ""} {
		n := n.Clone(t)
		n.KeepRawVectors(retention)
		if o := try(t, n, [][]byte{n.Expiry(old+1, three...)}, nil)[0]; o.Reason != want {
			t.Errorf("kept for %d ns: %q (%s), want %q", retention, o.Reason, o.Detail, want)
		}
	}
	config := proto.CloneOf(n.Config)
	config.Header = n.Header(record.SubjectNetwork)
	for _, wrong := range []int64{-1, 101 * 366 * day} {
		config.Limits.RawVectorRetentionNano = wrong
		refuseStatement(t, n, signConfig(n, config), reason.InvalidStatement)
	}
}

// By which decision the raw vectors of a block went stays known: the first that
// covers it.
func TestS4_EachBlocksExpiryIsKnown(t *testing.T) {
	n, m := ready(t)
	n.KeepRawVectors(second)
	for range 12 {
		n.AcceptCaptures(m.Capture())
		n.NowUnix += 2
	}
	n.Apply(n.Begin())
	var below []uint64
	for _, height := range []uint64{2, 3, 7, 8, 11} {
		below = append(below, height)
		n.Accept(n.Expiry(height, three...))
	}
	for height := range uint64(15) {
		i := slices.IndexFunc(below, func(b uint64) bool { return height < b })
		d, err := state.ExpiryOf(n.Store, height)
		switch {
		case err != nil:
			t.Fatal(err)
		case i < 0 && d != nil, i >= 0 && d.GetLast().GetSequence() != uint64(i)+1:
			t.Errorf("the raw vectors of block %d went by %v, want decision %d", height, d, i+1)
		}
	}
	all, err := state.Expiries(n.Store)
	if err != nil || len(all) != len(below) {
		t.Fatalf("%d decisions (%v), want %d", len(all), err, len(below))
	}
	for i, d := range all {
		if d.GetBelowHeight() != below[i] {
			t.Errorf("decision %d is %v, want below %d", i+1, d, below[i])
		}
	}
}

// A ledger with a decision replays to the same without what expired, and a follower
// of administrative records, who knows the newest blocks only, has the same decision.
func TestS4_ExpiryReplays(t *testing.T) {
	n, old := aged(t)
	n.Accept(n.Expiry(old+1, three...))
	again, err := replayAll(n, nil)
	if err != nil || again.Digest() != n.Store.Digest() {
		t.Fatalf("without raw vectors the state is another (%v)", err)
	}
	follower := forgetful{statetest.NewStore()}
	for height := range n.Store.Blocks {
		leaves := n.Store.BlockLeaves(uint64(height))
		view := make([]state.Leaf, len(leaves))
		for i, leaf := range leaves {
			view[i] = state.Leaf{Record: leaf, Hash: tlog.LeafHash(leaf)}
			if r, err := record.Parse(leaf); err != nil {
				t.Fatal(err)
			} else if r.GetStatement() == nil && r.GetBlockHeader() == nil {
				view[i].Record = nil
			}
		}
		var sealed *state.Sealed
		if height == 0 {
			sealed, err = state.ReplayGenesis(leaves, state.Options{})
		} else {
			sealed, err = state.ReplayAdministrative(follower, follower.Head(), state.Options{}, view)
		}
		if err != nil {
			t.Fatalf("block %d: %v", height, err)
		}
		follower.Apply(sealed)
	}
	want, err1 := state.NewestExpiry(n.Store)
	got, err2 := state.NewestExpiry(follower)
	if err1 != nil || err2 != nil || want == nil || !proto.Equal(want, got) {
		t.Errorf("a follower has %v (%v), the ledger %v (%v)", got, err2, want, err1)
	}
}

// forgetful is a ledger that knows its two newest blocks.
type forgetful struct{ *statetest.Store }

func (f forgetful) Block(height uint64) (state.BlockRef, bool, error) {
	if height+2 <= f.Head().Height {
		return state.BlockRef{}, false, nil
	}
	return f.Store.Block(height)
}

// Whoever collects the signatures learns who is missing.
func TestS4_PartiesOfAnExpiry(t *testing.T) {
	n, old := aged(t)
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	e, err := record.NewStatement(n.ExpiryDraft(old+1), statetest.Root("org-00"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := state.Parties(config, e)
	if err != nil || len(list) != 1 || list[0].Signed != 1 || list[0].Missing != 2 {
		t.Fatalf("%+v (%v), want 1 of 3", list, err)
	}
	if err := e.Sign(statetest.Key("stranger"), signature.Ed25519); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Parties(config, e); reason.Of(err) != reason.NotAuthorised {
		t.Errorf("a stranger's signature: %v", err)
	}
}

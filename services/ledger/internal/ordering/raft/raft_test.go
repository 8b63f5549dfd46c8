package raft

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

func TestEntriesApplyEquallyOnAllReplicas(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	c.start(ids...)
	ctx := testContext(t)
	leader := c.leader(ids...)

	var proposals []ordering.Proposal
	for i := range 40 {
		proposals = append(proposals, leader.engine.Propose(ctx, fmt.Appendf(nil, "entry %d", i)))
	}
	proposals = append(proposals, leader.engine.Propose(ctx, make([]byte, 3<<20)))
	last := uint64(0)
	for i, p := range proposals {
		applied, err := p.Wait(ctx)
		if err != nil {
			t.Fatalf("proposal %d: %v", i, err)
		}
		if applied.Index <= last {
			t.Fatalf("proposal %d has index %d, the one before %d", i, applied.Index, last)
		}
		if want := fmt.Sprintf("entry %d", i); i < 40 && applied.Response != want {
			t.Fatalf("proposal %d has response %q, want %q", i, applied.Response, want)
		}
		if got := leader.engine.AppliedIndex(); got < applied.Index {
			t.Fatalf("entry %d is answered, applied are %d", applied.Index, got)
		}
		last = applied.Index
	}
	c.same(last, ids...)

	follower := c.nodes[ids[(slices.Index(ids, leader.id)+1)%3]]
	_, err := follower.engine.Propose(ctx, []byte("x")).Wait(ctx)
	var notLeader *ordering.NotLeaderError
	if !errors.As(err, &notLeader) || notLeader.Leader != leader.id || !errors.Is(err, ordering.ErrNotLeader) {
		t.Fatalf("a follower answers %v, want a hint to %s", err, leader.id)
	}
}

func TestNothingIsLostWhenTheLeaderDies(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	c.start(ids...)
	var kept []string
	for i := range 10 {
		kept = append(kept, fmt.Sprintf("before %d", i))
		c.propose(kept[i], ids...)
	}
	dead := c.leader(ids...)
	c.kill(dead.id)
	rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == dead.id })
	kept = append(kept, "after")
	last := c.propose("after", rest...)

	if _, err := dead.engine.Propose(testContext(t), []byte("x")).Wait(testContext(t)); !errors.Is(err, ordering.ErrNotLeader) {
		t.Fatalf("a closed engine answers %v, want ErrNotLeader", err)
	}
	c.start(dead.id)
	c.same(last.Index, ids...)
	if got := dead.state.texts(); !slices.Equal(got, kept) {
		t.Fatalf("applied %q, want %q", got, kept)
	}
}

func TestAProposalsFateIsUnknownWhenTheLeadIsLost(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	c.start(ids...)
	leader := c.leader(ids...)
	c.network.isolate(leader.id)
	_, err := leader.engine.Propose(testContext(t), []byte("lost")).Wait(testContext(t))
	if !errors.Is(err, ordering.ErrLost) {
		t.Fatalf("an isolated leader answers %v, want ErrLost", err)
	}
	rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == leader.id })
	c.propose("kept", rest...)
	c.network.isolate()
	last := c.propose("healed", ids...)
	c.same(last.Index, ids...)
	if got, want := leader.state.texts(), []string{"kept", "healed"}; !slices.Equal(got, want) {
		t.Fatalf("applied %q, want %q", got, want)
	}
}

func TestRunHandsTheLeadOver(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	handed := make(chan string, 100)
	for _, id := range ids {
		c.nodes[id].seams.arrived = func(peer string, rpc hraft.RPC) error {
			if _, ok := rpc.Command.(*hraft.TimeoutNowRequest); ok {
				handed <- peer
			}
			return nil
		}
	}
	c.start(ids...)
	c.propose("x", ids...)
	old := c.leader(ids...)
	old.stop()
	if err := old.end(t); err != nil {
		t.Fatalf("Run: %v", err)
	}
	select {
	case from := <-handed:
		if from != old.id {
			t.Fatalf("%s handed over, want %s", from, old.id)
		}
	default:
		t.Fatal("the leader stopped without handing over")
	}
	c.propose("y", slices.DeleteFunc(ids, func(id string) bool { return id == old.id })...)
}

func TestTransferLeadership(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	c.start(ids...)
	c.propose("x", ids...)
	old := c.leader(ids...)
	if err := old.engine.TransferLeadership(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if old.engine.IsLeader() {
		t.Fatal("it still leads")
	}
	if now := c.leader(ids...); now == old {
		t.Fatalf("%s leads again", now.id)
	}
	if err := old.engine.TransferLeadership(testContext(t)); err != nil {
		t.Fatalf("a follower's hand-over: %v", err)
	}
}

func TestRestartSkipsAppliedEntries(t *testing.T) {
	c := newCluster(t, nil, "a")
	var want []string
	for life := range 3 {
		c.start("a")
		for i := range 5 {
			want = append(want, fmt.Sprintf("%d/%d", life, i))
			c.propose(want[len(want)-1], "a")
		}
		n := c.nodes["a"]
		n.stop()
		if err := n.end(t); err != nil {
			t.Fatal(err)
		}
	}
	// memory refuses an entry that comes twice, so it is enough to compare.
	if got := c.nodes["a"].state.texts(); !slices.Equal(got, want) {
		t.Fatalf("applied %q, want %q", got, want)
	}
}

func TestBootstrapIsExplicitAndOnce(t *testing.T) {
	c := newCluster(t, nil, "a")
	n := c.nodes["a"]
	if err := Bootstrap(n.dir, []ordering.Member{{ID: "a"}}, testLogger("a")); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("second bootstrap: %v, want ErrNotEmpty", err)
	}
	if err := Bootstrap(filepath.Join(t.TempDir(), "x"), nil, testLogger("x")); err == nil {
		t.Fatal("bootstrap without members succeeded")
	}
	joiner := c.prepare("j")
	c.start("j")
	if members := joiner.engine.Members(); len(members) != 0 {
		t.Fatalf("an empty directory has members %v", members)
	}
}

func TestConfigReportsAllErrorsAtOnce(t *testing.T) {
	_, err := Open(testContext(t), Config{})
	for _, field := range []string{"NodeID", "Dir", "Listener", "Applier", "Resolve", "Fatal", "ServerConfig", "ClientConfig", "PeerID"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error %v does not name %s", err, field)
		}
	}
}

func TestSetMembers(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	c.start(ids...)
	for i := range 20 { // more than one message's worth to catch up with
		c.propose(fmt.Sprintf("old %d", i), ids...)
	}
	c.prepare("d")
	c.start("d")
	ctx := testContext(t)
	members := func(ids ...string) (m []ordering.Member) {
		for _, id := range ids {
			m = append(m, ordering.Member{ID: id, Voter: true})
		}
		return m
	}
	set := func(wanted []ordering.Member, among ...string) {
		t.Helper()
		for {
			err := c.leader(among...).engine.SetMembers(ctx, wanted)
			if err == nil {
				return
			}
			if !errors.Is(err, ordering.ErrNotLeader) || ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	set(members("a", "b", "c", "d"), ids...)
	all := []string{"a", "b", "c", "d"}
	last := c.propose("with d", all...)
	c.same(last.Index, all...)
	if got := c.leader(all...).engine.Members(); !slices.Equal(got, members(all...)) {
		t.Fatalf("members %v, want four voters", got)
	}

	// The leader itself goes: it hands over, and the next one removes it.
	gone := c.leader(all...).id
	rest := slices.DeleteFunc(slices.Clone(all), func(id string) bool { return id == gone })
	set(members(rest...), all...)
	c.kill(gone)
	last = c.propose("without "+gone, rest...)
	c.same(last.Index, rest...)
	if got := c.leader(rest...).engine.Members(); !slices.Equal(got, members(rest...)) {
		t.Fatalf("members %v, want %v", got, rest)
	}
}

func TestNextChange(t *testing.T) {
	parse := func(list string) (members []ordering.Member) { // "a b- c": b has no vote
		for _, id := range strings.Fields(list) {
			name, nonvoter := strings.CutSuffix(id, "-")
			members = append(members, ordering.Member{ID: name, Voter: !nonvoter})
		}
		return members
	}
	for _, c := range []struct {
		present, wanted string
		want            change
	}{
		{"a b c", "a b c", change{noChange, ""}},
		{"a b c", "a b c d", change{addNonvoter, "d"}},
		{"a b c", "a b c d-", change{addNonvoter, "d"}},
		{"a b c d-", "a b c d-", change{noChange, ""}},
		{"a b c d-", "a b c", change{remove, "d"}},
		{"a b c d", "a b c d-", change{remove, "d"}},
		{"a b c", "b c a-", change{handOver, "a"}},
		{"a b c d-", "a b c d", change{promote, "d"}},
		{"a b c", "b c d", change{addNonvoter, "d"}},
		{"a b c d-", "b c d", change{promote, "d"}},
		{"a b c d", "b c d", change{handOver, "a"}},
		{"a b c d", "a b c", change{remove, "d"}},
		{"a b c d", "b c", change{remove, "d"}},
		{"a b c d-", "a b c", change{remove, "d"}},
		{"a", "b", change{addNonvoter, "b"}},
	} {
		if got := nextChange(parse(c.present), parse(c.wanted), "a"); got != c.want {
			t.Errorf("from %q to %q: %v, want %v", c.present, c.wanted, got, c.want)
		}
	}
}

func TestSnapshotIsAPointer(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, func(config *Config) {
		config.TrailingLogs = NoTrailingLogs
		config.SnapshotThreshold = 1 << 40 // only when told
	}, ids...)
	c.start(ids...)
	c.propose("first", ids...)
	leader := c.leader(ids...)
	late := c.nodes[ids[(slices.Index(ids, leader.id)+1)%3]]
	rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == late.id })
	late.state.wait(t, leader.state.AppliedIndex())
	c.kill(late.id)
	big := strings.Repeat("x", 100_000)
	for i := range 10 {
		c.propose(fmt.Sprint(big, i), rest...)
	}
	for _, id := range rest {
		c.nodes[id].state.wait(t, leader.state.AppliedIndex())
		if err := c.nodes[id].engine.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		metas, err := c.nodes[id].engine.machine.store.List()
		if err != nil || len(metas) != 1 || metas[0].Size > 200 {
			t.Fatalf("snapshots %v (%v), want one of a few bytes", metas, err)
		}
	}
	c.start(late.id)
	last := c.propose("last", ids...)
	c.same(last.Index, ids...)
	if late.state.restores != 1 {
		t.Fatalf("%d restorations, want 1", late.state.restores)
	}

	// It restarts from the pointer that it received.
	c.kill(late.id)
	c.start(late.id)
	last = c.propose("again", ids...)
	c.same(last.Index, ids...)
	if late.state.restores != 1 {
		t.Fatalf("%d restorations after a restart, want 1", late.state.restores)
	}
}

// BenchmarkPropose is the latency of one small proposal after another, and of
// four at a time, over three replicas.
func BenchmarkPropose(b *testing.B) {
	for _, window := range []int{1, 4} {
		b.Run(fmt.Sprintf("in-flight=%d", window), func(b *testing.B) {
			ids := []string{"a", "b", "c"}
			c := newCluster(b, nil, ids...)
			c.start(ids...)
			leader := c.leader(ids...)
			entry := make([]byte, 64<<10)
			var flight []ordering.Proposal
			for b.Loop() {
				if len(flight) == window {
					if _, err := flight[0].Wait(b.Context()); err != nil {
						b.Fatal(err)
					}
					flight = flight[1:]
				}
				flight = append(flight, leader.engine.Propose(b.Context(), entry))
			}
		})
	}
}

package raft

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"
)

// eager is the transport without rule R1: the library's handler for heartbeats is
// registered, as its own transports do, and runs on the connection's goroutine.
type eager struct {
	*transport
	peers []string
}

func (e eager) SetHeartbeatHandler(handle func(hraft.RPC)) {
	for _, id := range e.peers {
		e.link(id).net.SetHeartbeatHandler(handle)
	}
}

// hashicorp/raft#695, provoked. A leader that was cut off waits for proposals. The
// network heals, and its successor's heartbeat comes before anything else. Handled
// beside the main goroutine it raises the term and makes a follower of the node,
// and the main goroutine, which waits as a leader still, takes the next proposal
// and writes it in its successor's term, at the index where the successor has
// another entry. Raft tells entries apart by index and term, so nobody ever
// notices: the node applies an entry that the others do not have. With the
// transport as it is, the heartbeat waits for the main goroutine, which steps down.
func TestR1_ALeaderThatIsBackWritesNothingInItsSuccessorsTerm(t *testing.T) {
	for name, c := range map[string]struct{ wrapped, diverges bool }{
		"as it is":               {wrapped: true},
		"without rule R1 (#695)": {diverges: true},
	} {
		t.Run(name, func(t *testing.T) {
			diverged := provoke695(t, c.wrapped)
			if diverged != c.diverges {
				t.Errorf("the logs differ: %v, want %v", diverged, c.diverges)
			}
		})
	}
}

func provoke695(t *testing.T, wrapped bool) (diverged bool) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, func(config *Config) {
		// The others must elect a successor before a notices by itself that it is alone.
		config.Timing = Timing{Heartbeat: 2 * time.Second, Election: 2 * time.Second, LeaderLease: 1500 * time.Millisecond, Commit: 2 * time.Millisecond, RPC: 5 * time.Second}
		if config.NodeID == "a" {
			config.Timing.Heartbeat, config.Timing.Election, config.Timing.LeaderLease = 10*time.Second, 10*time.Second, 10*time.Second
		}
	}, ids...)
	var alone atomic.Bool // a hears heartbeats and nothing else
	old := c.nodes["a"]
	old.seams.arrived = func(_ string, rpc hraft.RPC) error {
		m, ok := rpc.Command.(*hraft.AppendEntriesRequest)
		heartbeat := ok && m.PrevLogEntry == 0 && len(m.Entries) == 0 && m.LeaderCommitIndex == 0
		if alone.Load() && !heartbeat {
			return errors.New("only heartbeats")
		}
		return nil
	}
	if !wrapped {
		old.seams.network = func(tr *transport) hraft.Transport { return eager{tr, []string{"b", "c"}} }
	}
	c.start(ids...)
	c.propose("first", ids...)
	ctx := testContext(t)
	for leader := c.leader(ids...); leader != old; leader = c.leader(ids...) {
		if err := leader.engine.raft.LeadershipTransferToServer("a", "a").Error(); err != nil {
			t.Log("hand over:", err) // whoever leads now is asked again
		}
		if ctx.Err() != nil {
			t.Fatal("a does not lead")
		}
	}
	c.propose("second", ids...)

	alone.Store(true)
	c.network.silence("a") // or it would hear of the new term in the answers to its own heartbeats
	c.network.isolate("a")
	rest := []string{"b", "c"}
	c.propose("successor", rest...)
	successor := c.leader(rest...)
	term := successor.engine.raft.CurrentTerm()
	if old.engine.raft.State() != hraft.Leader {
		t.Fatal("a has stepped down by itself: the test shows nothing")
	}
	c.network.isolate()
	for old.engine.raft.CurrentTerm() < term { // until the heartbeat has come
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("the successor's heartbeat does not come")
		}
	}
	stale := old.engine.raft.Apply([]byte("stale"), 0)
	if err := stale.Error(); err == nil && wrapped {
		t.Error("a proposal to a node that leads no more was applied")
	}
	alone.Store(false)
	c.network.silence("")
	last := c.propose("healed", rest...)
	c.until695(old, last.Index)
	t.Logf("a's state is %q, its successor's %q", old.state.texts(), successor.state.texts())
	return !slices.Equal(old.state.texts(), successor.state.texts())
}

// silence keeps a node from connecting to others.
func (n *network) silence(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = id
}

// until695 waits until a node has applied an index.
func (c *cluster) until695(n *node, index uint64) {
	ctx := testContext(c.t)
	for n.state.AppliedIndex() < index {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			c.t.Fatalf("%s has applied %d, want %d", n.id, n.state.AppliedIndex(), index)
		}
	}
}

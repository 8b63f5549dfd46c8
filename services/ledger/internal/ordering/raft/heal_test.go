package raft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// The race of hashicorp/raft#695: a leader writes its log while the network
// heals, and a heartbeat of its successor arrives. Handled beside the main
// goroutine, the heartbeat would raise the term under the leader, which would
// then append what it has queued as if it led in its successor's term.
func TestR1_AHeartbeatWaitsForTheLogWrite(t *testing.T) {
	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	gates := make(map[string]*gate)
	heartbeats := make(chan string, 1000) // "receiver<sender"
	var writing atomic.Value              // id of the node whose write is held
	writing.Store("")
	for _, id := range ids {
		gates[id] = gated(c.nodes[id])
		c.nodes[id].seams.arrived = func(peer string, rpc hraft.RPC) error {
			m, ok := rpc.Command.(*hraft.AppendEntriesRequest)
			if ok && m.PrevLogEntry == 0 && len(m.Entries) == 0 && m.LeaderCommitIndex == 0 {
				select {
				case heartbeats <- fmt.Sprint(id, "<", peer):
				default:
				}
				return nil
			}
			if writing.Load() == id {
				return errors.New("first the heartbeat") // another message would wait, and the heartbeat behind it
			}
			return nil
		}
	}
	c.start(ids...)
	c.propose("first", ids...)
	old := c.leader(ids...)
	rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == old.id })
	term := old.engine.raft.CurrentTerm()
	ctx := testContext(t)

	h := gates[old.id].hold(t)
	var stale []ordering.Proposal
	stale = append(stale, old.engine.Propose(ctx, []byte("stale 0")))
	select {
	case <-h.entered:
	case <-ctx.Done():
		t.Fatal("the leader does not write its log")
	}
	c.network.isolate(old.id)
	c.propose("successor", rest...)
	successor := c.leader(rest...)
	stale = append(stale, old.engine.Propose(ctx, []byte("stale 1")), old.engine.Propose(ctx, []byte("stale 2")))
	writing.Store(old.id)
	c.network.isolate()
	for want := fmt.Sprint(old.id, "<", successor.id); ; {
		select {
		case got := <-heartbeats:
			if got != want {
				continue
			}
		case <-ctx.Done():
			t.Fatal("the successor's heartbeat did not arrive in the ordinary way")
		}
		break
	}
	if got := old.engine.raft.CurrentTerm(); got != term {
		t.Fatalf("the term is %d during the write, want %d as before", got, term)
	}
	writing.Store("")
	h.open()
	for i, p := range stale {
		if _, err := p.Wait(ctx); !errors.Is(err, ordering.ErrLost) && !errors.Is(err, ordering.ErrNotLeader) {
			t.Errorf("stale proposal %d: %v, want ErrLost or ErrNotLeader", i, err)
		}
	}
	last := c.propose("healed", ids...)
	c.same(last.Index, ids...)
	if got, want := old.state.texts(), []string{"first", "successor", "healed"}; !slices.Equal(got, want) {
		t.Fatalf("applied %q, want %q", got, want)
	}
}

// Partitions come and go under load; in the end all replicas have applied the
// same, and everything that was acknowledged. LACRE_HEAL_ROUNDS sets how many
// partitions, LACRE_HEAL_SEED repeats a run's choices.
func TestR1_PartitionsHealWithoutDivergence(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LACRE_HEAL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	rounds := 2
	if s := os.Getenv("LACRE_HEAL_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d, %d rounds", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 0))

	ids := []string{"a", "b", "c"}
	c := newCluster(t, nil, ids...)
	c.start(ids...)
	c.leader(ids...)

	// One client for each node proposes to it whatever it says.
	var mu sync.Mutex
	var acknowledged []string
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for _, id := range ids {
		engine := c.nodes[id].engine
		clients.Go(func() {
			changes, end := engine.LeaderChanges()
			defer end()
			for i := 0; ; i++ {
				text := fmt.Sprint(id, i)
				_, err := engine.Propose(testContext(t), []byte(text)).Wait(testContext(t))
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, text)
					mu.Unlock()
				}
				if errors.Is(err, ordering.ErrNotLeader) {
					select {
					case <-changes:
					case <-stop:
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range rounds {
		apart := ids[random.IntN(len(ids))]
		if random.IntN(2) == 0 {
			apart = c.leader(ids...).id
		}
		c.network.isolate(apart)
		rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == apart })
		c.propose("apart "+apart, rest...)
		c.network.isolate()
		c.propose("together", ids...)
	}
	close(stop)
	clients.Wait()
	last := c.propose("last", ids...)
	c.same(last.Index, ids...)
	applied := make(map[string]bool)
	for _, text := range c.nodes["a"].state.texts() {
		applied[text] = true
	}
	for _, text := range acknowledged {
		if !applied[text] {
			t.Errorf("%q was acknowledged and is lost", text)
		}
	}
	if len(acknowledged) == 0 {
		t.Error("nothing was acknowledged: the run shows nothing")
	}
}

package ledger

import (
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
)

// gone waits until a replica ends because it is removed.
func (c *cluster) gone(id string) {
	c.t.Helper()
	n := c.nodes[id]
	select {
	case err := <-n.ended:
		if !errors.Is(err, ErrRemoved) {
			c.t.Errorf("%s ends with %v, want %v", id, err, ErrRemoved)
		}
	case <-c.context().Done():
		c.t.Fatalf("%s does not end", id)
	}
	n.stop()
	n.stop = nil
}

// members waits until replicas, which all run, have members of the ordering: what
// only the leader has is not decided, and can end with its lead.
func (c *cluster) members(what string, among []string, want ...ordering.Member) {
	c.t.Helper()
	slices.SortFunc(want, func(a, b ordering.Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	c.until(what, func() bool {
		return !slices.ContainsFunc(among, func(id string) bool {
			e := c.nodes[id].service.order.engine.Load()
			return e == nil || !slices.Equal(e.Members(), want)
		})
	})
}

func voters(ids ...string) (list []ordering.Member) {
	for _, id := range ids {
		list = append(list, ordering.Member{ID: id, Voter: true})
	}
	return list
}

// change records a configuration.
func (c *cluster) change(via string, change func(*recordv1.NetworkConfig), newKeys ...crypto.Signer) {
	c.t.Helper()
	next := c.nextConfig()
	change(next)
	c.accept(via, [][]byte{c.signConfig(next, newKeys...)}, nil)
}

// replace records a configuration in which a new replica, the last by its id,
// takes another's place.
func (c *cluster) replace(via, old string, by statetest.Replica) {
	c.t.Helper()
	c.change(via, func(next *recordv1.NetworkConfig) {
		next.Replicas = slices.DeleteFunc(next.Replicas, func(r *recordv1.Replica) bool { return r.GetNodeId() == old })
		next.Replicas = append(next.Replicas, by.Message())
	}, by.Cosigner, by.Log)
	c.mirror.Replicas = append(slices.DeleteFunc(c.mirror.Replicas, func(r statetest.Replica) bool { return r.ID == old }), by)
}

// A registered replica joins a ledger that is there: it fetches what is certified,
// is interrupted, goes on, follows without a vote, and gets its vote with the
// configuration that names it. The one that it replaces ends, and ends again.
func TestC6_ReplicaJoinsAndReplacesAnother(t *testing.T) {
	joining := statetest.NewReplica("replica-04", "org-03")
	c := newCluster(t, statetest.Options{}, joining)
	c.start(four...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	for range 20 {
		c.measure(via, m, 1)
	}

	// Not registered, nobody answers it: it waits, and signs nothing.
	c.start(joining.ID)
	n := c.nodes[joining.ID]
	if answers, err := n.service.peers.Positions(c.context(), nil, 0); len(answers) != 0 || err == nil {
		t.Errorf("a stranger is answered: %v", answers)
	}
	c.accept(via, [][]byte{c.registration(joining.Node)}, nil)
	c.same(append([]string{joining.ID}, four...)...)
	c.members("the new replica follows without a vote", four, append(voters(four...), ordering.Member{ID: joining.ID})...)
	// Of what the ordering engine brings a replica knows the entry, of what it fetched not.
	if index, known := n.service.machine.EntryOf(1); known {
		t.Errorf("block 1 came as entry %d, it was not fetched", index)
	}
	for range 3 { // stopped and started, it goes on where it was
		c.halt(joining.ID)
		c.measure(via, m, 2)
		c.start(joining.ID)
		c.same(append([]string{joining.ID}, four...)...)
	}
	if lock := n.service.store.Lock(); !lock.IsZero() {
		t.Errorf("it has cosigned block %d, no configuration names it", lock.Height)
	}

	// Another change comes first: it keeps its place.
	c.change(via, func(next *recordv1.NetworkConfig) { next.Limits.MaxUncertifiedBlocks = 7 })
	c.measure(via, m, 1)
	c.same(append([]string{joining.ID}, four...)...)

	old := c.follower(four...)
	c.replace(c.leader(four...), old, joining)
	c.gone(old)
	now := append(slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == old }), joining.ID)
	c.members("the members follow the configuration", now, voters(now...)...)
	via = c.leader(now...)
	c.measure(via, m, 1)
	c.same(now...)
	c.until("the new replica cosigns", func() bool {
		return n.service.store.Lock().Height == c.mirror.Store.Head().Height
	})
	c.everyReceipt(joining.ID, m.ID, []uint64{1, 20, 21, 27, 28}, 3)

	c.start(old)
	c.gone(old)
	archive, err := OpenArchive(c.nodes[old].config.DataDir)
	c.must(err)
	report, err := archive.Verify(c.context(), nil)
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("the removed replica's directory: %v, %v", report, err)
	}
	c.must(archive.Close())
}

// A replica is away while it is removed. When it comes back it learns of that, and
// ends without ever standing for election where it counts.
func TestC6_ReplicaThatWasAwayLearnsOfItsRemoval(t *testing.T) {
	joining := statetest.NewReplica("replica-04", "org-03")
	c := newCluster(t, statetest.Options{}, joining)
	c.start(append(slices.Clone(four), joining.ID)...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	c.accept(via, [][]byte{c.registration(joining.Node)}, nil)
	c.same(append([]string{joining.ID}, four...)...)
	c.members("the new replica follows", four, append(voters(four...), ordering.Member{ID: joining.ID})...)
	away := c.follower(four...)
	c.halt(away)
	rest := slices.DeleteFunc(slices.Clone(four), func(id string) bool { return id == away })
	now := append(slices.Clone(rest), joining.ID)
	c.replace(c.leader(rest...), away, joining)
	c.members("the members follow the configuration", now, voters(now...)...)
	c.measure(c.leader(now...), m, 2)
	c.same(now...)
	c.start(away)
	c.gone(away)
	service := c.nodes[away].service
	if head := service.machine.Head().Block; head.Height < c.mirror.Config.Header.GetSequence() || service.order.engine.Load() != nil {
		t.Errorf("it ends at block %d, its ordering engine is %v", head.Height, service.order.engine.Load())
	}
	c.measure(c.leader(now...), m, 1)
	c.same(now...)
}

// passedOver waits until a replica ends because the others go on without it, and
// opens it again as Serve does; false when it ends because it is removed.
func (c *cluster) passedOver(id string) bool {
	c.t.Helper()
	n := c.nodes[id]
	select {
	case err := <-n.ended:
		n.stop()
		n.stop = nil
		if errors.Is(err, ErrRemoved) {
			return false
		}
		if !errors.Is(err, errPassedOver) {
			c.t.Fatalf("%s ends with %v", id, err)
		}
	case <-c.context().Done():
		c.t.Fatalf("%s goes on, and learns nothing", id)
	}
	n.alone = true
	c.start(id)
	return true
}

// A replica is away while another joins, which leads when it comes back: it refuses
// the messages of a leader whose registration it does not have, until it has fetched.
func TestC6_ReplicaThatWasAwayFollowsALeaderThatJoined(t *testing.T) {
	joining := statetest.NewReplica("replica-04", "org-03")
	c := newCluster(t, statetest.Options{}, joining)
	away, rest := four[3], four[:3]
	now := append(slices.Clone(rest), joining.ID)
	c.start(four...)
	c.approve(c.leader(four...))
	m := c.register(c.leader(four...), "meter-1")
	c.same(four...)
	c.halt(away)

	c.start(joining.ID)
	via := c.leader(rest...)
	c.accept(via, [][]byte{c.registration(joining.Node)}, nil)
	c.same(now...)
	c.change(via, func(next *recordv1.NetworkConfig) {
		next.Replicas, next.Quorum = append(next.Replicas, joining.Message()), 4
	}, joining.Cosigner, joining.Log)
	c.mirror.Replicas = append(c.mirror.Replicas, joining)
	c.members("the members follow the configuration", now, voters(append(slices.Clone(four), joining.ID)...)...)
	c.same(now...)

	// Begun again, the others leave it to the new one to stand for election first.
	c.halt(rest...)
	for _, id := range rest {
		c.nodes[id].tune = func(config *raft.Config) { config.Timing.Heartbeat, config.Timing.Election = patience, patience }
	}
	c.start(rest...)
	c.measure(c.leader(joining.ID), m, 1)
	c.same(now...)

	c.nodes[away].solitude = time.Millisecond
	c.start(away)
	if !c.passedOver(away) {
		t.Fatal("it is of the configuration, and ends as removed")
	}
	c.same(away)
	c.measure(joining.ID, m, 1)
	c.same(append([]string{away}, now...)...)
	c.until("it follows the new one", func() bool {
		leader, led := c.nodes[away].service.order.Leader()
		return led && leader == joining.ID
	})
}

// A replica runs, and the ordering does not reach it. It begins again and fetches
// what it lacks; when it was removed meanwhile, it learns that so, and ends.
func TestC6_ReplicaThatTheOthersGoOnWithoutFetches(t *testing.T) {
	joining := statetest.NewReplica("replica-04", "org-03")
	c := newCluster(t, statetest.Options{}, joining)
	cut := four[3]
	c.nodes[cut].solitude = time.Millisecond
	for id, n := range c.nodes {
		for i, p := range n.config.Peers {
			if id == cut || p.NodeID == cut {
				n.config.Peers[i].RaftAddress = "127.0.0.1:1" // nobody listens there
			}
		}
	}
	rest := four[:3]
	c.start(append(slices.Clone(four), joining.ID)...)
	via := c.leader(rest...)
	c.approve(via)
	m := c.register(via, "meter-1")
	c.accept(via, [][]byte{c.registration(joining.Node)}, nil)
	c.same(append([]string{joining.ID}, rest...)...)
	for head := c.mirror.Store.Head().Height; ; {
		if !c.passedOver(cut) {
			t.Fatal("it is of the configuration, and ends as removed")
		}
		c.until("it fetches", func() bool {
			return c.nodes[cut].service.machine.Head().Block.Height == head || len(c.nodes[cut].ended) > 0
		})
		if c.nodes[cut].service.machine.Head().Block.Height == head {
			break
		}
	}
	c.same(four...)
	c.replace(c.leader(rest...), cut, joining)
	for c.passedOver(cut) { // until it is removed
	}
	c.measure(c.leader(append(slices.Clone(rest), joining.ID)...), m, 1)
}

func TestGoOnWithout(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	self := four[0]
	says := func(certified uint64, member bool) *replicav1.PositionResponse {
		return &replicav1.PositionResponse{CertifiedHeight: certified, CertifiedIndex: 2 * certified, Member: member}
	}
	nameless := &replicav1.PositionResponse{CertifiedHeight: 9, Member: true}
	for name, x := range map[string]struct {
		self    string
		answers map[string]*replicav1.PositionResponse
		want    string
	}{
		"nobody answers":          {self, nil, ""},
		"all stand where it is":   {self, map[string]*replicav1.PositionResponse{four[1]: says(7, true), four[2]: says(7, true), four[3]: says(7, true)}, ""},
		"one is ahead":            {self, map[string]*replicav1.PositionResponse{four[1]: says(9, true), four[2]: says(7, true)}, ""},
		"two are ahead":           {self, map[string]*replicav1.PositionResponse{four[1]: says(9, true), four[2]: says(8, true)}, "2 have certified blocks above 7"},
		"nobody knows the entry":  {self, map[string]*replicav1.PositionResponse{four[1]: nameless, four[2]: nameless}, ""},
		"one does not name it":    {self, map[string]*replicav1.PositionResponse{four[1]: says(7, false), four[2]: says(7, true)}, ""},
		"two do not name it":      {self, map[string]*replicav1.PositionResponse{four[1]: says(7, false), four[2]: says(7, false)}, "does not name it"},
		"strangers":               {self, map[string]*replicav1.PositionResponse{"x": says(9, false), "y": says(9, false)}, ""},
		"it is of none, it waits": {"replica-04", map[string]*replicav1.PositionResponse{four[1]: says(9, false), four[2]: says(9, false)}, ""},
	} {
		if got := goOnWithout(config, x.self, 7, x.answers); !strings.Contains(got, x.want) || x.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// Once for each bound, and never while somebody leads.
func TestSolitude(t *testing.T) {
	s, at := newSolitude(3*time.Second), time.Unix(100, 0)
	for i, step := range []struct{ led, want bool }{
		{false, false}, {false, false}, {false, false}, {false, true}, {false, false}, {false, false}, {false, true},
		{true, false}, {false, false}, {false, false}, {true, false}, {false, false}, {false, false}, {false, false}, {false, true},
	} {
		if got := s.long(step.led, at.Add(time.Duration(i)*time.Second)); got != step.want {
			t.Errorf("second %d: %v", i, got)
		}
	}
}

// Addresses are read again while a replica runs; only with one does a registered
// replica get its place.
func TestPeersAreSetWhileRunning(t *testing.T) {
	joining := statetest.NewReplica("replica-04", "org-03")
	c := newCluster(t, statetest.Options{}, joining)
	all := map[string][]Peer{}
	for _, id := range four {
		n := c.nodes[id]
		all[id] = n.config.Peers
		n.config.Peers = slices.DeleteFunc(slices.Clone(n.config.Peers), func(p Peer) bool { return p.NodeID == joining.ID })
	}
	c.start(append(slices.Clone(four), joining.ID)...)
	via := c.leader(four...)
	c.approve(via)
	m := c.register(via, "meter-1")
	c.accept(via, [][]byte{c.registration(joining.Node)}, nil)
	c.measure(via, m, 1)
	c.same(four...)
	if members := c.nodes[c.leader(four...)].service.order.engine.Load().Members(); len(members) != 4 {
		t.Errorf("members are %v; nobody knows where the new replica is", members)
	}
	for _, id := range four {
		if err := c.nodes[id].service.SetPeers([]Peer{{NodeID: "NO", Address: "x"}}); err == nil {
			t.Error("a peer with a bad id is taken")
		}
		c.must(c.nodes[id].service.SetPeers(all[id]))
	}
	c.members("the new replica follows", four, append(voters(four...), ordering.Member{ID: joining.ID})...)
	c.same(joining.ID)
}

func TestLacking(t *testing.T) {
	answer := func(height, index uint64, member bool) *replicav1.PositionResponse {
		return &replicav1.PositionResponse{CertifiedHeight: height, CertifiedIndex: index, Member: member}
	}
	for _, test := range []struct {
		name    string
		answers map[string]*replicav1.PositionResponse
		want    place
		ok      bool
	}{
		{"nobody", nil, place{}, false},
		{"nobody knows the entry", map[string]*replicav1.PositionResponse{"a": answer(7, 0, true)}, place{}, false},
		{"the highest", map[string]*replicav1.PositionResponse{"a": answer(7, 9, true), "b": answer(8, 10, true)}, place{8, 10}, true},
		{"most say so", map[string]*replicav1.PositionResponse{"a": answer(7, 9, true), "b": answer(7, 9, true), "c": answer(9, 30, true)}, place{7, 9}, true},
		{"one lies about the entry", map[string]*replicav1.PositionResponse{"a": answer(7, 9, true), "b": answer(7, 9, true), "c": answer(7, 30, true)}, place{7, 9}, true},
	} {
		if got, ok := furthest(test.answers); got != test.want || ok != test.ok {
			t.Errorf("%s: %v %v, want %v %v", test.name, got, ok, test.want, test.ok)
		}
	}
	out := map[string]*replicav1.PositionResponse{"a": answer(1, 1, false), "b": answer(1, 1, true)}
	if dismissed(out, 1) {
		t.Error("one of four dismisses a replica")
	}
	if out["c"] = answer(1, 1, false); !dismissed(out, 1) {
		t.Error("two of four say that it is none of theirs")
	}
}

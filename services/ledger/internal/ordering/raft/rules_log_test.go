package raft

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
)

// gate is a log whose next append of a proposal can be held, or made to fail.
type gate struct {
	logStore
	held atomic.Pointer[hold]
	fail atomic.Pointer[error]
}

type hold struct {
	entered chan struct{} // closed when an append waits
	release chan struct{} // closed by open
	once    sync.Once
}

// hold holds the next one, until open is called or the test ends.
func (g *gate) hold(t *testing.T) *hold {
	h := &hold{entered: make(chan struct{}), release: make(chan struct{})}
	t.Cleanup(h.open)
	g.held.Store(h)
	return h
}

func (h *hold) open() { h.once.Do(func() { close(h.release) }) }

func (g *gate) StoreLogs(logs []*hraft.Log) error {
	if slices.ContainsFunc(logs, func(l *hraft.Log) bool { return l.Type == hraft.LogCommand }) {
		if h := g.held.Swap(nil); h != nil {
			close(h.entered)
			<-h.release
		}
	}
	if err := g.fail.Swap(nil); err != nil {
		return *err
	}
	return g.logStore.StoreLogs(logs)
}

// gated puts a gate into a node that is not started.
func gated(n *node) *gate {
	g := new(gate)
	n.seams.log = func(store logStore) logStore { g.logStore = store; return g }
	return g
}

func openWAL(t *testing.T, dir string, logs ...*hraft.Log) sealedLog {
	t.Helper()
	log, err := openLog(dir, testLogger("wal"), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	if err := log.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	return log
}

func logs(from, to, term uint64) (list []*hraft.Log) {
	for i := from; i <= to; i++ {
		list = append(list, &hraft.Log{Index: i, Term: term, Data: fmt.Append(nil, i)})
	}
	return list
}

func TestR2_AppliedEntriesStayInTheLog(t *testing.T) {
	for _, test := range []struct {
		name         string
		from, to     uint64 // to be removed from a log of entries 11 to 20, all of term 2
		applied      uint64
		index, term  uint64 // of the snapshot
		loss, other  bool   // want DATA_LOSS, or another error
		first, final uint64 // want these in the log
	}{
		{"tail above applied", 16, 20, 15, 10, 2, false, false, 11, 15},
		{"tail at applied", 15, 20, 15, 10, 2, true, false, 11, 20},
		{"tail below applied", 12, 20, 15, 10, 2, true, false, 11, 20},
		{"head that a snapshot covers", 11, 13, 15, 15, 2, false, false, 14, 20},
		{"head up to the snapshot", 11, 15, 15, 15, 2, false, false, 16, 20},
		{"all, for a snapshot beyond", 11, 20, 25, 25, 2, false, false, 0, 0},
		{"all, for a snapshot that the rest continues", 11, 20, 15, 15, 2, false, false, 16, 20},
		{"all, for a snapshot that the rest contradicts", 11, 20, 15, 15, 3, false, false, 0, 0},
		{"all, with entries applied beyond", 11, 20, 18, 15, 3, true, false, 11, 20},
		{"head without a snapshot", 11, 13, 15, 0, 0, false, true, 11, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := openWAL(t, t.TempDir(), logs(11, 20, 2)...)
			var failure error
			g := &guardedLog{
				logStore: log, deadline: time.Hour, fatal: func(error) {},
				applied:  func() uint64 { return test.applied },
				snapshot: func() (uint64, uint64, error) { return test.index, test.term, nil },
				fail:     func(err error) { failure = err },
			}
			err := g.DeleteRange(test.from, test.to)
			if got := reason.Of(err) == reason.DataLoss; got != test.loss || (err != nil) != (test.loss || test.other) {
				t.Fatalf("error %v, want DATA_LOSS = %v, another = %v", err, test.loss, test.other)
			}
			if (reason.Of(failure) == reason.DataLoss) != test.loss {
				t.Fatalf("the node was stopped by %v", failure)
			}
			first, err1 := log.FirstIndex()
			last, err2 := log.LastIndex()
			if err := errors.Join(err1, err2); err != nil || first != test.first || last != test.final {
				t.Fatalf("the log has %d to %d (%v), want %d to %d", first, last, err, test.first, test.final)
			}
		})
	}
}

func TestR2_TheLogKnowsTheSnapshotsLastEntry(t *testing.T) {
	g := &guardedLog{
		logStore: openWAL(t, t.TempDir(), logs(11, 12, 2)...),
		snapshot: func() (uint64, uint64, error) { return 10, 7, nil },
	}
	for _, test := range []struct {
		index, term uint64
		err         error
	}{{9, 0, hraft.ErrLogNotFound}, {10, 7, nil}, {11, 2, nil}, {13, 0, hraft.ErrLogNotFound}, {0, 0, hraft.ErrLogNotFound}} {
		var got hraft.Log
		// The library compares with ==, so must the test.
		if err := g.GetLog(test.index, &got); err != test.err || got.Term != test.term { //nolint:errorlint // see above
			t.Errorf("entry %d: term %d, %v; want %d, %v", test.index, got.Term, err, test.term, test.err)
		}
	}
}

func TestR2_AnotherEntryAtAnAppliedIndexStopsTheNode(t *testing.T) {
	c := newCluster(t, nil, "a")
	c.prepare("b")
	c.start("a")
	a := c.nodes["a"]
	for i := range 3 {
		c.propose(fmt.Sprint(i), "a")
	}
	at := a.state.AppliedIndex()
	var before hraft.Log
	if err := a.engine.log.GetLog(at-1, &before); err != nil {
		t.Fatal(err)
	}
	// b claims to lead in a later term, and that something else stands there.
	err := c.stranger("b").AppendEntries("a", "a", &hraft.AppendEntriesRequest{
		RPCHeader: header("b"), Term: 100, PrevLogEntry: before.Index, PrevLogTerm: before.Term, LeaderCommitIndex: at,
		Entries: []*hraft.Log{{Index: at, Term: 100, Data: []byte("other")}},
	}, new(hraft.AppendEntriesResponse))
	t.Logf("b was told: %v", err)
	if err := a.end(t); reason.Of(err) != reason.DataLoss {
		t.Fatalf("Run: %v, want DATA_LOSS", err)
	}
	if got, want := a.state.texts(), []string{"0", "1", "2"}; !slices.Equal(got, want) {
		t.Fatalf("applied %q, want %q", got, want)
	}
}

func TestR2_AStartComparesLogAndState(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, n *node)
		later  bool // found when the entry comes again, not by Open
	}{
		{"the log lost its tail", func(t *testing.T, n *node) {
			log := openWAL(t, n.dir+"/log")
			last, err := log.LastIndex()
			if err := errors.Join(err, log.DeleteRange(n.state.applied, last), log.Close()); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"the log is empty", func(t *testing.T, n *node) {
			log := openWAL(t, n.dir+"/log")
			last, err := log.LastIndex()
			if err := errors.Join(err, log.DeleteRange(1, last), log.Close()); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"another last entry", func(_ *testing.T, n *node) {
			n.state.digests[n.state.applied] = digest.Plain([]byte("other"))
		}, false},
		{"another earlier entry", func(_ *testing.T, n *node) {
			n.state.digests[n.state.applied-1] = digest.Plain([]byte("other"))
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, nil, "a")
			c.start("a")
			for i := range 3 {
				c.propose(fmt.Sprint(i), "a")
			}
			n := c.nodes["a"]
			c.kill("a")
			test.change(t, n)
			if test.later {
				c.start("a")
				if err := n.end(t); reason.Of(err) != reason.DataLoss {
					t.Fatalf("Run: %v, want DATA_LOSS", err)
				}
				return
			}
			engine, err := Open(testContext(t), c.config(n))
			if err == nil {
				_ = engine.Close()
			}
			if reason.Of(err) != reason.DataLoss {
				t.Fatalf("Open: %v, want DATA_LOSS", err)
			}
		})
	}
}

func TestR3_AHangingWriteEndsTheProcess(t *testing.T) {
	c := newCluster(t, func(config *Config) { config.LogWriteDeadline = 100 * time.Millisecond }, "a")
	n := c.nodes["a"]
	g := gated(n)
	c.start("a")
	leader := c.leader("a")
	g.hold(t)
	leader.engine.Propose(testContext(t), []byte("x"))
	select {
	case err := <-n.fatal:
		t.Log(err)
	case <-time.After(patience):
		t.Fatal("Fatal was not called")
	}
}

func TestR3_AFailedWriteStopsTheNode(t *testing.T) {
	c := newCluster(t, nil, "a")
	g := gated(c.nodes["a"])
	c.start("a")
	leader := c.leader("a")
	g.fail.Store(&errDisk)
	if _, err := leader.engine.Propose(testContext(t), []byte("x")).Wait(testContext(t)); err == nil {
		t.Fatal("the proposal succeeded")
	}
	if err := leader.end(t); !errors.Is(err, errDisk) {
		t.Fatalf("Run: %v, want %v", err, errDisk)
	}
}

// failingTerms is a log that keeps so many terms and no more.
type failingTerms struct {
	logStore
	left *atomic.Int64
}

func (f failingTerms) SetUint64(key []byte, value uint64) error {
	if f.left.Add(-1) < 0 {
		return errDisk
	}
	return f.logStore.SetUint64(key, value)
}

// The library panics when it cannot write its term: on a full disk the process
// would crash at each start, and say nothing that an operator can read.
func TestR3_ATermThatCannotBeWrittenStopsTheNodeWithoutAPanic(t *testing.T) {
	for name, left := range map[string]int64{"at the start": 0, "at the election": 1} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, nil, "a")
			n := c.nodes["a"]
			terms := new(atomic.Int64)
			terms.Store(left)
			n.seams.log = func(store logStore) logStore { return failingTerms{store, terms} }
			engine, err := open(testContext(t), c.config(n), n.seams)
			if err == nil {
				err = engine.Run(testContext(t))
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("the node stops with %v, want %v", err, errDisk)
			}
		})
	}
}

func TestR4_AFailedBatchStopsTheNodeAndIsAppliedOnce(t *testing.T) {
	for name, arm := range map[string]func(*memory){
		"lost":                            func(m *memory) { m.failBefore = errDisk },
		"persisted, but the answer is no": func(m *memory) { m.failAfter = errDisk },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, nil, "a")
			c.start("a")
			c.propose("0", "a")
			n := c.nodes["a"]
			n.state.mu.Lock()
			arm(n.state)
			n.state.mu.Unlock()
			ctx := testContext(t)
			_, err := n.engine.Propose(ctx, []byte("1")).Wait(ctx)
			if err == nil {
				t.Fatal("the proposal succeeded")
			}
			if err := n.end(t); !errors.Is(err, errDisk) {
				t.Fatalf("Run: %v, want %v", err, errDisk)
			}
			c.start("a")
			c.propose("2", "a")
			if got, want := n.state.texts(), []string{"0", "1", "2"}; !slices.Equal(got, want) {
				t.Fatalf("applied %q, want %q", got, want)
			}
		})
	}
}

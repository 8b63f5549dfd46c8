package raft

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	hraft "github.com/hashicorp/raft"
)

// wire is the library's pipeline: it keeps what leaves, and the test makes the
// answers.
type wire struct {
	left    []hraft.AppendEntriesRequest
	answers chan hraft.AppendFuture
}

func (w *wire) AppendEntries(m *hraft.AppendEntriesRequest, _ *hraft.AppendEntriesResponse) (hraft.AppendFuture, error) {
	w.left = append(w.left, *m)
	return nil, nil
}
func (w *wire) Consumer() <-chan hraft.AppendFuture { return w.answers }
func (w *wire) Close() error                        { return nil }

// sender is a pipeline of a leader whose log and commits the test makes.
type sender struct {
	*pipeline
	wire            *wire
	news            *bulletin
	term, committed atomic.Uint64
	last            atomic.Uint64
	handsOver       atomic.Bool
}

const (
	testLook = 2 * time.Millisecond
	testBeat = 50 * time.Millisecond
)

// newSender is one in term 3, with entries up to 10, of which 8 are committed.
func newSender() *sender {
	s := &sender{wire: &wire{answers: make(chan hraft.AppendFuture)}, news: new(bulletin)}
	s.term.Store(3)
	s.committed.Store(8)
	s.last.Store(10)
	s.pipeline = &pipeline{
		AppendPipeline: s.wire,
		leaving:        func(m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest { return m },
		lead: lead{
			changed:   s.news.changed,
			lastIndex: s.last.Load,
			committed: func(term uint64) (uint64, bool) { return s.committed.Load(), term == s.term.Load() },
			handsOver: s.handsOver.Load,
		},
		look: testLook, beat: testBeat,
		answers: make(chan hraft.AppendFuture),
		refused: make(chan struct{}),
		done:    make(chan struct{}),
	}
	return s
}

// message is what the library makes: entries after prev up to last.
func message(prev, last, committed uint64) *hraft.AppendEntriesRequest {
	m := &hraft.AppendEntriesRequest{Term: 3, PrevLogEntry: prev, PrevLogTerm: 2, LeaderCommitIndex: committed}
	for i := prev + 1; i <= last; i++ {
		m.Entries = append(m.Entries, &hraft.Log{Index: i, Term: 3})
	}
	return m
}

// call gives a message to the sender, and a channel that is closed when the call
// has returned.
func (s *sender) call(t *testing.T, m *hraft.AppendEntriesRequest) <-chan struct{} {
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		if _, err := s.AppendEntries(m, new(hraft.AppendEntriesResponse)); err != nil {
			t.Error(err)
		}
	}()
	synctest.Wait()
	return returned
}

// leaves checks what has left so far: the last entry of each message, or the one
// that it is behind, how many entries it has, and the commit that it tells.
func (s *sender) leaves(t *testing.T, want ...[3]uint64) {
	t.Helper()
	synctest.Wait()
	if len(s.wire.left) != len(want) {
		t.Fatalf("%d messages left, want %d", len(s.wire.left), len(want))
	}
	for i, m := range s.wire.left {
		if got := [3]uint64{m.PrevLogEntry + uint64(len(m.Entries)), uint64(len(m.Entries)), m.LeaderCommitIndex}; got != want[i] {
			t.Errorf("message %d is up to %d with %d entries and commit %d, want %v", i, got[0], got[1], got[2], want[i])
		}
		if m.Term != 3 {
			t.Errorf("message %d has term %d, want 3", i, m.Term)
		}
	}
}

func ended(returned <-chan struct{}) bool {
	select {
	case <-returned:
		return true
	default:
		return false
	}
}

func TestEachCommitIsToldBehindItsEntriesWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		begin := time.Now()
		returned := s.call(t, message(8, 10, 8))
		s.leaves(t, [3]uint64{10, 2, 8})
		s.committed.Store(9)
		s.news.announce()
		s.leaves(t, [3]uint64{10, 2, 8}, [3]uint64{10, 0, 9})
		s.committed.Store(10)
		s.news.announce()
		s.leaves(t, [3]uint64{10, 2, 8}, [3]uint64{10, 0, 9}, [3]uint64{10, 0, 10})
		if !ended(returned) || time.Since(begin) != 0 {
			t.Errorf("the sender is still held, or was for %v", time.Since(begin))
		}
		if behind := s.wire.left[1]; behind.PrevLogTerm != 3 {
			t.Errorf("it is behind an entry of term %d, want 3", behind.PrevLogTerm)
		}
	})
}

func TestWhatSaysNothingNewIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		s.committed.Store(10)
		<-s.call(t, message(10, 10, 10)) // the first tells something
		s.leaves(t, [3]uint64{10, 0, 10})
		begin := time.Now()
		<-s.call(t, message(10, 10, 10))
		if held := time.Since(begin); held != testBeat {
			t.Errorf("held for %v, want %v", held, testBeat)
		}
		s.leaves(t, [3]uint64{10, 0, 10}, [3]uint64{10, 0, 10})
	})
}

func TestACommitThatNobodyAnnouncesIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		returned := s.call(t, message(8, 10, 8))
		s.committed.Store(10)
		begin := time.Now()
		<-returned
		if held := time.Since(begin); held != testLook {
			t.Errorf("held for %v, want %v", held, testLook)
		}
		s.leaves(t, [3]uint64{10, 2, 8}, [3]uint64{10, 0, 10})
	})
}

func TestANewEntryIsNotHeldUp(t *testing.T) {
	for name, stored := range map[string]func(*sender){
		"stored while it waits": func(s *sender) { s.last.Store(11); s.news.announce() },
		"stored before":         func(*sender) {},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSender()
			s.told = 8
			if name == "stored before" {
				s.last.Store(11)
			}
			returned := s.call(t, message(10, 10, 8))
			stored(s)
			synctest.Wait()
			if !ended(returned) {
				t.Errorf("%s: the sender is still held", name)
			}
			s.leaves(t) // the library makes the next one, with the entry
		})
	}
}

// A follower commits up to its last index, whatever the message is behind: an
// entry there may be another leader's.
func TestNoCommitIsToldBeyondTheEntryThatAMessageIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		s.last.Store(9) // committed by others; this log is shown as shorter for the test
		s.committed.Store(12)
		<-s.call(t, message(9, 9, 8))
		s.leaves(t, [3]uint64{9, 0, 9})
	})
}

// Whoever leads no more says nothing in its old term: no other leader's commits,
// and no entries, which may be another leader's by now.
func TestNothingLeavesOnceTheTermIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		s.told = 8
		returned := s.call(t, message(10, 10, 8))
		s.term.Store(4)
		s.committed.Store(10)
		s.news.announce()
		synctest.Wait()
		if !ended(returned) {
			t.Error("the sender is still held")
		}
		<-s.call(t, message(8, 10, 8))
		s.leaves(t)
	})
}

func TestASenderIsLetGo(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*sender)
		leaves  [][3]uint64
	}{
		"when the transport closes":    {func(s *sender) { close(s.done) }, [][3]uint64{{10, 0, 8}}},
		"when an answer was a refusal": {func(s *sender) { close(s.refused) }, nil},
		"when the lead is handed over": {func(s *sender) { s.handsOver.Store(true); s.news.announce() }, [][3]uint64{{10, 0, 8}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSender()
			s.told, s.closing = 8, s.done
			returned := s.call(t, message(10, 10, 8))
			if ended(returned) {
				t.Errorf("%s: it was not held before", name)
			}
			c.happens(s)
			synctest.Wait()
			if !ended(returned) {
				t.Errorf("%s: the sender is still held", name)
			}
			s.leaves(t, c.leaves...)
		})
	}
}

// In a cluster whose library would say nothing for longer than the test waits, new
// entries leave and followers apply what the leader has committed.
func TestFollowersHearOfACommitAtOnce(t *testing.T) {
	ids := []string{"a", "b", "c"}
	var opened atomic.Int64
	c := newCluster(t, func(config *Config) {
		config.Timing.Commit = 3 * patience
		config.Logger = slog.New(counting{config.Logger.Handler(), "pipelining replication", &opened})
	}, ids...)
	for _, n := range c.nodes {
		n.seams.network = func(tr *transport) hraft.Transport { tr.beat = 3 * patience; return tr }
	}
	c.start(ids...)
	for ctx := testContext(t); opened.Load() < 2; { // the two followers of whoever leads
		c.propose("before", ids...)
		if ctx.Err() != nil {
			t.Fatalf("%d pipelines are open, want 2", opened.Load())
		}
	}
	for _, data := range []string{"one", "two", "three"} {
		c.same(c.propose(data, ids...).Index, ids...)
	}

	for _, n := range c.nodes {
		term, leads := n.engine.raft.CurrentTerm(), n.engine.IsLeader()
		index, said := n.engine.committed(term)
		if said != leads || index != n.engine.raft.CommitIndex() {
			t.Errorf("%s says that %d is committed and %v that it leads in term %d; it is %d and %v", n.id, index, said, term, n.engine.raft.CommitIndex(), leads)
		}
		if _, said := n.engine.committed(term + 1); said {
			t.Errorf("%s says that it leads in a later term", n.id)
		}
	}
}

// counting counts records that say something.
type counting struct {
	slog.Handler
	what  string
	count *atomic.Int64
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }

func (c counting) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, c.what) {
		c.count.Add(1)
	}
	if !c.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

func (c counting) WithAttrs(attrs []slog.Attr) slog.Handler {
	c.Handler = c.Handler.WithAttrs(attrs)
	return c
}

// answered is an answer of a follower.
type answered struct {
	hraft.AppendFuture
	success bool
}

func (a answered) Request() *hraft.AppendEntriesRequest { return message(10, 10, 8) }
func (a answered) Response() *hraft.AppendEntriesResponse {
	return &hraft.AppendEntriesResponse{Term: 3, Success: a.success}
}

// The library's reader ends at the first refusal, with messages still under way,
// and nobody reads their answers.
func TestAPipelineTakesAnswersThatNobodyReads(t *testing.T) {
	s := newSender()
	ended := make(chan struct{})
	go func() { s.relay(); close(ended) }()
	for i := range 100 {
		select {
		case s.wire.answers <- answered{success: i != 1}:
		case <-time.After(patience):
			t.Fatalf("answer %d is not taken", i)
		}
		if i <= 1 { // the reader takes them up to the refusal
			select {
			case <-s.Consumer():
			case <-time.After(patience):
				t.Fatalf("answer %d does not come", i)
			}
		}
	}
	select {
	case <-s.refused:
	default:
		t.Error("nobody says that there was a refusal")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the relay goes on after Close")
	}
}

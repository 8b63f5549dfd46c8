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
	term, committed uint64
	last            uint64
}

const (
	testLook = 2 * time.Millisecond
	testBeat = 50 * time.Millisecond
)

// newSender is one in term 3, with entries up to 10, of which 8 are committed.
func newSender() *sender {
	s := &sender{wire: &wire{answers: make(chan hraft.AppendFuture)}, news: new(bulletin), term: 3, committed: 8, last: 10}
	s.pipeline = &pipeline{
		AppendPipeline: s.wire,
		leaving:        func(m *hraft.AppendEntriesRequest) *hraft.AppendEntriesRequest { return m },
		lead: lead{
			changed:   s.news.changed,
			lastIndex: func() uint64 { return s.last },
			committed: func(term uint64) (uint64, bool) { return s.committed, term == s.term },
		},
		look: testLook, beat: testBeat,
		answers: make(chan hraft.AppendFuture, 5),
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

func TestACommitIsToldBehindItsEntriesWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		returned := s.call(t, message(8, 10, 8))
		s.leaves(t, [3]uint64{10, 2, 8})
		s.committed = 9
		s.news.announce()
		s.leaves(t, [3]uint64{10, 2, 8}, [3]uint64{10, 0, 9})
		if !ended(returned) {
			t.Error("the sender is still held")
		}
		if behind := s.wire.left[1]; behind.PrevLogTerm != 3 {
			t.Errorf("it is behind an entry of term %d, want 3", behind.PrevLogTerm)
		}
	})
}

func TestWhatSaysNothingNewIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		<-s.call(t, message(10, 10, 8)) // the first tells something
		s.leaves(t, [3]uint64{10, 0, 8})
		begin := time.Now()
		<-s.call(t, message(10, 10, 8))
		if held := time.Since(begin); held != testBeat {
			t.Errorf("held for %v, want %v", held, testBeat)
		}
		s.leaves(t, [3]uint64{10, 0, 8}, [3]uint64{10, 0, 8})
	})
}

func TestACommitThatNobodyAnnouncesIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		returned := s.call(t, message(8, 10, 8))
		s.committed = 10
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
		"stored while it waits": func(s *sender) { s.last = 11; s.news.announce() },
		"stored before":         func(*sender) {},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newSender()
			s.told = 8
			if name == "stored before" {
				s.last = 11
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
		s.last, s.committed = 9, 12 // committed by others; this log is shown as shorter for the test
		<-s.call(t, message(9, 9, 8))
		s.leaves(t, [3]uint64{9, 0, 9})
	})
}

// Another leader's commits are not told in this one's name.
func TestNoCommitOfAnotherTermIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		s.told = 8
		returned := s.call(t, message(10, 10, 8))
		s.term, s.committed = 4, 10
		s.news.announce()
		synctest.Wait()
		if !ended(returned) {
			t.Error("the sender is still held")
		}
		s.leaves(t)
	})
}

func TestASenderIsLetGoWhenTheTransportCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSender()
		s.told = 8
		closing := make(chan struct{})
		s.closing = closing
		returned := s.call(t, message(10, 10, 8))
		close(closing)
		synctest.Wait()
		if !ended(returned) {
			t.Error("the sender is still held")
		}
	})
}

// In a cluster whose library would say nothing for longer than the test waits,
// followers apply what the leader has committed.
func TestFollowersHearOfACommitAtOnce(t *testing.T) {
	ids := []string{"a", "b", "c"}
	var opened atomic.Int64
	c := newCluster(t, func(config *Config) {
		config.Timing.Commit = 3 * patience
		config.Logger = slog.New(counting{config.Logger.Handler(), "pipelining replication", &opened})
	}, ids...)
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

// The library's reader ends at the first refusal, with messages still under way.
func TestAPipelineTakesAnswersThatNobodyReads(t *testing.T) {
	s := newSender()
	s.answers = make(chan hraft.AppendFuture, 5)
	ended := make(chan struct{})
	go func() { s.relay(); close(ended) }()
	for i := range cap(s.answers) + 1 { // one more than there is room for
		select {
		case s.wire.answers <- nil:
		case <-time.After(patience):
			t.Fatalf("answer %d is not taken", i)
		}
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

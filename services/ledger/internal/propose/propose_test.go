package propose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// engine is an ordering engine whose proposals end when the test says so, and
// the ledger behind it.
type engine struct {
	mu        sync.Mutex
	follower  bool
	head      Head
	certified uint64
	changed   chan struct{}
	proposals []*proposal
}

type proposal struct {
	content *replicav1.Proposal
	done    chan struct{}
	applied ordering.Applied
	err     error
}

func (p *proposal) Done() <-chan struct{} { return p.done }

func (p *proposal) Wait(ctx context.Context) (ordering.Applied, error) {
	select {
	case <-p.done:
		return p.applied, p.err
	case <-ctx.Done():
		return ordering.Applied{}, ctx.Err()
	}
}

func (e *engine) Propose(_ context.Context, entry []byte) ordering.Proposal {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := &proposal{content: new(replicav1.Proposal), done: make(chan struct{})}
	if err := wire.Decode(entry, p.content); err != nil {
		panic(err)
	}
	e.proposals = append(e.proposals, p)
	return p
}

func (e *engine) Leader() (string, bool) { return "replica-07", true }

func (e *engine) IsLeader() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.follower
}

func (e *engine) Fresh() certify.Certified {
	e.mu.Lock()
	defer e.mu.Unlock()
	return certify.Certified{Block: state.BlockRef{Height: e.certified}, Text: []byte("certificate")}
}

func (e *engine) Changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed
}

// apply ends the i-th proposal as a block of its own.
func (e *engine) apply(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.proposals[i]
	e.head.Height++
	answer := Applied{Height: e.head.Height, Results: make([][]state.Outcome, len(p.content.GetSubmissions()))}
	for j, s := range p.content.GetSubmissions() {
		answer.Results[j] = []state.Outcome{{Accepted: true, Index: uint64(s.GetRecords()[0][0])}}
	}
	p.applied = ordering.Applied{Index: uint64(i), Response: answer}
	close(p.done)
}

func (e *engine) certify(height uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.certified = height
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.proposals)
}

func start(t *testing.T, head Head) (*Cutter, *engine, context.CancelFunc) {
	e := &engine{head: head, changed: make(chan struct{})}
	c := NewCutter(e, e, func() Head {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.head
	}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ends with %v", err)
		}
		ended <- context.Canceled
	}
	return c, e, stop
}

func submission(n int) *replicav1.Submission {
	return &replicav1.Submission{Records: [][]byte{{byte(n)}}}
}

// submit hands in without waiting.
func submit(c *Cutter, s *replicav1.Submission, alone bool) <-chan error {
	answer := make(chan error, 1)
	go func() {
		r, err := c.Submit(context.Background(), s, alone)
		if err == nil && (len(r.Outcomes) != 1 || r.Outcomes[0].Index != uint64(s.GetRecords()[0][0])) {
			err = fmt.Errorf("submission %d is answered with %+v", s.GetRecords()[0][0], r)
		}
		answer <- err
	}()
	return answer
}

// At once when idle, grouped while proposals are under way.
func TestBatchingAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e, stop := start(t, Head{MaxUncertified: 100})
		defer stop()
		var answers []<-chan error
		for i := range pipeline {
			answers = append(answers, submit(c, submission(i+1), false))
			synctest.Wait()
			if e.count() != i+1 {
				t.Fatalf("%d proposals after %d submissions to an idle pipeline", e.count(), i+1)
			}
		}
		for i := range 20 {
			answers = append(answers, submit(c, submission(20+i), false))
		}
		synctest.Wait()
		if e.count() != pipeline {
			t.Fatalf("%d proposals are under way, the limit is %d", e.count(), pipeline)
		}
		e.apply(0)
		synctest.Wait()
		if n := len(e.proposals[pipeline].content.GetSubmissions()); n != 20 {
			t.Errorf("%d submissions in the next proposal, 20 were waiting", n)
		}
		for i := 1; i < e.count(); i++ {
			e.apply(i)
		}
		for _, a := range answers {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		if c.queued.Load() != 0 {
			t.Errorf("%d bytes are still counted", c.queued.Load())
		}
	})
}

func TestC6_ConfigurationTakesAProposalOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e, stop := start(t, Head{MaxUncertified: 100})
		defer stop()
		for i := range pipeline {
			submit(c, submission(i+1), false)
			synctest.Wait()
		}
		for i, alone := range []bool{false, false, true, false, true} {
			submit(c, submission(10+i), alone)
			synctest.Wait()
		}
		for i := range 8 {
			if i < e.count() {
				e.apply(i)
				synctest.Wait()
			}
		}
		var sizes []int
		for _, p := range e.proposals[pipeline:] {
			sizes = append(sizes, len(p.content.GetSubmissions()))
		}
		if fmt.Sprint(sizes) != "[2 1 1 1]" {
			t.Errorf("proposals of %v submissions, want [2 1 1 1]: each configuration alone", sizes)
		}
	})
}

func TestC7_NoProposalBeyondTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e, stop := start(t, Head{MaxUncertified: 2})
		defer stop()
		for i := range 3 {
			submit(c, submission(i+1), false)
			synctest.Wait()
		}
		e.apply(0)
		e.apply(1)
		synctest.Wait()
		if e.count() != 2 {
			t.Fatalf("%d proposals on a certificate of 0 with a limit of 2", e.count())
		}
		e.certify(1)
		synctest.Wait()
		if e.count() != 3 || e.proposals[2].content.GetCertifiedHeight() != 1 {
			t.Errorf("%d proposals after block 1 is certified", e.count())
		}
	})
}

func TestC6_NothingFollowsAnUncertifiedConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e, stop := start(t, Head{Height: 5, MaxUncertified: 100, Config: true})
		defer stop()
		e.certify(4)
		answer := submit(c, submission(1), false)
		<-time.After(time.Minute) // of the bubble: nudges come and go
		synctest.Wait()
		if e.count() != 0 {
			t.Fatalf("%d proposals on an uncertified configuration", e.count())
		}
		e.certify(5)
		synctest.Wait()
		e.apply(0)
		if err := <-answer; err != nil {
			t.Error(err)
		}
	})
}

// A block whose cosignatures are missing for good is certified by one on top.
func TestIdleUncertifiedBlockGetsAnotherOnTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, e, stop := start(t, Head{Height: 3, MaxUncertified: 100})
		defer stop()
		e.certify(3)
		<-time.After(10 * nudgeInterval) // of the bubble
		if e.count() != 0 {
			t.Fatalf("%d proposals on a certified idle ledger", e.count())
		}
		e.certify(2)
		<-time.After(3 * nudgeInterval)
		if e.count() != 1 || len(e.proposals[0].content.GetSubmissions()) != 0 {
			t.Fatalf("%d proposals on an uncertified idle ledger, want an empty one", e.count())
		}
	})
}

func TestOverloadIsAnsweredWithADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, e, stop := start(t, Head{MaxUncertified: 100})
		defer stop()
		overload := func(what string, err error) {
			t.Helper()
			if reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) == 0 || status.Code(rpcerror.ToStatus(err)) != codes.ResourceExhausted {
				t.Errorf("%s: %v", what, err)
			}
		}
		// Bytes: submissions under way count until they are answered.
		big := &replicav1.Submission{Records: [][]byte{{1}}, RawVectors: [][]byte{make([]byte, maxQueuedBytes/2)}}
		first := submit(c, big, false)
		synctest.Wait()
		_, err := c.Submit(context.Background(), big, false)
		overload("bytes", err)
		e.apply(0)
		if err := <-first; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		// Submissions: the pipeline is full and one waits outside the queue.
		for i := range pipeline + 1 {
			submit(c, submission(i), false)
			synctest.Wait()
		}
		for range maxQueued {
			submit(c, submission(9), false)
		}
		synctest.Wait()
		_, err = c.Submit(context.Background(), submission(1), false)
		overload("submissions", err)
	})
}

func TestEverySubmissionIsAnsweredWhenTheCutterStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, stop := start(t, Head{MaxUncertified: 1})
		var answers []<-chan error
		for i := range 10 {
			answers = append(answers, submit(c, submission(i), i == 5))
			synctest.Wait()
		}
		stop()
		for i, a := range answers {
			if why := reason.Of(<-a); why != reason.NotLeader && why != reason.NotCertified {
				t.Errorf("submission %d: %q", i, why)
			}
		}
		if _, err := c.Submit(context.Background(), submission(1), false); reason.Of(err) != reason.NotLeader {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestOutcomesOfTheEngine(t *testing.T) {
	for name, c := range map[string]struct {
		applied ordering.Applied
		err     error
		want    reason.Reason
		leader  string
	}{
		"not leader":     {err: &ordering.NotLeaderError{Leader: "replica-03"}, want: reason.NotLeader, leader: "replica-03"},
		"busy":           {err: ordering.ErrBusy, want: reason.Overloaded},
		"lost":           {err: ordering.ErrLost, want: reason.NotCertified},
		"made no block":  {applied: ordering.Applied{Response: Applied{Ignored: state.ErrTooFarAhead}}, want: reason.NotCertified},
		"wrong response": {applied: ordering.Applied{Response: "nonsense"}},
		"too few":        {applied: ordering.Applied{Response: Applied{}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			cutter, e, stop := start(t, Head{MaxUncertified: 100})
			defer stop()
			answer := submit(cutter, submission(1), false)
			synctest.Wait()
			e.proposals[0].applied, e.proposals[0].err = c.applied, c.err
			close(e.proposals[0].done)
			if err := <-answer; err == nil || reason.Of(err) != c.want || rpcerror.LeaderHint(err) != c.leader {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		cutter, e, stop := start(t, Head{MaxUncertified: 100})
		defer stop()
		e.follower = true
		if err := <-submit(cutter, submission(1), false); reason.Of(err) != reason.NotLeader || rpcerror.LeaderHint(err) != "replica-07" {
			t.Errorf("on a follower: %v", err)
		}
	})
}

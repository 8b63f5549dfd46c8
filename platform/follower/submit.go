package follower

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

const (
	// submitTimeout is how long one replica may take to answer a submission.
	// Submissions are idempotent.
	submitTimeout = 10 * time.Second
	// doubtAfter is how long a replica may owe an answer before it is asked how it
	// is, again and again, and pingTimeout how long it may take to say. One that
	// says nothing, or that knows no leader, is not waited for: a machine that is
	// gone ends no connection. One that is only busy is not doubted, or else a
	// busy ledger would get every submission twice.
	doubtAfter  = 300 * time.Millisecond
	pingTimeout = 700 * time.Millisecond
)

// errGone is no answer.
var errGone = errors.New("it owes an answer, and does not say how it is or who leads")

// answer is what a replica said to a submission.
type answer struct {
	at       int // the replica's index
	response *ledgerv1.SubmitResponse
	err      error
}

// Submit hands a submission to the ledger: to the replica that led when the last
// one was answered, then to the others while one cannot tell, or seems to be gone.
// One that was gone is asked again only once it says how it is, so that it costs
// the submissions of a whole election what it costs the first. The answer has an
// outcome for each record.
func (f *Follower) Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of those that still owe an answer
	first := f.first()
	order := f.order(first)
	answers, doubts := make(chan answer, len(order)), make(chan int, len(order))
	asked, open, passed := 0, 0, make(map[int]bool)
	ask := func() {
		if asked == len(order) {
			return
		}
		at := order[asked]
		asked++
		open++
		go f.ask(ctx, at, request, answers, doubts)
	}
	var failures []error
	pass := func(at int, why error) { // on to the next, once for each replica
		failures = append(failures, fmt.Errorf("replica %s: %w", f.connections[at].Target(), why))
		if !passed[at] && ctx.Err() == nil {
			passed[at] = true
			ask()
		}
	}
	// When all are passed nobody can tell at the moment, and whoever asks may ask
	// again: one that is gone is not waited for at the end either. Where all others
	// know no leader it is most likely the old one, and its successor is chosen
	// while it would be asked how it is.
	leaderless := false
	var enough <-chan time.Time // nil until only the last is waited for
	for ask(); open > 0 && len(passed) < len(order); {
		if enough == nil && leaderless && len(passed) == len(order)-1 {
			enough = time.After(f.doubt)
		}
		select {
		case at := <-doubts:
			pass(at, errGone)
		case <-enough:
			last := order[len(order)-1]
			go f.seek(last) //nolint:gosec // it outlives the submission: whoever asks next knows whether it is gone.
			pass(last, errGone)
		case a := <-answers:
			open--
			if a.err == nil {
				if passed[first] || order[0] != first {
					f.preferred.CompareAndSwap(int64(first), int64(a.at)) // it is not followed either
				}
				f.noteLeader(a.at, a.response.GetLeader())
				return a.response, nil
			}
			switch why := reason.Of(a.err); why {
			case "", reason.NotLeader, reason.NotReady, reason.DataLoss:
				leaderless = leaderless || why == reason.NotLeader
				pass(a.at, a.err)
			default:
				return nil, a.err
			}
		}
	}
	return nil, errors.Join(failures...)
}

// first is the replica to which a submission goes first.
func (f *Follower) first() int {
	if at := f.leading.Load(); at != unknown {
		return int(at)
	}
	return int(f.preferred.Load())
}

// noteLeader remembers who led when a replica answered: that one, or whom it
// names. Whether that is true matters to speed alone, for every replica hands on
// what it is given.
func (f *Follower) noteLeader(at int, named string) {
	if named != "" {
		for i, spki := range f.spkis {
			if peer, ok := f.registry.Role(spki); ok && peer.ID == named {
				at = i
				break
			}
		}
	}
	f.leading.Store(int64(at))
}

// order is in which order the replicas are asked, from the first on; those that
// were gone are left out, and sought, unless all were.
func (f *Follower) order(first int) []int {
	var here, all []int
	for i := range f.clients {
		at := (first + i) % len(f.clients)
		if all = append(all, at); f.away[at].gone.Load() {
			go f.seek(at)
			continue
		}
		here = append(here, at)
	}
	if len(here) == 0 {
		return all
	}
	return here
}

// away says of a replica that it was gone when it owed an answer.
type away struct{ gone, sought atomic.Bool }

// seek asks a replica that seems to be gone how it is; one call at a time does.
func (f *Follower) seek(at int) {
	if !f.away[at].sought.CompareAndSwap(false, true) {
		return
	}
	defer f.away[at].sought.Store(false)
	ping, cancel := context.WithTimeout(context.Background(), f.ping) // it outlives the submission
	defer cancel()
	_, err := f.clients[at].GetStatus(ping, &ledgerv1.GetStatusRequest{})
	f.away[at].gone.Store(err != nil)
}

// ask hands a submission to one replica, and says so if it seems to be gone before
// it answers.
func (f *Follower) ask(ctx context.Context, at int, request *ledgerv1.SubmitRequest, answers chan<- answer, doubts chan<- int) {
	ctx, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	go func() {
		if f.gone(ctx, at) {
			doubts <- at // there is room for one of each
		}
	}()
	response, err := f.clients[at].Submit(ctx, request)
	if have, want := len(response.GetOutcomes()), len(request.GetRecords()); err == nil && have != want {
		err = fmt.Errorf("%d outcomes for %d records", have, want)
	}
	answers <- answer{at, response, err}
}

// gone watches a replica that owes an answer, until ctx ends: it returns true once
// the replica does not say how it is, or knows no leader.
func (f *Follower) gone(ctx context.Context, at int) bool {
	for {
		select {
		case <-time.After(f.doubt):
		case <-ctx.Done():
			return false
		}
		ping, cancel := context.WithTimeout(ctx, f.ping)
		status, err := f.clients[at].GetStatus(ping, &ledgerv1.GetStatusRequest{})
		cancel()
		switch {
		case ctx.Err() != nil:
			return false
		case err != nil:
			f.away[at].gone.Store(true)
			return true
		case status.GetLeader() == "":
			return true
		}
	}
}

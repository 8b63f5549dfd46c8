package follower

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

func TestSubmit(t *testing.T) {
	l := populated(t)
	refuse := func(why reason.Reason) func(context.Context, *ledgerv1.SubmitRequest) error {
		return func(context.Context, *ledgerv1.SubmitRequest) error { return reason.New(why, "") }
	}
	for _, c := range []struct {
		name      string
		configure func(r *ledgertest.Replica)
		want      reason.Reason // of the answer; "" if the second replica takes it
	}{
		{"not the leader", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.NotLeader) }, ""},
		{"not ready", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.NotReady) }, ""},
		{"damaged", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.DataLoss) }, ""},
		{"an internal error", func(r *ledgertest.Replica) {
			r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error { return errors.New("out of luck") }
		}, ""},
		{"an answer without outcomes", func(r *ledgertest.Replica) {
			r.OnSubmit = refuse(reason.NotReady)
			r.OnAnswer = func(a *ledgerv1.SubmitResponse) error { a.Outcomes = nil; return nil }
		}, ""},
		{"overloaded", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.Overloaded) }, reason.Overloaded},
		{"malformed", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.Malformed) }, reason.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := open(t, l, l.Serve(t, "first", c.configure), l.Serve(t, "second"))
			var leaf []byte
			l.Do(func(n *statetest.Network) {
				m := n.MeterRegistration("meter-"+digest.Plain([]byte(c.name)).String()[:8], statetest.Key(c.name))
				leaf = n.Sign(m, statetest.Body())
			})
			response, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
			if reason.Of(err) != c.want {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if c.want == "" && !response.GetOutcomes()[0].GetAccepted() {
				t.Errorf("refused: %v", response)
			}
		})
	}
	all := open(t, l, l.Serve(t, "a", func(r *ledgertest.Replica) { r.OnSubmit = refuse(reason.NotLeader) }),
		l.Serve(t, "b", func(r *ledgertest.Replica) {
			r.OnAnswer = func(a *ledgerv1.SubmitResponse) error { a.Outcomes = nil; return nil }
		}))
	if _, err := all.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{{1}}}); err == nil || rpcerror.IsPermanent(err) {
		t.Errorf("no replica can tell: %v", err)
	}
}

// A machine that is gone ends no connection: it owes the answer, and does not say
// how it is. It is not waited for; the next submission goes past it.
func TestSubmitPassesAReplicaThatIsGone(t *testing.T) {
	l := populated(t)
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	var asked atomic.Int32
	first := l.Serve(t, "first", func(r *ledgertest.Replica) {
		r.OnStatus = silent
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error { asked.Add(1); return silent(ctx) }
	})
	f := open(t, l, first, l.Serve(t, "second"))
	f.doubt = time.Millisecond
	for _, name := range []string{"one", "two"} {
		var leaf []byte
		l.Do(func(n *statetest.Network) {
			leaf = n.Sign(n.MeterRegistration("meter-"+name, statetest.Key(name)), statetest.Body())
		})
		response, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
		if err != nil || !response.GetOutcomes()[0].GetAccepted() {
			t.Fatalf("%s: %v, %v", name, response, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the replica that is gone was asked %d times, want once", n)
	}
}

// An election lasts longer than one submission. Whoever submits again does not wait
// for the old leader's machine each time: it is asked again only once it says how it
// is.
func TestSubmitRemembersWhoIsGone(t *testing.T) {
	l := populated(t)
	silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	var asked atomic.Int32
	var back, elected atomic.Bool
	first := l.Serve(t, "first", func(r *ledgertest.Replica) {
		r.OnStatus = func(ctx context.Context) error {
			if back.Load() {
				return nil
			}
			return silent(ctx)
		}
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error {
			if asked.Add(1); back.Load() {
				return nil
			}
			return silent(ctx)
		}
	})
	second := l.Serve(t, "second", func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			if elected.Load() {
				return nil
			}
			return reason.New(reason.NotLeader, "an election is on")
		}
	})
	f := open(t, l, first, second) // one that is back has its time to answer
	ctx := within(t)
	submit := func(name string) error {
		var leaf []byte
		l.Do(func(n *statetest.Network) {
			leaf = n.Sign(n.MeterRegistration("meter-"+name, statetest.Key(name)), statetest.Body())
		})
		_, err := f.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
		return err
	}
	for range 3 {
		if err := submit("one"); err == nil {
			t.Fatal("a submission was taken while an election was on")
		}
	}
	elected.Store(true)
	if err := submit("one"); err != nil || asked.Load() != 1 {
		t.Errorf("%v; the replica that is gone was asked %d times, want once", err, asked.Load())
	}
	back.Store(true)
	elected.Store(false)
	for i := 0; submit(fmt.Sprint(i)) != nil; i++ { // it is found again while submissions come
		if ctx.Err() != nil {
			t.Fatal("the replica that is back was not asked again")
		}
	}
}

// While an election is on, and the old leader's machine is gone, nobody can tell:
// whoever submits is told so, and asks again.
func TestSubmitEndsWhenTheRestCannotTell(t *testing.T) {
	l := populated(t)
	over := make(chan struct{}) // a machine that is gone does not even say that it took too long
	defer close(over)
	silent := func(context.Context) error { <-over; return nil }
	gone := func(r *ledgertest.Replica) {
		r.OnStatus = silent
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error { return silent(ctx) }
	}
	electing := func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			return reason.New(reason.NotLeader, "an election is on")
		}
	}
	for name, order := range map[string][]func(*ledgertest.Replica){
		"first": {gone, electing, electing}, "in the middle": {electing, gone, electing}, "last": {electing, electing, gone},
	} {
		var replicas []*ledgertest.Replica
		for i, configure := range order {
			replicas = append(replicas, l.Serve(t, fmt.Sprintf("%s-%d", name, i), configure))
		}
		f := open(t, l, replicas...)
		f.doubt = time.Millisecond
		if name == "last" {
			f.patience, f.ping = time.Hour, time.Hour // the others have said that nobody leads: it is not even waited for whether it says how it is
		}
		ctx := within(t)
		response, err := f.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{{1}}})
		if err == nil || ctx.Err() != nil || rpcerror.IsPermanent(err) || !errors.Is(err, errGone) {
			t.Errorf("gone %s: %v, %v", name, response, err)
		}
	}
}

// A replica that is slow and says that it is well gets the submission alone.
func TestSubmitWaitsForAReplicaThatIsBusy(t *testing.T) {
	l := populated(t)
	pings := make(chan struct{}, 1)
	first := l.Serve(t, "first", func(r *ledgertest.Replica) {
		r.OnStatus = func(ctx context.Context) error {
			select {
			case pings <- struct{}{}:
			case <-ctx.Done():
			}
			return nil
		}
		r.OnSubmit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) error {
			for range 5 { // it is asked again and again
				select {
				case <-pings:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
	})
	second := l.Serve(t, "second", func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			t.Error("a busy replica's submission is handed to another")
			return nil
		}
	})
	f := open(t, l, first, second)
	f.doubt = time.Millisecond
	var leaf []byte
	l.Do(func(n *statetest.Network) {
		leaf = n.Sign(n.MeterRegistration("meter-slow", statetest.Key("slow")), statetest.Body())
	})
	if response, err := f.Submit(within(t), &ledgerv1.SubmitRequest{Records: [][]byte{leaf}}); err != nil || !response.GetOutcomes()[0].GetAccepted() {
		t.Errorf("%v, %v", response, err)
	}
}

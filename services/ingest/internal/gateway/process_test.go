package gateway

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

// leaderless is a ledger of which nothing can be had, and that notes when it was
// asked.
type leaderless struct{ asked []time.Time }

func (l *leaderless) Snapshot() (*follower.Snapshot, error) {
	l.asked = append(l.asked, time.Now())
	return nil, reason.New(reason.NotReady, "an election is on")
}

func (l *leaderless) Wait(context.Context, uint64) (*follower.Snapshot, error) { return l.Snapshot() }

func (l *leaderless) Submit(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	return nil, reason.New(reason.NotLeader, "an election is on")
}

// A sample outlasts the election of a leader here, so that its meter need not send
// it again, and goes on soon after it: the ledger is asked at least each 250 ms.
func TestASampleOutlastsAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := new(leaderless)
		g := New(digest.Zero, "gateway", ledger, nil, nil, slog.New(slog.DiscardHandler))
		b := &batcher{send: g.process}
		told := make(chan Answer, 1)
		s := &Sample{Parsed: new(sample.Sample), tell: func(a Answer) { told <- a }, settle: func() {}}
		b.add(s)
		if a := <-told; reason.Of(a.Err) != reason.NotReady {
			t.Errorf("answered with %v, want NOT_READY", a.Err)
		}
		for i, at := range ledger.asked[1:] {
			if pause := at.Sub(ledger.asked[i]); pause > 250*time.Millisecond {
				t.Errorf("pause %d took %s", i+1, pause)
			}
		}
		if all := ledger.asked[len(ledger.asked)-1].Sub(ledger.asked[0]); all < 2*time.Second {
			t.Errorf("the sample was given up after %s; an election takes up to 2 s", all)
		}
	})
}

package follower

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

func report(n *statetest.Network, detail string) *recordv1.EventReport {
	return &recordv1.EventReport{
		NetworkId: n.ID.Bytes(), Reporter: n.Gateway.ID, Kind: recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE,
		Subject: record.SubjectMeter("meter-01"), Counter: 1, Detail: detail,
	}
}

func TestReporterRecordsOnceAndInTheEnd(t *testing.T) {
	l := populated(t)
	var network *statetest.Network
	l.Do(func(n *statetest.Network) { network = n })
	var calls atomic.Int32
	f := open(t, l, l.Serve(t, "replica", func(r *ledgertest.Replica) {
		r.OnSubmit = func(context.Context, *ledgerv1.SubmitRequest) error {
			if calls.Add(1) <= 2 {
				return reason.New(reason.NotLeader, "an election is on")
			}
			return nil
		}
	}))
	r := NewReporter(f, network.Gateway.Key, quiet)
	for _, detail := range []string{"first", "first", "second"} {
		if err := r.Report(report(network, detail)); err != nil {
			t.Fatal(err)
		}
	}
	stop := start(t, r.Run)
	l.AwaitEvents(within(t), t, 2)
	// What is queued when the node stops is recorded before it has stopped.
	if err := r.Report(report(network, "third")); err != nil {
		t.Fatal(err)
	}
	stop()
	if got := l.Events(t); len(got) != 3 {
		t.Errorf("%d events, want 3: %v", len(got), got)
	}
	for i := range maxReports + 1 {
		if err := r.Report(report(network, "again")); i == maxReports && (reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) == 0) {
			t.Errorf("report %d with nobody to record it: %v", i, err)
		}
	}
}

// A refusal for good is logged and holds nothing up.
func TestReporterGivesUpWhatIsRefused(t *testing.T) {
	l := populated(t)
	var network *statetest.Network
	l.Do(func(n *statetest.Network) { network = n })
	f := open(t, l, l.Serve(t, "replica"))
	r := NewReporter(f, network.Gateway.Key, quiet)
	bad := report(network, "of a stranger")
	bad.Reporter = "nobody"
	for _, e := range []*recordv1.EventReport{bad, report(network, "good")} {
		if err := r.Report(e); err != nil {
			t.Fatal(err)
		}
	}
	start(t, r.Run)
	if got := l.AwaitEvents(within(t), t, 1); got[0].GetDetail() != "good" {
		t.Errorf("recorded %v", got)
	}
}

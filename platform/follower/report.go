package follower

import (
	"context"
	"crypto"
	"log/slog"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

const (
	maxReports = 64
	// lastReports bounds the time that a stopping node takes for what it has not
	// reported yet.
	lastReports = 3 * time.Second
)

// Reporter records security events on the ledger, in the background: what is
// observed must neither wait for the ledger nor be lost because no leader is
// known for a moment. Make it with NewReporter and drive it with Run.
//
// An event is the same event if its report has the same bytes; the ledger takes
// it once. So whoever reports puts nothing in a report that differs when the
// same thing is seen again.
type Reporter struct {
	ledger *Follower
	signer crypto.Signer
	log    *slog.Logger
	queue  chan *recordv1.EventReport
}

// NewReporter makes a reporter that signs with the node's registered key.
func NewReporter(ledger *Follower, signer crypto.Signer, log *slog.Logger) *Reporter {
	return &Reporter{ledger: ledger, signer: signer, log: log, queue: make(chan *recordv1.EventReport, maxReports)}
}

// Report queues an event. The error is OVERLOADED when too many wait.
func (r *Reporter) Report(report *recordv1.EventReport) error {
	select {
	case r.queue <- report:
		return nil
	default:
		return rpcerror.With(reason.New(reason.Overloaded, "queue full: %d security events are not recorded yet", maxReports), rpcerror.RetryAfter(retryAfter))
	}
}

// Run records what is queued until ctx ends, and then what is left if the
// ledger takes it at once. What is never recorded is logged, with all it says.
func (r *Reporter) Run(ctx context.Context) error {
	var undecided []*recordv1.EventReport
	for ctx.Err() == nil {
		select {
		case report := <-r.queue:
			if !r.deliver(ctx, report) {
				undecided = append(undecided, report)
			}
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastReports)
	defer cancel()
	for len(r.queue) > 0 {
		undecided = append(undecided, <-r.queue)
	}
	for _, report := range undecided {
		if err := r.submit(last, report); err != nil && reason.Of(err) != reason.AlreadyReported {
			r.lost(last, report, err)
		}
	}
	return ctx.Err()
}

// deliver repeats until the ledger has decided; false means that ctx ended first.
func (r *Reporter) deliver(ctx context.Context, report *recordv1.EventReport) bool {
	for {
		err := r.submit(ctx, report)
		switch {
		case err == nil || reason.Of(err) == reason.AlreadyReported:
			return true
		case ctx.Err() != nil:
			return false
		case rpcerror.IsPermanent(err):
			r.lost(ctx, report, err)
			return true
		}
		r.log.WarnContext(ctx, "a security event is not recorded yet", "kind", report.GetKind(), "subject", report.GetSubject(), "error", err)
		select {
		case <-time.After(max(retryAfter, rpcerror.Delay(err))):
		case <-ctx.Done():
			return false
		}
	}
}

func (r *Reporter) lost(ctx context.Context, report *recordv1.EventReport, err error) {
	r.log.ErrorContext(ctx, "a security event could not be recorded", "kind", report.GetKind(), "subject", report.GetSubject(),
		"counter", report.GetCounter(), "detail", report.GetDetail(), "error", err)
}

// submit is Record for what is reported in the background.
func (r *Reporter) submit(ctx context.Context, report *recordv1.EventReport) error {
	_, err := r.Record(ctx, report)
	return err
}

// Record signs an event, hands it in, and returns when a replica says that it is
// certified, with its place in the log. An event that is on the ledger already
// gives ALREADY_REPORTED.
func (r *Reporter) Record(ctx context.Context, report *recordv1.EventReport) (index uint64, err error) {
	kind, err := sample.KindOf(r.signer.Public())
	if err != nil {
		return 0, err
	}
	leaf, err := record.SignEvent(r.signer, kind, report)
	if err != nil {
		return 0, err
	}
	response, err := r.ledger.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
	if err != nil {
		return 0, err
	}
	o := response.GetOutcomes()[0]
	if !o.GetAccepted() {
		return o.GetIndex(), &reason.Error{Reason: reason.Reason(o.GetReason()), Detail: o.GetDetail()}
	}
	return o.GetIndex(), nil
}

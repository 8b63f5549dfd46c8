package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
)

// overloadFactor is how much of the peak an overload offers.
const overloadFactor = 2

// OverloadReport is what came of offering twice what the system can take.
type OverloadReport struct {
	PeakPerSecond    float64 `json:"peak_per_second"`    // of the closed loop before
	OfferedPerSecond float64 `json:"offered_per_second"` // new measurements; what was refused comes again on top
	GoodputPerSecond float64 `json:"goodput_per_second"` // verified receipts within the window
	GoodputShare     float64 `json:"goodput_share"`      // of the peak
	Shed             int64   `json:"shed"`               // times that a sample was answered OVERLOADED, which is RESOURCE_EXHAUSTED
	Peak             *Report `json:"peak"`
	Overload         *Report `json:"overload"`
}

// Overload finds what the system takes with all clients in a closed loop, and
// then lets twice that arrive in an open loop, for as long. Clients do as the SDK
// does: they keep what was refused and send it again after the delay that the
// answer names, so in the end everything has to be on the ledger. An error means
// that there is no report; a report that Failed is no error here.
func Overload(ctx context.Context, o Options) (report *OverloadReport, err error) {
	o.Rate = 0
	o.Drain = max(o.Drain, drainOf(o))
	err = within(ctx, o, func(ctx context.Context, r *run) error {
		if err := r.connect(ctx); err != nil {
			return err
		}
		peak, err := r.measure(ctx)
		if err != nil {
			return err
		}
		report = &OverloadReport{PeakPerSecond: peak.RatePerSecond, OfferedPerSecond: overloadFactor * peak.RatePerSecond, Peak: peak, Overload: new(Report)}
		if peak.RatePerSecond == 0 || peak.Failed() {
			return nil // there is nothing to offer twice
		}
		r.Rate = report.OfferedPerSecond
		r.say("%.0f/s is what it takes, now %.0f/s arrive", peak.RatePerSecond, r.Rate)
		if report.Overload, err = r.measure(ctx); err != nil {
			return err
		}
		report.GoodputPerSecond = report.Overload.RatePerSecond
		report.GoodputShare = report.GoodputPerSecond / report.PeakPerSecond
		report.Shed = report.Overload.Shed[string(reason.Overloaded)]
		return nil
	})
	return report, err
}

// drainOf lets what an overload left behind be sent: as much again as was
// offered, at half the pace at worst.
func drainOf(o Options) time.Duration {
	return 2*overloadFactor*(o.Warmup+o.Duration) + time.Minute
}

// Failed says whether anything was lost, refused for ever or wrong, in either
// half, or nothing was measured.
func (r *OverloadReport) Failed() bool { return r.Peak.Failed() || r.Overload.Failed() }

// Text is the report for people.
func (r *OverloadReport) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "peak        %.0f/s, p99 %.0f ms: a closed loop of %d clients\n", r.PeakPerSecond, r.Peak.Latency.P99Ms, r.Peak.Configuration.Clients)
	fmt.Fprintf(&b, "offered     %.0f/s for %s, after a warm-up of %s at the same rate\n", r.OfferedPerSecond, r.Peak.Configuration.Duration, r.Peak.Configuration.Warmup)
	fmt.Fprintf(&b, "goodput     %.0f/s, %.0f %% of the peak; latency from when each was due: p50 %.0f, p99 %.0f ms\n",
		r.GoodputPerSecond, 100*r.GoodputShare, r.Overload.Latency.P50Ms, r.Overload.Latency.P99Ms)
	fmt.Fprintf(&b, "CPU         %.0f us each, at the peak %.0f\n", r.Overload.CPUMicros, r.Peak.CPUMicros)
	r.Overload.outcome(&b)
	if r.Peak.Failed() {
		b.WriteString("\nat the peak\n")
		r.Peak.outcome(&b)
	}
	return b.String()
}

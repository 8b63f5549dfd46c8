package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// window is the measured span of time.
type window struct{ from, until time.Time }

func (w window) has(t time.Time) bool { return !t.Before(w.from) && t.Before(w.until) }

// load drives the clients.
type load struct {
	run       *run
	window    window
	latencies *latencies // of measurements begun within the window
	recent    *latencies // since the last line of progress
	counted   atomic.Int64
	working   sync.WaitGroup
	measure   func(ctx context.Context, client int) error
}

// maxOpen bounds the measurements of an open loop that wait for an answer; what
// arrives beyond it is counted as unsent, and fails the run.
const maxOpen = 200_000

// closed lets each client send its next measurement when the last is answered.
// It returns when all clients have ended: ctx ends the beginning of new
// measurements, drain ends the waiting for answers.
func (l *load) closed(ctx, drain context.Context, clients int) {
	for i := range clients {
		l.working.Go(func() {
			for ctx.Err() == nil {
				l.one(drain, i, time.Now())
			}
		})
	}
	l.working.Wait()
}

// openLoop sends at fixed moments until the window ends, whatever came of earlier
// measurements. What it is too slow to send in time it sends late, and what it
// cannot send before drain ends is unsent.
func (l *load) openLoop(drain context.Context, clients int, rate float64, from time.Time) {
	for n := 0; ; n++ {
		due := from.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		if !due.Before(l.window.until) {
			break
		}
		if wait := time.Until(due); wait > 0 {
			_ = pause(drain, wait) // the next line sees that drain ended
		}
		if drain.Err() != nil || l.run.tally.inFlight.Load() >= maxOpen {
			l.run.tally.unsent.Add(1)
			continue
		}
		l.working.Go(func() { l.one(drain, n%clients, due) })
	}
	l.working.Wait()
}

// one makes one measurement that was due at a moment.
func (l *load) one(ctx context.Context, client int, due time.Time) {
	tally := l.run.tally
	tally.inFlight.Add(1)
	defer tally.inFlight.Add(-1)
	if err := l.measure(ctx, client); err != nil {
		return // it is counted where it failed, or stays unanswered
	}
	now := time.Now()
	if l.window.has(now) {
		l.counted.Add(1)
	}
	if l.window.has(due) {
		l.latencies.record(now.Sub(due))
	}
	l.recent.record(now.Sub(due))
}

// report prints a line each second until ctx ends.
func (l *load) report(ctx context.Context, say func(string, ...any)) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	last := l.run.tally.verified.Load()
	at := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			phase := "warm-up"
			if l.window.has(now) {
				phase = "measuring"
			} else if now.After(l.window.until) {
				phase = "draining"
			}
			verified := l.run.tally.verified.Load()
			p := percentiles(l.recent.take())
			say("%-9s %7.0f/s  p50 %7.1f ms  p99 %7.1f ms  in flight %d", phase,
				float64(verified-last)/now.Sub(at).Seconds(), p.P50Ms, p.P99Ms, l.run.tally.inFlight.Load())
			last, at = verified, now
		}
	}
}

// drive runs the load from warm-up to the last answer. begin and end are called
// at the window's edges.
func (l *load) drive(ctx context.Context, o Options, begin, end func() error) error {
	start := time.Now()
	l.window = window{from: start.Add(o.Warmup), until: start.Add(o.Warmup + o.Duration)}
	sending, stop := context.WithDeadline(ctx, l.window.until)
	defer stop()
	draining, giveUp := context.WithDeadline(ctx, l.window.until.Add(o.Drain))
	defer giveUp()
	edges := make(chan error, 1)
	go func() { edges <- l.edges(sending, draining, begin, end) }()
	reporting, quiet := context.WithCancel(ctx)
	var reporter sync.WaitGroup
	reporter.Go(func() { l.report(reporting, l.run.say) })
	online := o.Clients - o.offline()
	share := o.Rate * float64(online) / float64(o.Clients)
	var cutOff sync.WaitGroup
	for i := range o.offline() {
		stagger := o.Outage * time.Duration(i) / time.Duration(o.offline())
		cutOff.Go(func() { l.outages(sending, draining, online+i, stagger, l.pace(o, start, online)) })
	}
	if o.Rate > 0 {
		l.openLoop(draining, online, share, start)
	} else {
		l.closed(sending, draining, online)
	}
	cutOff.Wait()
	quiet()
	reporter.Wait()
	err := <-edges
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pace is what one client measures each second: its share of an open loop's rate,
// or what those of a closed loop have reached so far.
func (l *load) pace(o Options, start time.Time, online int) func() float64 {
	if o.Rate > 0 {
		return func() float64 { return o.Rate / float64(o.Clients) }
	}
	return func() float64 {
		reached := l.run.tally.verified.Load() - l.run.backlog.measurements.Load()
		return float64(reached) / max(time.Since(start).Seconds(), 0.001) / float64(online)
	}
}

// edges calls begin and end at their moments.
func (l *load) edges(sending, draining context.Context, begin, end func() error) error {
	if wait := time.Until(l.window.from); wait > 0 && pause(sending, wait) != nil {
		return context.Cause(sending)
	}
	if err := begin(); err != nil {
		return err
	}
	if l.run.KillLeaderAfter > 0 {
		if err := pause(sending, time.Until(l.window.from.Add(l.run.KillLeaderAfter))); err != nil {
			return err
		}
		if err := l.run.killLeader(draining); err != nil {
			return err
		}
	}
	<-sending.Done()
	if !errors.Is(context.Cause(sending), context.DeadlineExceeded) {
		return context.Cause(sending)
	}
	return end()
}

// results are the window's rate and latencies; omission is the histogram of a
// closed loop corrected for what its waiting clients did not send.
func (l *load) results(o Options) (rate float64, latency, omission Percentiles) {
	h := l.latencies.take()
	rate = float64(l.counted.Load()) / o.Duration.Seconds()
	latency = percentiles(h)
	omission = latency
	if o.Rate == 0 && h.TotalCount() > 0 {
		interval := time.Duration(h.Mean() * float64(time.Microsecond))
		omission = percentiles(corrected(h, interval))
	}
	return rate, latency, omission
}

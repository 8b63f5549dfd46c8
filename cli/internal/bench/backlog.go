package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// backlog counts what clients sent that had been cut off: store and forward, as
// the meter of a road whose line is down does it.
type backlog struct {
	latencies    *latencies // from being back, before the handshake, to the receipt
	outages      atomic.Int64
	measurements atomic.Int64 // with a verified receipt
}

// Backlog is what clients that were cut off sent when they were back.
type Backlog struct {
	Clients      int         `json:"clients"`
	Outages      int64       `json:"outages"`
	Measurements int64       `json:"measurements"` // verified, with warm-up and drain
	CatchUp      Percentiles `json:"catch_up"`     // from being back to the receipt
}

func (b *backlog) report(o Options) *Backlog {
	if o.Backlog == 0 {
		return nil
	}
	return &Backlog{Clients: o.offline(), Outages: b.outages.Load(), Measurements: b.measurements.Load(), CatchUp: percentiles(b.latencies.take())}
}

// offline is how many clients are cut off: the last ones.
func (o Options) offline() int {
	if o.Backlog == 0 {
		return 0
	}
	return max(1, int(o.Backlog*float64(o.Clients)+0.5))
}

const (
	// maxBacklog bounds what one outage gathers; a stream takes 1,024 unanswered.
	maxBacklog = 1000
	// forwarding is how many measurements of a backlog are on their way at a time.
	forwarding = 32
)

// outages cuts a client off again and again until ctx ends. It captures at the
// pace of the others, in measurements each second, and sends all of it when it is
// back. The first outage is shorter by stagger, so that not all are back at once.
func (l *load) outages(ctx, drain context.Context, client int, stagger time.Duration, pace func() float64) {
	s := l.run.senders[client]
	for length := l.run.Outage - stagger; ctx.Err() == nil; length = l.run.Outage {
		if err := s.cutOff(); err != nil {
			l.run.tally.unsigned(fmt.Errorf("meter %s: %w", s.id, err))
			return
		}
		shots := l.capture(ctx, s, length, pace)
		back := time.Now()
		if err := s.dial(drain); err != nil {
			l.run.tally.unsigned(fmt.Errorf("meter %s is cut off and does not come back: %w", s.id, err))
			return
		}
		l.forward(drain, s, shots, back)
		l.run.backlog.outages.Add(1)
	}
}

// capture signs measurements while a client is cut off: one at least. All of them
// name the block that the meter knew when it lost its line.
func (l *load) capture(ctx context.Context, s *sender, length time.Duration, pace func() float64) []*shot {
	known := l.run.head.newest()
	var shots []*shot
	for until := time.Now().Add(length); ; {
		shot, err := s.begin(known)
		if err != nil {
			return shots // it is counted as unsent
		}
		shots = append(shots, shot)
		gap := length
		if p := pace(); p > 0 {
			gap = time.Duration(float64(time.Second) / p)
		}
		gap = max(gap, length/maxBacklog)
		if left := time.Until(until); gap > left {
			_ = pause(ctx, left) // whoever calls sees that ctx ended
			return shots
		}
		if pause(ctx, gap) != nil {
			return shots
		}
	}
}

// forward sends a backlog, oldest first.
func (l *load) forward(drain context.Context, s *sender, shots []*shot, back time.Time) {
	tally := l.run.tally
	tally.inFlight.Add(int64(len(shots)))
	// What fails is counted where it failed, or stays unanswered.
	_ = parallel(drain, forwarding, len(shots), func(i int) error {
		defer tally.inFlight.Add(-1)
		if s.deliver(drain, shots[i]) != nil {
			return nil
		}
		now := time.Now()
		if l.window.has(now) {
			l.counted.Add(1)
		}
		l.run.backlog.measurements.Add(1)
		l.run.backlog.latencies.record(now.Sub(back))
		return nil
	})
}

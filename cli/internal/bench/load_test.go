package bench

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// drive runs a load whose measurements take what serve says, in a bubble of its
// own time.
func drive(t *testing.T, o Options, serve func(ctx context.Context, client int) error) *load {
	t.Helper()
	l := &load{run: &run{Options: o, tally: new(tally)}, latencies: newLatencies(), recent: newLatencies(), measure: serve}
	l.run.Progress = testWriter{t}
	began, ended := 0, 0
	err := l.drive(t.Context(), o, func() error { began++; return nil }, func() error { ended++; return nil })
	if err != nil || began != 1 || ended != 1 {
		t.Fatalf("drive: %v, the window began %d times and ended %d times", err, began, ended)
	}
	return l
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func wait(ctx context.Context, d time.Duration) error { return pause(ctx, d) }

// TestClosedLoopKeepsOneInFlightForEachClient: 4 clients and 100 ms for each
// measurement are 40/s, and no client has two on their way.
func TestClosedLoopKeepsOneInFlightForEachClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Clients: 4, Duration: 10 * time.Second, Warmup: time.Second, Drain: time.Second}
		var mu sync.Mutex
		busy := make(map[int]bool)
		l := drive(t, o, func(ctx context.Context, client int) error {
			mu.Lock()
			if busy[client] {
				t.Errorf("client %d has two in flight", client)
			}
			busy[client] = true
			mu.Unlock()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				busy[client] = false
			}()
			return wait(ctx, 100*time.Millisecond)
		})
		rate, latency, _ := l.results(o)
		if rate < 39.5 || rate > 40.5 {
			t.Errorf("rate is %.1f/s, want 40", rate)
		}
		if latency.P50Ms < 99 || latency.MaxMs > 101 {
			t.Errorf("latency %+v, want 100 ms", latency)
		}
	})
}

// TestOpenLoopCountsFromWhenItWasDue: a server that handles one at a time stalls
// for two seconds. What arrives meanwhile is late, and the latencies say so.
func TestOpenLoopCountsFromWhenItWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Clients: 10, Rate: 100, Duration: 10 * time.Second, Warmup: time.Second, Drain: 10 * time.Second}
		start := time.Now()
		stalled := start.Add(5 * time.Second)
		l := drive(t, o, func(ctx context.Context, _ int) error {
			took := time.Millisecond
			if now := time.Now(); now.After(stalled) && now.Before(stalled.Add(2*time.Second)) {
				took += time.Until(stalled.Add(2 * time.Second))
			}
			return wait(ctx, took)
		})
		rate, latency, corrected := l.results(o)
		if rate < 99 || rate > 101 {
			t.Errorf("rate is %.1f/s, want 100", rate)
		}
		// 200 of 1,000 waited up to 2 s: the 90th percentile is about 1 s.
		if latency.Count != 1000 || latency.P50Ms > 2 || latency.P90Ms < 900 || latency.P90Ms > 1100 || latency.P99Ms < 1800 {
			t.Errorf("latency %+v, want 1,000 values, p50 1 ms, p90 1 s, p99 1.9 s", latency)
		}
		if corrected != latency {
			t.Errorf("an open loop needs no correction, got %+v", corrected)
		}
	})
}

// TestFailedMeasurementsAreNotCounted: neither in the rate nor in the latencies.
func TestFailedMeasurementsAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Clients: 1, Duration: time.Second, Drain: time.Second}
		n := 0
		l := drive(t, o, func(ctx context.Context, _ int) error {
			n++
			if err := wait(ctx, 10*time.Millisecond); err != nil || n%2 == 0 {
				return errors.Join(err, errRefused)
			}
			return nil
		})
		if got := l.counted.Load(); got < 49 || got > 51 {
			t.Errorf("%d are counted of %d, want half", got, n)
		}
	})
}

// TestDrainEnds: a measurement that is never answered does not hold up the run,
// and is not counted.
func TestDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Clients: 2, Duration: time.Second, Drain: 3 * time.Second}
		start := time.Now()
		l := drive(t, o, func(ctx context.Context, client int) error {
			if client == 1 {
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return wait(ctx, 100*time.Millisecond)
		})
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("the run took %s, want window and drain, 4 s", took)
		}
		if got := l.counted.Load(); got < 9 || got > 10 {
			t.Errorf("%d are counted, want those of the client that was answered", got)
		}
	})
}

// TestInterruptedRunSaysSo: no figures of a window that did not end.
func TestInterruptedRunSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("a node ended")
		time.AfterFunc(500*time.Millisecond, func() { cancel(cause) })
		o := Options{Clients: 2, Duration: 5 * time.Second, Drain: time.Second}
		l := &load{run: &run{Options: o, tally: new(tally)}, latencies: newLatencies(), recent: newLatencies(),
			measure: func(ctx context.Context, _ int) error { return wait(ctx, 10*time.Millisecond) }}
		l.run.Progress = testWriter{t}
		ended := false
		err := l.drive(ctx, o, func() error { return nil }, func() error { ended = true; return nil })
		if !errors.Is(err, cause) || ended {
			t.Errorf("drive gave %v, want %v; the window's end was read: %v", err, cause, ended)
		}
	})
}

// TestOpenLoopSendsAllThatWasDue: a generator that falls behind sends late what
// was due in the window, and the latencies say how late; what it never sent is
// unsent. Nothing that was due goes unmentioned.
func TestOpenLoopSendsAllThatWasDue(t *testing.T) {
	for _, c := range []struct {
		name         string
		behind       time.Duration // of the generator when it begins
		sent, unsent int64
	}{
		{"in time", 0, 500, 0},
		{"late by all of the window", 5 * time.Second, 500, 0},
		{"late by window and drain", 9 * time.Second, 0, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := Options{Clients: 10, Rate: 100, Duration: 5 * time.Second, Drain: 3 * time.Second}
				l := &load{run: &run{Options: o, tally: new(tally)}, latencies: newLatencies(), recent: newLatencies(),
					measure: func(ctx context.Context, _ int) error { return wait(ctx, time.Millisecond) }}
				from := time.Now()
				l.window = window{from: from, until: from.Add(o.Duration)}
				drain, cancel := context.WithDeadline(t.Context(), l.window.until.Add(o.Drain))
				defer cancel()
				if err := pause(t.Context(), c.behind); err != nil {
					t.Fatal(err)
				}
				l.openLoop(drain, o.Clients, o.Rate, from)
				_, latency, _ := l.results(o)
				if unsent := l.run.tally.unsent.Load(); latency.Count != c.sent || unsent != c.unsent {
					t.Errorf("%d sent and %d unsent, want %d and %d", latency.Count, unsent, c.sent, c.unsent)
				}
				if c.sent > 0 && latency.MaxMs < float64(c.behind.Milliseconds()) {
					t.Errorf("latency is at most %.0f ms, the first was sent %s late", latency.MaxMs, c.behind)
				}
			})
		})
	}
}

// TestRunWithoutAMeasurementFails: "lost nothing" of nothing is no result.
func TestRunWithoutAMeasurementFails(t *testing.T) {
	if !(&Report{}).Failed() || (&Report{Verified: 1}).Failed() || !(&Report{Verified: 1, Losses: Losses{Gaps: 1}}).Failed() {
		t.Error("a run fails when it verified nothing or lost something, and only then")
	}
}

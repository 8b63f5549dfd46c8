package bench

import (
	"testing"
	"time"
)

// TestCorrectedAddsWhatAStallHid: a client that sends every 10 ms and stalls
// once for 100 ms would have sent nine more measurements meanwhile, which would
// have waited 90, 80, ... 10 ms.
func TestCorrectedAddsWhatAStallHid(t *testing.T) {
	l := newLatencies()
	for range 90 {
		l.record(time.Millisecond)
	}
	l.record(100 * time.Millisecond)
	h := l.take()
	if p := percentiles(h); p.Count != 91 || p.P90Ms > 2 {
		t.Fatalf("uncorrected: %+v", p)
	}
	p := percentiles(corrected(h, 10*time.Millisecond))
	if p.Count != 100 {
		t.Errorf("corrected histogram has %d values, want 91 and the 9 omitted", p.Count)
	}
	if p.P90Ms > 2 || p.P99Ms < 89 || p.P99Ms > 91 || p.MaxMs < 100 {
		t.Errorf("corrected: p90 %.1f, p99 %.1f, max %.1f ms, want 1, 90 and 100", p.P90Ms, p.P99Ms, p.MaxMs)
	}
	if again := percentiles(corrected(h, time.Second)); again != percentiles(h) {
		t.Errorf("with an interval longer than any stall: %+v, want no change from %+v", again, percentiles(h))
	}
	if left := l.take().TotalCount(); left != 0 {
		t.Errorf("%d values are left after take", left)
	}
}

func TestLatenciesOutOfRangeAreClamped(t *testing.T) {
	l := newLatencies()
	l.record(-time.Second) // a clock that was set
	l.record(time.Hour)
	if p := percentiles(l.take()); p.Count != 2 || p.MaxMs < 599_000 || p.MaxMs > 601_000 {
		t.Errorf("%+v, want two values, the largest 10 minutes", p)
	}
	if p := percentiles(newLatencies().take()); p != (Percentiles{}) {
		t.Errorf("of nothing: %+v", p)
	}
}

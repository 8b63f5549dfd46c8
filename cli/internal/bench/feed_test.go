package bench

import (
	"strings"
	"testing"
	"time"
)

// TestIntervalIsBetweenTwoReadings: what a tenth of a feed cost, and where memory
// stood at its end.
func TestIntervalIsBetweenTwoReadings(t *testing.T) {
	start := time.Now()
	from := reading{at: start, fed: 100, usage: usage{user: time.Second, system: time.Second, writtenBytes: 1000}}
	to := reading{at: start.Add(2 * time.Second), fed: 300, usage: usage{user: 1500 * time.Millisecond, system: 1500 * time.Millisecond,
		writtenBytes: 5000, residentBytes: 7, anonymousBytes: 6}}
	want := Interval{Until: 300, RatePerSecond: 100, CPUMicros: 5000, WrittenBytes: 20, ResidentBytes: 7, AnonymousBytes: 6}
	if got := newInterval(from, to); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestFeedAndAuditOptions(t *testing.T) {
	if err := FeedDefaults().Check(); err != nil {
		t.Error(err)
	}
	if err := AuditDefaults().Check(); err != nil {
		t.Error(err)
	}
	o := FeedDefaults()
	o.Measurements, o.Batch, o.InFlight = 9, 1025, 0
	for _, part := range []string{"9 measurements", "1025 measurements, want 1 to 1024", "0 submissions in flight"} {
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v lacks %q", err, part)
		}
	}
	a := AuditOptions{CrossCheck: "sometimes", Sample: 1001}
	for _, part := range []string{`"sometimes"`, "1001 per mille"} {
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v lacks %q", err, part)
		}
	}
	if !(&AuditReport{Verdict: "verified"}).Failed() || !(&AuditReport{Verdict: "refuted", Measurements: 1}).Failed() || (&AuditReport{Verdict: "verified", Measurements: 1}).Failed() {
		t.Error("an audit fails when the ledger does not hold or holds no measurement, and only then")
	}
}

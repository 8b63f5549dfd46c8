package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// FeedReport is what one replica did with many measurements.
type FeedReport struct {
	RatePerSecond float64     `json:"rate_per_second"`
	CPUMicros     float64     `json:"cpu_us_per_measurement"` // of the replica
	Intervals     []Interval  `json:"intervals"`
	RateRatio     float64     `json:"rate_last_to_first"` // of the last interval to the second: the first warms up
	CPURatio      float64     `json:"cpu_last_to_first"`
	KeptSegments  float64     `json:"kept_segments"` // bytes for each measurement, on the disk
	KeptIndex     float64     `json:"kept_index"`
	Restarts      []Restart   `json:"restarts"`
	Machine       Machine     `json:"machine"`
	Configuration FeedOptions `json:"configuration"`
}

// Interval is a part of a feed.
type Interval struct {
	Until          int64   `json:"until"` // measurements fed by its end
	RatePerSecond  float64 `json:"rate_per_second"`
	CPUMicros      float64 `json:"cpu_us_per_measurement"` // of the replica
	WrittenBytes   float64 `json:"written_bytes_per_measurement"`
	ResidentBytes  uint64  `json:"resident_bytes"`  // at its end, with pages of files that it has mapped
	AnonymousBytes uint64  `json:"anonymous_bytes"` // at its end, without them
}

// Restart is one start of the replica with what it was fed.
type Restart struct {
	After          string  `json:"after"` // how it had ended
	ServingSeconds float64 `json:"serving_seconds"`
	AnonymousBytes uint64  `json:"anonymous_bytes"` // when it served
}

func newInterval(from, to reading) Interval {
	n := float64(max(to.fed-from.fed, 1))
	return Interval{
		Until: to.fed, RatePerSecond: n / to.at.Sub(from.at).Seconds(),
		CPUMicros:     float64((to.usage.cpu() - from.usage.cpu()).Microseconds()) / n,
		WrittenBytes:  float64(to.usage.writtenBytes-from.usage.writtenBytes) / n,
		ResidentBytes: to.usage.residentBytes, AnonymousBytes: to.usage.anonymousBytes,
	}
}

// report adds up the readings.
func (f *feed) report() (*FeedReport, error) {
	r := &FeedReport{Machine: f.run.machine, Configuration: f.options}
	for i := 1; i < len(f.reading); i++ {
		r.Intervals = append(r.Intervals, newInterval(f.reading[i-1], f.reading[i]))
	}
	whole := newInterval(f.reading[0], f.reading[len(f.reading)-1])
	r.RatePerSecond, r.CPUMicros = whole.RatePerSecond, whole.CPUMicros
	if n := len(r.Intervals); n > 2 {
		first, last := r.Intervals[1], r.Intervals[n-1]
		r.RateRatio, r.CPURatio = last.RatePerSecond/first.RatePerSecond, last.CPUMicros/max(first.CPUMicros, 0.001)
	}
	kept, err := measureSpace(f.run.network)
	if err != nil {
		return nil, err
	}
	r.KeptSegments, r.KeptIndex = float64(kept.segments)/float64(whole.Until), float64(kept.index)/float64(whole.Until)
	r.Machine.LoadAfter, err = loadAverage()
	return r, err
}

// restarts times how long the replica takes to serve again, after it was told to
// stop and after it was killed. Its files are still in the page cache.
func (f *feed) restarts(ctx context.Context) ([]Restart, error) {
	var list []Restart
	for _, way := range []struct {
		after string
		end   func() error
	}{
		{"SIGTERM", func() error { return f.run.fleet.end(recordv1.Role_ROLE_REPLICA) }},
		{"SIGKILL", func() error { return f.run.fleet.killed(f.replica.ID) }},
	} {
		if err := way.end(); err != nil {
			return list, err
		}
		began := time.Now()
		if err := f.run.fleet.start(f.replica); err != nil {
			return list, err
		}
		starting, cancel := context.WithTimeout(ctx, startTimeout)
		err := f.run.network.WaitReady(starting, f.replica.ID)
		cancel()
		if err != nil {
			return list, err
		}
		took := time.Since(began)
		live := f.run.fleet.live()
		used, err := readUsage(live[len(live)-1].pid())
		if err != nil {
			return list, err
		}
		f.run.say("serves %.2f s after its start, behind a %s", took.Seconds(), way.after)
		list = append(list, Restart{After: way.after, ServingSeconds: took.Seconds(), AnonymousBytes: used.anonymousBytes})
	}
	return list, nil
}

// Text is the report for people.
func (r *FeedReport) Text() string {
	var b strings.Builder
	c := r.Configuration
	fmt.Fprintf(&b, "one replica fed %d measurements of %d %s meters, %d x %d samples (%s), submissions of %d, %d in flight\n",
		c.Measurements, c.Clients, c.Meters, c.Channels, c.Samples, c.Encoding, c.Batch, c.InFlight)
	fmt.Fprintf(&b, "%s\n\n", r.Machine.text())
	fmt.Fprintf(&b, "%10s %10s %12s %16s %14s %14s\n", "fed", "rate/s", "CPU us each", "written B each", "resident MiB", "of it heap")
	for _, i := range r.Intervals {
		fmt.Fprintf(&b, "%10d %10.0f %12.1f %16.0f %14.1f %14.1f\n", i.Until, i.RatePerSecond, i.CPUMicros, i.WrittenBytes,
			float64(i.ResidentBytes)/(1<<20), float64(i.AnonymousBytes)/(1<<20))
	}
	fmt.Fprintf(&b, "%10s %10.0f %12.1f\n\n", "all", r.RatePerSecond, r.CPUMicros)
	fmt.Fprintf(&b, "last tenth  %.2f of the second's rate, %.2f of its CPU; the generator signs on the same cores\n", r.RateRatio, r.CPURatio)
	fmt.Fprintf(&b, "kept        %.0f B in segments and %.0f B in the index for each measurement\n", r.KeptSegments, r.KeptIndex)
	for _, s := range r.Restarts {
		fmt.Fprintf(&b, "restart     serves after %.2f s, behind a %s, with %d MiB of heap; its files in the page cache\n", s.ServingSeconds, s.After, s.AnonymousBytes>>20)
	}
	for _, w := range r.Machine.warnings() {
		fmt.Fprintf(&b, "warning     %s\n", w)
	}
	return b.String()
}

package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A histogram spans 1 us to 10 minutes with three significant digits: about
// 200 KB, an error of at most 0.1 %.
const (
	lowestMicros, highestMicros = 1, int64(10 * time.Minute / time.Microsecond)
	digits                      = 3
)

// latencies gathers durations. It is safe for concurrent use.
type latencies struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram // microseconds; guarded by mu
}

func newLatencies() *latencies {
	return &latencies{hist: hdrhistogram.New(lowestMicros, highestMicros, digits)}
}

func (l *latencies) record(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.hist.RecordValue(clampMicros(d)) // a clamped value is in range
}

func clampMicros(d time.Duration) int64 {
	return min(max(d.Microseconds(), lowestMicros), highestMicros)
}

// take gives the histogram of what came since the last take: for progress.
func (l *latencies) take() *hdrhistogram.Histogram {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hist
	l.hist = hdrhistogram.New(lowestMicros, highestMicros, digits)
	return h
}

// Percentiles are latencies in milliseconds.
type Percentiles struct {
	Count  int64   `json:"count"`
	MeanMs float64 `json:"mean_ms"`
	P50Ms  float64 `json:"p50_ms"`
	P90Ms  float64 `json:"p90_ms"`
	P99Ms  float64 `json:"p99_ms"`
	P999Ms float64 `json:"p99_9_ms"`
	MaxMs  float64 `json:"max_ms"`
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	if h.TotalCount() == 0 {
		return Percentiles{}
	}
	return Percentiles{
		Count: h.TotalCount(), MeanMs: h.Mean() / 1000,
		P50Ms: ms(h.ValueAtQuantile(50)), P90Ms: ms(h.ValueAtQuantile(90)), P99Ms: ms(h.ValueAtQuantile(99)),
		P999Ms: ms(h.ValueAtQuantile(99.9)), MaxMs: ms(h.Max()),
	}
}

// corrected adds, for each duration longer than the interval at which a client
// ordinarily sends, the measurements that it would have sent meanwhile and that
// would have waited too: what a closed loop omits by waiting (coordinated
// omission).
func corrected(h *hdrhistogram.Histogram, interval time.Duration) *hdrhistogram.Histogram {
	out := hdrhistogram.New(lowestMicros, highestMicros, digits)
	every := max(interval.Microseconds(), 1)
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		_ = out.RecordValues(bar.To, bar.Count) // in range: it comes from a histogram of the same one
		for missed := bar.To - every; missed >= every; missed -= every {
			_ = out.RecordValues(missed, bar.Count)
		}
	}
	return out
}

package endorse

import (
	"context"
	"sync/atomic"
	"testing"
)

func TestEachRunsEveryJobOnce(t *testing.T) {
	jobs := make([]job, 1000)
	var runs atomic.Int64
	each(t.Context(), jobs, func(j *job) {
		runs.Add(1)
		j.raw = append(j.raw, 1)
	})
	for i := range jobs {
		if len(jobs[i].raw) != 1 {
			t.Errorf("job %d ran %d times", i, len(jobs[i].raw))
		}
	}
	if runs.Load() != 1000 {
		t.Errorf("%d runs", runs.Load())
	}
}

// Once the caller has gone, no further sample is computed.
func TestEachStopsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	jobs := make([]job, 1000)
	var runs atomic.Int64
	each(ctx, jobs, func(*job) {
		runs.Add(1)
		cancel()
	})
	if got := runs.Load(); got == 0 || got > 500 {
		t.Errorf("%d of 1000 jobs ran after the caller had gone", got)
	}
}

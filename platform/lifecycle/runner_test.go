package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lacre-metrology/lacre/platform/lifecycle"
)

// journal notes events in the order in which they happened.
type journal struct {
	mu     sync.Mutex
	events []string // guarded by mu
}

func (j *journal) note(event string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, event)
}

// untilStopped is a part that takes some time to stop.
func (j *journal) untilStopped(name string, tidying time.Duration) lifecycle.PartFunc {
	return func(ctx context.Context) error {
		<-ctx.Done()
		<-time.After(tidying) // virtual: these tests run in a synctest bubble
		j.note(name)
		return ctx.Err()
	}
}

func TestPartsStopInReverseOrderOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var runner lifecycle.Runner
		runner.Add("storage", j.untilStopped("storage", 0))
		runner.Add("transport", j.untilStopped("transport", time.Second))
		runner.Add("intake", j.untilStopped("intake", 2*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if err := runner.Run(ctx); err != nil {
			t.Fatalf("orderly stop: %v", err)
		}
		if want := []string{"intake", "transport", "storage"}; !slices.Equal(j.events, want) {
			t.Fatalf("stopped in order %v, want %v", j.events, want)
		}
	})
}

func TestFirstFailureStopsAllAndIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, late := errors.New("disk gone"), errors.New("flush failed")
		var j journal
		var runner lifecycle.Runner
		runner.Add("storage", j.untilStopped("storage", 0))
		runner.AddFunc("disk", func(context.Context) error {
			<-time.After(time.Second)
			return broken
		})
		runner.AddFunc("writer", func(ctx context.Context) error { <-ctx.Done(); return late })
		err := runner.Run(t.Context())
		if !errors.Is(err, broken) || !errors.Is(err, late) {
			t.Fatalf("got %v, want both failures", err)
		}
		if !strings.HasPrefix(err.Error(), "disk: disk gone") || strings.Count(err.Error(), "disk gone") != 1 {
			t.Fatalf("got %q, want the first failure first, with its part's name, once", err)
		}
		if !slices.Equal(j.events, []string{"storage"}) {
			t.Fatalf("stopped %v, want the storage", j.events)
		}
	})
}

func TestPartThatFinishesStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var runner lifecycle.Runner
		runner.AddFunc("migration", func(context.Context) error { return nil })
		runner.AddFunc("worker", func(context.Context) error {
			<-time.After(time.Hour)
			j.note("worked")
			return nil
		})
		if err := runner.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(j.events, []string{"worked"}) {
			t.Fatalf("events %v, want the worker's", j.events)
		}
	})
}

func TestGraceBoundsTheShutdownAndNamesTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		runner := lifecycle.Runner{Grace: 5 * time.Second}
		runner.AddFunc("stuck", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := runner.Run(ctx)
		if err == nil || !strings.Contains(err.Error(), "stuck") {
			t.Fatalf("got %v, want an error that names the stuck part", err)
		}
		if waited := time.Since(start); waited != 5*time.Second {
			t.Fatalf("waited %s of virtual time, want the grace time of 5s", waited)
		}
		close(release)
	})
}

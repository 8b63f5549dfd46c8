// Package lifecycle starts the parts of a process together and stops them in order.
//
// Invariants:
//   - Run returns only when every part has returned, or when the grace time is over and the error names those that have
//     not;
//   - parts are cancelled in the reverse order of Add, each after all parts added later have returned: what was added
//     first (storage) outlives what was built on it (the intake);
//   - the first failure stops everything and is the error that Run reports first.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// DefaultGrace bounds the whole shutdown when Runner.Grace is zero.
const DefaultGrace = 30 * time.Second

// Part is something that runs until it fails, has finished, or its context is cancelled. After cancellation it tidies
// up and returns nil or the context's error; any other error counts as a failure to stop cleanly.
type Part interface {
	Run(ctx context.Context) error
}

// PartFunc makes a Part of a function.
type PartFunc func(ctx context.Context) error

// Run calls the function.
func (f PartFunc) Run(ctx context.Context) error { return f(ctx) }

// Runner runs parts. Its zero value is usable; it runs once.
type Runner struct {
	Grace  time.Duration // bound on the shutdown as a whole; zero means DefaultGrace
	Logger *slog.Logger  // nil means slog.Default()

	parts []*running // owned by the goroutine that calls Add and then Run
}

type running struct {
	name   string
	part   Part
	cancel context.CancelFunc
	done   chan struct{} // closed when the part has returned
	err    error         // valid after done
}

// Add appends a part: started after those before it, stopped before them. The name appears in errors and logs.
func (r *Runner) Add(name string, part Part) {
	r.parts = append(r.parts, &running{name: name, part: part, done: make(chan struct{})})
}

// AddFunc is Add for a function.
func (r *Runner) AddFunc(name string, run func(ctx context.Context) error) {
	r.Add(name, PartFunc(run))
}

// Run starts all parts and blocks until all have returned. It returns nil when ctx was cancelled, or all parts
// finished, and every part returned nil or its context's error; otherwise the first failure, joined with those that
// happened while stopping. A part that returns nil early has finished its work and stops nothing.
func (r *Runner) Run(ctx context.Context) error {
	// Parts do not see ctx's cancellation: they would all stop at once. Each is cancelled in its turn instead.
	detached := context.WithoutCancel(ctx)
	ended := make(chan *running, len(r.parts))
	for _, p := range r.parts {
		var partContext context.Context
		partContext, p.cancel = context.WithCancel(detached)
		go func() {
			defer p.cancel()
			err := p.part.Run(partContext)
			cancelled := partContext.Err() != nil && errors.Is(err, context.Canceled)
			if err != nil && !cancelled {
				p.err = fmt.Errorf("%s: %w", p.name, err)
			}
			close(p.done)
			ended <- p
		}()
	}
	first := awaitFailureOrEnd(ctx, ended, len(r.parts))
	if first != nil {
		r.logger().ErrorContext(ctx, "part failed, stopping", "error", first)
	}
	return r.stop(ctx, first)
}

func awaitFailureOrEnd(ctx context.Context, ended <-chan *running, count int) error {
	for range count {
		select {
		case p := <-ended:
			if p.err != nil {
				return p.err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// stop cancels the parts in reverse order and collects their errors, first among them.
func (r *Runner) stop(ctx context.Context, first error) error {
	grace := r.Grace
	if grace <= 0 {
		grace = DefaultGrace
	}
	expired := time.NewTimer(grace)
	defer expired.Stop()

	failures := []error{first}
	for i := len(r.parts) - 1; i >= 0; i-- {
		p := r.parts[i]
		p.cancel()
		select {
		case <-p.done:
			if p.err != nil && p.err != first { //nolint:errorlint // identity is meant: the same failure is not reported twice.
				failures = append(failures, p.err)
			}
			r.logger().DebugContext(ctx, "part stopped", "part", p.name)
		case <-expired.C:
			return errors.Join(append(failures, r.abandon(grace))...)
		}
	}
	return errors.Join(failures...)
}

// abandon cancels whatever still runs and names it. The process is expected to exit.
func (r *Runner) abandon(grace time.Duration) error {
	var names []string
	for _, p := range r.parts {
		p.cancel()
		select {
		case <-p.done:
		default:
			names = append(names, p.name)
		}
	}
	return fmt.Errorf("not stopped within %s: %s", grace, strings.Join(names, ", "))
}

func (r *Runner) logger() *slog.Logger {
	if r.Logger == nil {
		return slog.Default()
	}
	return r.Logger
}

// Package demo is the whole path on one machine: a network of nine nodes is
// founded, a notified body approves the built-in module and registers ten
// meters, simulated vehicles of known speed pass, and everything is checked.
//
// It uses the same services, configuration files and SDK as a real network; the
// numbers of meters and passes are all that is small.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/trust"
)

// Options are the demonstration's settings; the zero value of each number takes
// the default.
type Options struct {
	Dir      string // kept; a new directory below the system's temporary one by default
	Meters   int    // 10
	Passes   int    // 1000 in all
	Seed     uint64 // of the simulated traffic; printed
	Out      io.Writer
	Progress func(done, total int) // called as measurements are certified; may be nil
	Log      *slog.Logger          // of the nodes; discarded by default
	Tracer   trace.Tracer          // of the meters; may be nil
}

// ErrFailed says that something did not hold; the output says what.
var ErrFailed = errors.New("the demonstration failed")

// demo is one run.
type demo struct {
	Options
	network *devnet.Network
	trust   *trust.Bundle
	meters  []*sensor
	failed  []string // what did not hold
}

// Run runs the demonstration and returns nil only if all of it held.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o.withDefaults()}
	if d.Dir == "" {
		if d.Dir, err = os.MkdirTemp("", "lacre-demo-"); err != nil {
			return err
		}
	}
	started := time.Now()
	if d.network, _, err = devnet.LoadOrCreate(d.Dir, started); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- d.network.Run(ctx, d.Log) }()
	defer func() {
		stop()
		if e := <-stopped; e != nil && err == nil {
			err = fmt.Errorf("stopping the network: %w", e)
		}
	}()
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := d.network.WaitReady(starting); err != nil {
		select {
		case e := <-stopped:
			stopped <- nil
			return errors.Join(err, e)
		default:
			return err
		}
	}
	d.say("network    %s: %d nodes of %d organisations ready after %s", d.network.Name, len(d.network.Nodes), 4, since(started))
	for _, step := range []func(context.Context) error{d.approve, d.register, d.drive, d.showReceipt, d.attack, d.audit} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.say("\nreceipts   %s", d.receiptsPattern())
	d.say("trust      %s\n           digest %s", d.network.TrustPath(), d.trust.Digest())
	if len(d.failed) > 0 {
		for _, f := range d.failed {
			d.say("FAILED     %s", f)
		}
		return fmt.Errorf("%w: %d points did not hold", ErrFailed, len(d.failed))
	}
	d.say("\nall of it held, in %s", since(started))
	return nil
}

func (o Options) withDefaults() Options {
	if o.Meters == 0 {
		o.Meters = 10
	}
	if o.Passes == 0 {
		o.Passes = 1000
	}
	if o.Seed == 0 {
		o.Seed = 20261122
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.Out, format+"\n", args...) //nolint:errcheck // a broken pipe shows at the next write.
}

// hold notes that something must be true.
func (d *demo) hold(ok bool, format string, args ...any) {
	if !ok {
		d.failed = append(d.failed, fmt.Sprintf(format, args...))
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }

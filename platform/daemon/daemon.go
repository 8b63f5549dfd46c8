// Package daemon is what the programs of all services share: one flag, one
// configuration file, signals, and exit codes.
package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/config"
)

// The exit codes of all services.
const (
	ExitOK       = 0
	ExitFailed   = 1 // it could not start or go on; a restart may help
	ExitUsage    = 2 // the command line or the configuration is wrong
	ExitDataLoss = 4 // stored bytes are not what they were: do not restart blindly
	ExitOldBuild = 5 // the network or the directory needs a newer build of this program
	ExitRetired  = 6 // the network goes on without this node: do not restart
)

// Retired is an error that says that the network goes on without this node, for
// ever: a service that ends with it is not to be started again.
func Retired(why string) error { return &retiredError{why} }

type retiredError struct{ why string }

func (e *retiredError) Error() string { return e.why }

// Main reads the configuration of type C from the file that -config names, runs
// the service until SIGINT or SIGTERM, and returns the exit code. run returns
// nil when it was stopped. Logs go to stderr as JSON.
func Main[C any](name string, args []string, stderr io.Writer, run func(ctx context.Context, c C, log *slog.Logger) error) int {
	return MainReloading(name, args, stderr, func(ctx context.Context, c C, _ func(func(C) error), log *slog.Logger) error {
		return run(ctx, c, log)
	})
}

// MainReloading is Main for a service that takes part of its configuration anew
// while it runs: after reload was called, every SIGHUP reads the file again and
// gives it to apply. A file that is wrong, or that apply refuses, is logged and
// changes nothing; so is a SIGHUP to a service that takes nothing anew.
func MainReloading[C any](name string, args []string, stderr io.Writer, run func(ctx context.Context, c C, reload func(apply func(C) error), log *slog.Logger) error) int {
	collectRarely()
	scheduleInBatches()
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "", "configuration file (YAML)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return ExitOK
	case err != nil:
		return ExitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%s takes no arguments, got %q\n", name, flags.Args()) //nolint:errcheck // there is nowhere else to say it.
		return ExitUsage
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil)).With("service", name)
	var c C
	if err := config.Load(*path, &c); err != nil {
		fmt.Fprintln(stderr, err) //nolint:errcheck // there is nowhere else to say it.
		return ExitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // unhandled, it would end the process
	defer signal.Stop(hangups)
	var applied atomic.Pointer[func(C) error]
	go reloading(ctx, hangups, *path, &applied, log)
	err := run(ctx, c, func(apply func(C) error) { applied.Store(&apply) }, log)
	switch {
	case err == nil:
		return ExitOK
	case reason.Of(err) == reason.DataLoss:
		log.Error("stored data is damaged; keep the directory and see the runbook", "error", err)
		return ExitDataLoss
	case reason.Of(err) == reason.UnsupportedVersion:
		log.Error("this program is too old; nothing is lost, a newer build goes on from here", "error", err)
		return ExitOldBuild
	case errors.As(err, new(*retiredError)):
		log.Info("this node has ended its service", "reason", err)
		return ExitRetired
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ExitOK // stopped while it was starting
	default:
		log.Error("stopped", "error", err)
		return ExitFailed
	}
}

// gcPercent lets the heap grow to five times what lives before it is collected.
// What lives in a service is tens of megabytes and what a batch leaves behind is
// as much again, so Go's 100 collects many times a second: a sixth of the CPU. It
// is memory that pays: docs/performance.md.
const gcPercent = 400

// collectRarely sets it, unless GOGC is set in the environment. GOMEMLIMIT bounds
// the process as it does every Go program.
func collectRarely() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

func reloading[C any](ctx context.Context, hangups <-chan os.Signal, path string, applied *atomic.Pointer[func(C) error], log *slog.Logger) {
	for {
		select {
		case <-hangups:
		case <-ctx.Done():
			return
		}
		apply := applied.Load()
		if apply == nil {
			log.Warn("SIGHUP: this service takes no configuration anew; restart it")
			continue
		}
		var c C
		err := config.Load(path, &c)
		if err == nil {
			err = (*apply)(c)
		}
		if err != nil {
			log.Error("SIGHUP: the configuration is refused, the old one stays", "file", path, "error", err)
			continue
		}
		log.Info("SIGHUP: the configuration was read again", "file", path)
	}
}

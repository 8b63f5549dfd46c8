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
)

// Main reads the configuration of type C from the file that -config names, runs
// the service until SIGINT or SIGTERM, and returns the exit code. run returns
// nil when it was stopped. Logs go to stderr as JSON.
func Main[C any](name string, args []string, stderr io.Writer, run func(ctx context.Context, c C, log *slog.Logger) error) int {
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
	err := run(ctx, c, log)
	switch {
	case err == nil:
		return ExitOK
	case reason.Of(err) == reason.DataLoss:
		log.Error("stored data is damaged; keep the directory and see the runbook", "error", err)
		return ExitDataLoss
	case reason.Of(err) == reason.UnsupportedVersion:
		log.Error("this program is too old; nothing is lost, a newer build goes on from here", "error", err)
		return ExitOldBuild
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ExitOK // stopped while it was starting
	default:
		log.Error("stopped", "error", err)
		return ExitFailed
	}
}

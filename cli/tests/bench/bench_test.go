// Package bench runs `lacre bench` as its users do: every node a process of its
// own, started from the programs on the PATH.
//
// Source: issue "Prove the spine", point 7; github.com/rogpeppe/go-internal/testscript.
//
// Beside testscript's own commands the scripts have:
//
//	sound FILE [KEY=VALUE...]   want a report with measurements and without any
//	                            loss, and these values in it (* is any, and of a
//	                            list its length counts)
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	benchmark "github.com/lacre-metrology/lacre/cli/internal/bench"
	"github.com/lacre-metrology/lacre/cli/internal/command"
	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lacre": func() { exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"lacre-ledger": service("ledger", func(_ context.Context, c ledger.Config, log *slog.Logger) (runner, error) {
			return ledger.New(c, log)
		}),
		"lacre-compute": service("compute", func(ctx context.Context, c compute.Config, log *slog.Logger) (runner, error) {
			return compute.New(ctx, c, log)
		}),
		"lacre-ingest": service("ingest", func(_ context.Context, c ingest.Config, log *slog.Logger) (runner, error) {
			return ingest.New(c, log)
		}),
		"lacre-approval": service("approval", func(_ context.Context, c approval.Config, log *slog.Logger) (runner, error) {
			return approval.New(c, log)
		}),
	})
}

func exit(code int) {
	os.Exit(code) //nolint:forbidigo // this is the main of the process that a script starts.
}

type runner interface {
	Run(ctx context.Context) error
}

// service is the main of a service's program.
func service[C any](name string, open func(context.Context, C, *slog.Logger) (runner, error)) func() {
	return func() {
		exit(daemon.Main(name, os.Args[1:], os.Stderr, func(ctx context.Context, c C, log *slog.Logger) error {
			s, err := open(ctx, c, log)
			if err != nil {
				return err
			}
			return s.Run(ctx)
		}))
	}
}

func TestBench(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"sound": sound},
	})
}

func sound(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: sound FILE [KEY=VALUE...]")
	}
	text := ts.ReadFile(args[0])
	var report benchmark.Report
	ts.Check(json.Unmarshal([]byte(text), &report))
	// A slow machine may answer after the window, so that its rate is 0: only what
	// does not depend on speed is wanted.
	seconds := report.Configuration.Duration.Seconds()
	if report.Verified == 0 || report.Verified < report.Measurements || report.Latency.Count == 0 ||
		math.Abs(report.RatePerSecond*seconds-float64(report.Measurements)) > 0.5 {
		ts.Fatalf("%d verified, rate %g/s and %d measurements in %g s, %d latencies", report.Verified, report.RatePerSecond, report.Measurements, seconds, report.Latency.Count)
	}
	if report.Losses.Any() || report.Lost != 0 || report.OnLedger != report.Verified || report.Begun != report.Verified {
		ts.Fatalf("%d begun, %d verified, %d on the ledger: %+v\n%s", report.Begun, report.Verified, report.OnLedger, report.Losses, strings.Join(report.Examples, "\n"))
	}
	if report.EndorsementSets == 0 || report.CPUMicros <= 0 || report.Bytes.KeptSegments <= 0 || report.Bytes.Receipt <= 0 || len(report.Processes) < 5 {
		ts.Fatalf("an empty figure: %s", text)
	}
	var values map[string]any
	ts.Check(json.Unmarshal([]byte(text), &values))
	for _, want := range args[1:] {
		key, value, _ := strings.Cut(want, "=")
		got, has := values[key]
		if value == "*" && has && got != "" {
			continue
		}
		if list, is := got.([]any); is {
			got = len(list)
		}
		if fmt.Sprint(got) != value {
			ts.Fatalf("%s is %v, want %s", key, got, value)
		}
	}
}

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/sandbox"
)

// moduleTest is the command line of `module test`.
type moduleTest struct {
	full    bool
	twin    bool
	passes  int
	seed    uint64
	out     string
	context context.Context
}

// testReport is what `module test` finds: the test report of an approval.
type testReport struct {
	Module   string               `json:"module_sha256"`
	Engine   string               `json:"engine"` // sandbox or twin
	Held     bool                 `json:"held"`
	Criteria []criterion          `json:"criteria"`
	Accuracy campaign.Report      `json:"accuracy"`
	Faults   campaign.FaultReport `json:"faults"`
	Note     string               `json:"note"`
}

// criterion is one thing that must hold.
type criterion struct {
	Name  string `json:"name"`
	Held  bool   `json:"held"`
	Found string `json:"found"`
}

const testNote = "validated on simulated loops; no conformity with any legal requirement is claimed"

func newModuleTest(a *app) *cobra.Command {
	var m moduleTest
	c := a.reading(&cobra.Command{
		Use:   "test [FILE]",
		Short: "Run a speed module's type test on simulated passes of known truth",
		Long: `Drives simulated vehicles past a module (the built-in one by default) in the
sandbox, every call on both engines, and compares with the truth: passes at 29
speeds from 10 to 150 km/h, and faulty passes of every kind and severity. Small by
default; --full is the whole type test. With --twin the Go twin measures instead.

Exit code: 0 all criteria hold, 1 not.`,
		Example: `  lacre module test
  lacre module test --full --out report.json
  lacre module test speed.wasm --passes 10 --json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly(1)(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			m.context = c.Context()
			file := builtIn
			if len(args) == 1 {
				file = args[0]
			}
			module, err := readModule(file)
			if err != nil {
				return err
			}
			return a.runModuleTest(&m, module)
		},
	})
	f := c.Flags()
	f.BoolVar(&m.full, "full", false, "the whole type test: 100 passes at each speed and rate, four at each fault, severity and speed")
	f.BoolVar(&m.twin, "twin", false, "let the Go twin of the built-in module measure, without a sandbox")
	f.IntVar(&m.passes, "passes", 2, "passes at each speed and rate, unless --full")
	f.Uint64Var(&m.seed, "seed", campaign.TestSeed, "seed of the passes")
	f.StringVar(&m.out, "out", "", "file for the report in JSON")
	return c
}

func (a *app) runModuleTest(m *moduleTest, module []byte) (err error) {
	accuracy, faults := campaign.Default(), campaign.DefaultFaults()
	accuracy.Seed, faults.Seed = m.seed, m.seed
	if !m.full {
		if m.passes < 1 {
			return usage("--passes is %d, want at least 1", m.passes)
		}
		accuracy.Passes, faults.Passes = m.passes, 1
		faults.SpeedsKmh, faults.Severities = []float64{20, 80, 120}, []float64{0, 0.25, 0.5, 0.75, 1}
	}
	report := testReport{Module: digest.Plain(module).String(), Engine: "sandbox", Note: testNote}
	bench := &bench{context: m.context, total: len(accuracy.SpeedsKmh)*len(accuracy.RatesHz)*accuracy.Passes +
		len(faults.Faults)*len(faults.Severities)*len(faults.SpeedsKmh)*faults.Passes, bar: progress.New(a.err, "passes")}
	defer bench.bar.Stop()
	if m.twin {
		report.Engine = "twin"
		if !bytes.Equal(module, speed.Module()) {
			return usage("--twin is the built-in module's twin and of no other")
		}
		bench.run = func(input []byte) (sandbox.Result, error) {
			return sandbox.Result{Output: speed.Measure(input)}, nil
		}
	} else {
		engine, err := sandbox.NewEngine(m.context, sandbox.Config{CrossCheck: sandbox.CrossCheckAlways})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, engine.Close(context.WithoutCancel(m.context))) }()
		program, err := engine.Load(m.context, module)
		if err != nil {
			return &exitError{code: ExitRefuted, err: err}
		}
		bench.program, bench.compare = program, bytes.Equal(module, speed.Module())
		bench.run = func(input []byte) (sandbox.Result, error) { return program.Run(input, statement.SpeedFuelLimit) }
	}
	if report.Accuracy, err = campaign.Accuracy(accuracy, bench.measure); err == nil {
		report.Faults, err = campaign.Faults(faults, bench.measure)
	}
	bench.bar.Stop()
	if bench.err != nil { // then the campaign's error only says that it ended
		return bench.err
	}
	if err != nil {
		return err
	}
	report.judge(bench)
	return a.printTest(m, &report)
}

func (a *app) printTest(m *moduleTest, report *testReport) error {
	if m.out != "" {
		b, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		if err := a.writeFile(m.out, append(b, '\n')); err != nil {
			return err
		}
	}
	if err := a.print(report, report.text()); err != nil {
		return err
	}
	if !report.Held {
		return exit(ExitRefuted)
	}
	return nil
}

// bench runs a module for a campaign and counts.
type bench struct {
	context context.Context
	run     func(input []byte) (sandbox.Result, error)
	program *sandbox.Program // nil for the twin
	compare bool             // with the Go twin
	differ  int              // results that were not the twin's
	failed  int              // calls without a result of the module: trap, out of fuel, malformed output, too small a capacity
	done    int
	total   int
	bar     *progress.Progress
	err     error // the first that came of no module
}

// measure implements campaign.Measure; without a result it returns none, which
// ends the campaign.
func (b *bench) measure(input []byte) []byte {
	if b.err == nil {
		b.err = b.context.Err()
	}
	if b.err != nil {
		return nil
	}
	r, err := b.run(input)
	if b.err = err; err != nil {
		return nil
	}
	b.done++
	b.bar.Set(b.done, b.total)
	if r.Outcome != sandbox.Completed {
		b.failed++
		return r.Output // says so, and is counted
	}
	if b.compare && !bytes.Equal(r.Output, speed.Measure(input)) {
		b.differ++
	}
	return r.Output
}

// judge draws up the criteria: those of the issue "The whole path", part 4.
func (r *testReport) judge(b *bench) {
	f := r.Accuracy.Total
	share := func(part, of int) float64 { return 100 * float64(part) / float64(max(of, 1)) }
	r.Held = true
	add := func(held bool, name, format string, args ...any) {
		r.Criteria = append(r.Criteria, criterion{name, held, fmt.Sprintf(format, args...)})
		r.Held = r.Held && held
	}
	add(f.Accepted > 0 && f.WithinMPE == f.Accepted, "every accepted value within 3 km/h, 3 % above 100 km/h",
		"%d of %d, largest error %.3f km/h, at most %.0f %% of the limit", f.WithinMPE, f.Accepted, f.LargestErrorKmh, 100*f.LargestErrorPerMPE)
	add(share(f.WithinThird, f.Accepted) >= 99, "99 % within a third of that", "%.2f %%", share(f.WithinThird, f.Accepted))
	add(share(f.CoveredByU, f.Accepted) >= 95, "stated U (k=2) covers at least 95 %", "%.2f %%", share(f.CoveredByU, f.Accepted))
	add(f.MedianUPerMPE <= 0.5, "median U at most half the limit", "%.0f %% of the limit", 100*f.MedianUPerMPE)
	add(share(f.Passes-f.Accepted, f.Passes) < 1, "under 1 % of good passes refused", "%.2f %% %s", share(f.Passes-f.Accepted, f.Passes), refusals(f.Refused))
	add(r.Faults.AcceptedAboveMPE == 0, "no faulty pass accepted with an error above the limit",
		"%d of %d accepted; refused %s", r.Faults.AcceptedAboveMPE, r.Faults.Total.Accepted, refusals(r.Faults.Total.Refused))
	if b.program != nil {
		stats := b.program.Stats()
		add(b.failed == 0, "no trap, no lack of fuel, no malformed output", "%d of %d calls", b.failed, b.done)
		add(stats.Divergences == 0, "compiler and interpreter agree", "%d of %d calls differ", stats.Divergences, stats.Calls)
	}
	if b.compare {
		add(b.differ == 0, "the Go twin gives the same bytes", "%d of %d results differ", b.differ, b.done)
	}
}

func refusals(refused map[string]int) string {
	if len(refused) == 0 {
		return ""
	}
	b, err := json.Marshal(refused) // ordered by name
	if err != nil {
		return ""
	}
	return strings.NewReplacer(`"`, "", "{", "(", "}", ")", ":", " ", ",", ", ").Replace(string(b))
}

func (r *testReport) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "module   SHA-256 %s, measured by the %s\npasses   %d good and %d faulty ones, seed %d\n\n", r.Module, r.Engine, r.Accuracy.Total.Passes, r.Faults.Total.Passes, r.Accuracy.Config.Seed)
	for _, c := range r.Criteria {
		word := "held"
		if !c.Held {
			word = "FAILED"
		}
		fmt.Fprintf(&b, "%-7s  %s: %s\n", word, c.Name, c.Found)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Note)
	return b.String()
}

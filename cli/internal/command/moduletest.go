package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/campaign/page"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/platform/version"
)

// moduleTest is the command line of `module test`.
type moduleTest struct {
	full    bool
	twin    bool
	passes  int
	workers int
	seed    uint64
	out     string
	page    string
	resume  string
	pass    string
}

func newModuleTest(a *app) *cobra.Command {
	var m moduleTest
	c := a.reading(&cobra.Command{
		Use:   "test [FILE]",
		Short: "Run a speed module's type test on simulated passes of known truth",
		Long: `Drives simulated vehicles past a module (the built-in one by default) in the
sandbox and compares with the truth: good passes, and faulty ones of every kind
and severity. Small by default: 29 speeds from 10 to 150 km/h at 1 and 2 kHz,
every call on both engines and on the Go twin.

--full is the whole campaign: 200 Hz to 10 kHz, spacings of 1 to 5 m, 49 speeds
from 10 to 250 km/h, 500 passes in each cell of this grid; three channels,
accelerations, faults. About half an hour of one core; 2 % of the calls, and
all with faults, on the interpreter and the twin too. With --resume FILE an
interrupted campaign goes on where it stopped.

--page writes the report to be read, one HTML file without scripts. --pass runs
a single pass again, by the name that a report gives it.

Exit code: 0 all criteria hold, 1 not.`,
		Example: `  lacre module test
  lacre module test --full --resume cells.jsonl --out report.json --page report.html
  lacre module test speed.wasm --passes 10 --json
  lacre module test --pass free-2ch/1000Hz/2m/80kmh/17`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exactly(1)(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			file := builtIn
			if len(args) == 1 {
				file = args[0]
			}
			module, err := readModule(file)
			if err != nil {
				return err
			}
			return a.runModuleTest(c.Context(), &m, module)
		},
	})
	f := c.Flags()
	f.BoolVar(&m.full, "full", false, "the whole campaign instead of the small one")
	f.BoolVar(&m.twin, "twin", false, "let the Go twin of the built-in module measure, without a sandbox")
	f.IntVar(&m.passes, "passes", 2, "good passes in each cell, unless --full")
	f.IntVar(&m.workers, "workers", 0, "passes at the same time; 0: one for each core")
	f.Uint64Var(&m.seed, "seed", campaign.TestSeed, "seed of the passes")
	f.StringVar(&m.out, "out", "", "file for the report in JSON")
	f.StringVar(&m.page, "page", "", "file for the report as a page (HTML)")
	f.StringVar(&m.resume, "resume", "", "file that keeps finished cells, so that the same test can go on from there")
	f.StringVar(&m.pass, "pass", "", "run this pass alone, and show its conditions and its result")
	return c
}

// config returns the campaign that the flags ask for.
func (m *moduleTest) config() (campaign.Config, error) {
	if m.passes < 1 {
		return campaign.Config{}, usage("--passes is %d, want at least 1", m.passes)
	}
	c := campaign.TypeTest(m.passes)
	if m.full || m.pass != "" { // whose grids hold the small one's passes
		c = campaign.Full()
	} else {
		faults := &c.Grids[len(c.Grids)-1]
		faults.Passes, faults.SpeedsKmh, faults.Severities = 1, []float64{20, 80, 120}, []float64{0, 0.25, 0.5, 0.75, 1}
		faults.RatesHz = []float64{1000}
	}
	c.Seed = m.seed
	return c, nil
}

func (a *app) runModuleTest(ctx context.Context, m *moduleTest, module []byte) (err error) {
	c, err := m.config()
	if err != nil {
		return err
	}
	bench, err := newModuleBench(ctx, module, m.twin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bench.close(context.WithoutCancel(ctx))) }()
	if m.pass != "" {
		return a.repeatPass(c, m.pass, bench)
	}
	identity := digest.Plain(module).String()
	options := campaign.Options{Workers: m.workers}
	if m.resume != "" {
		key := fmt.Sprintf("module %s, %s, seed %d, families %v, %s", identity, bench.name, c.Seed, c.Families, version.String())
		if options.Checkpoint, err = campaign.OpenCheckpoint(m.resume, key); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, options.Checkpoint.Close()) }()
	}
	bar := progress.New(a.err, "passes")
	defer bar.Stop()
	options.Progress = bar.Set
	r, err := campaign.Run(ctx, c, bench.measure, options)
	bar.Stop()
	if err != nil {
		return err
	}
	return a.printTest(m, newTestReport(identity, bench.name, r))
}

func newTestReport(module, engine string, r campaign.Report) *page.Report {
	report := &page.Report{Module: module, Engine: engine, Tool: version.String(), Note: testNote, Campaign: r}
	report.Criteria, report.Held = campaign.Judge(r)
	return report
}

const testNote = "validated on simulated loops; no conformity with any legal requirement is claimed"

func (a *app) printTest(m *moduleTest, report *page.Report) error {
	if m.out != "" {
		b, err := report.JSON()
		if err != nil {
			return err
		}
		if err := a.writeFile(m.out, b); err != nil {
			return err
		}
	}
	if m.page != "" {
		var b bytes.Buffer
		if err := page.Write(&b, report); err != nil {
			return err
		}
		if err := a.writeFile(m.page, b.Bytes()); err != nil {
			return err
		}
	}
	if err := a.print(report, testText(report)); err != nil {
		return err
	}
	if !report.Held {
		return exit(ExitRefuted)
	}
	return nil
}

func testText(r *page.Report) string {
	var b strings.Builder
	good, faulty := 0, 0
	for _, g := range r.Campaign.Grids {
		if g.Kind == campaign.Faulty {
			faulty += g.Bounded.Passes + g.Beyond.Passes
		} else {
			good += g.Bounded.Passes + g.Beyond.Passes
		}
	}
	fmt.Fprintf(&b, "module   SHA-256 %s, measured by the %s\npasses   %d good and %d faulty ones, seed %d\n\n", r.Module, r.Engine, good, faulty, r.Campaign.Config.Seed)
	for _, c := range r.Criteria {
		word, grid := "held", ""
		if !c.Held {
			word = "FAILED"
		}
		if len(r.Campaign.Grids) > 2 && c.Grid != "" {
			grid = c.Grid + ": "
		}
		fmt.Fprintf(&b, "%-7s  %s%s: %s\n", word, grid, c.Name, c.Found)
	}
	fmt.Fprintf(&b, "\n%s\n", r.Note)
	return b.String()
}

// repeatPass runs one pass and shows it.
func (a *app) repeatPass(c campaign.Config, name string, bench *moduleBench) error {
	r, err := campaign.Repeat(c, name, bench.measure)
	if err != nil {
		return usage("%w", err)
	}
	var b strings.Builder
	k, t := r.Conditions, r.Truth
	fmt.Fprintf(&b, `pass        %s, seed %d
conditions  %v, %v, %g km/h, %+.2f m/s2, against direction %v, %d channels %g m apart (%+.1f mm), %g Hz, %d samples
            noise %.1f counts, drift %.1f counts/s, crosstalk %.2f %%, %d bits, fault %v of severity %g
            one-sample error %.2f %%
truth       %.3f km/h (front %.3f, rear %.3f), length %.2f m, direction %+d
result      %s`,
		r.Name, r.Seed, k.Vehicle, k.Family, k.SpeedKmh, k.AccelerationMss, k.AgainstDirection, k.Channels, k.SpacingM, 1000*k.SpacingErrorM, k.RateHz, r.Samples,
		k.NoiseCounts, k.DriftCountsPerSec, 100*k.Crosstalk, k.Bits, k.Fault, k.Severity, 100*r.OneSample,
		t.SpeedKmh, t.LeadingKmh, t.TrailingKmh, t.LengthM, t.Direction, r.Code)
	if r.Code == campaign.CodeName(speed.Valid) {
		fmt.Fprintf(&b, ", error %+.3f km/h, stated U %.3f km/h, limit %.3f km/h", r.ErrorKmh, r.UKmh, r.MPEKmh)
	}
	b.WriteByte('\n')
	for i, v := range r.Values {
		field := speed.Schema().Values[i]
		fmt.Fprintf(&b, "  %-27s %s %s\n", field.Name, decimal(v, -field.Scale), field.Unit)
	}
	return a.print(r, b.String())
}

// decimal writes a whole number of 10^-digits.
func decimal(v int64, digits int) string {
	scale := 1.0
	for range digits {
		scale *= 10
	}
	return fmt.Sprintf("%.*f", digits, float64(v)/scale)
}

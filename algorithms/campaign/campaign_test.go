package campaign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// small is a campaign of a few passes of every kind, on both sides of 3 %.
func small() Config {
	rates, spacings := []float64{200, 1000}, []float64{1, 3}
	return Config{
		Seed: TestSeed, Families: sim.Families, CheckOneIn: 3,
		Grids: []Grid{
			{Name: "free", Channels: 2, RatesHz: rates, SpacingsM: spacings, SpeedsKmh: []float64{20, 100}, Passes: 6},
			{Name: "accelerating", Channels: 3, RatesHz: rates, SpacingsM: spacings, SpeedsKmh: []float64{100}, Passes: 3, AccelerationsMss: []float64{1, 3}},
			{Name: "faults", Channels: 2, RatesHz: rates, SpacingsM: spacings, SpeedsKmh: []float64{60}, Passes: 1, Faults: sim.Faults, Severities: []float64{0, 0.5}},
		},
	}
}

// changed is the built-in algorithm with its accepted outputs changed.
func changed(change func(values []int64)) Measure {
	return Twin(func(input []byte) []byte {
		out, err := abi.DecodeOutput(speed.Measure(input))
		if err != nil {
			panic(err)
		}
		if out.Code == speed.Valid {
			change(out.Values)
		}
		b, err := abi.EncodeOutput(out)
		if err != nil {
			panic(err)
		}
		return b
	})
}

// TestTallyOfKnownPasses: four accepted passes of known errors and a refusal give
// the figures that can be worked out by hand.
func TestTallyOfKnownPasses(t *testing.T) {
	var a, b tally
	accepted := func(to *tally, name string, speedKmh, value, u, length float64) {
		values := make([]int64, speed.ValueCount)
		values[speed.ValueSpeed], values[speed.ValueSpeedUncertainty] = int64(math.Round(1000*value)), int64(math.Round(1000*u))
		values[speed.ValueLength], values[speed.ValueLengthUncertainty] = int64(1000*length), 500
		values[speed.ValueDirection] = 1
		to.add(name, sim.Truth{SpeedKmh: speedKmh, LengthM: 4, Direction: 1}, abi.Output{Code: speed.Valid, Values: values})
	}
	accepted(&a, "exact", 50, 50, 0.6, 4)       // 0 % of 3 km/h
	accepted(&b, "third", 200, 202, 1.8, 4.6)   // 33.3 % of 6 km/h, beyond U; the length too
	accepted(&b, "below", 50, 48.5, 1.5, 4)     // -50 % of 3 km/h
	accepted(&a, "above", 100, 103.3, 1.2, 3.4) // 110 %
	a.add("refused", sim.Truth{SpeedKmh: 50}, abi.Output{Code: speed.LaneChange})
	want := Figures{
		Passes: 5, Accepted: 4, Refused: map[string]int{"LANE_CHANGE": 1}, WithinMPE: 3, WithinThird: 2, CoveredByU: 2, LengthCoveredBy: 2,
		MeanErrorPercent: 23.33, MedianErrorPercent: 33.33, P95ErrorPercent: 110, P99ErrorPercent: 110, LargestErrorPercent: 110,
		LargestErrorKmh: 3.3, LargestErrorPass: "above", MedianUPercent: 30,
	}
	for name, order := range map[string][]*tally{"a b": {&a, &b}, "b a": {&b, &a}} {
		var sum tally
		for _, x := range order {
			sum.merge(x)
		}
		sum.finish()
		if got := sum.figures(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, want)
		}
		if len(sum.Worst) != worstKept || sum.Worst[0].Name != "above" || sum.Worst[1].Name != "below" || sum.Worst[1].ErrorKmh != -1.5 {
			t.Errorf("%s: worst %+v", name, sum.Worst)
		}
	}
}

// TestWrongDirectionIsAnError, and so is any value of a pass without a speed.
func TestWrongDirectionIsAnError(t *testing.T) {
	out := abi.Output{Values: make([]int64, speed.ValueCount)}
	out.Values[speed.ValueSpeed], out.Values[speed.ValueDirection] = 60_000, 1
	if e := speedError(sim.Truth{SpeedKmh: 60, Direction: -1}, out); e != 120 {
		t.Errorf("60 km/h the other way is wrong by %g", e)
	}
	if e := speedError(sim.Truth{Direction: 1}, out); e != 60 {
		t.Errorf("60 km/h of a vehicle that turned is wrong by %g", e)
	}
}

// TestReportDependsOnTheConfigurationAlone: not on workers, not on interruption.
func TestReportDependsOnTheConfigurationAlone(t *testing.T) {
	reports := map[string][]byte{}
	keep := func(name string, r Report, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(name, err)
		}
		if reports[name], err = json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	}
	for name, workers := range map[string]int{"one": 1, "seven": 7} {
		r, err := Run(t.Context(), small(), Twin(speed.Measure), Options{Workers: workers})
		keep(name, r, err)
	}
	path := filepath.Join(t.TempDir(), "cells")
	open := func(key string) (*Checkpoint, error) { return OpenCheckpoint(path, key) }
	ctx, cancel := context.WithCancel(t.Context())
	checkpoint, err := open("key")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Run(ctx, small(), Twin(speed.Measure), Options{Workers: 2, Checkpoint: checkpoint, Progress: func(done, total int) {
		if done > total/2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || checkpoint.Close() != nil {
		t.Fatalf("cancelled: %v", err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString(`{"Cell":"torn`)
	file.Close()
	if _, err := open("another key"); err == nil {
		t.Error("cells of another campaign are taken")
	}
	if checkpoint, err = open("key"); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	r, err := Run(t.Context(), small(), func(input []byte, check bool) (Answer, error) {
		calls.Add(1)
		return Twin(speed.Measure)(input, check)
	}, Options{Checkpoint: checkpoint})
	keep("resumed", r, errors.Join(err, checkpoint.Close()))
	for name, b := range reports {
		if !bytes.Equal(b, reports["one"]) {
			t.Errorf("%s: another report", name)
		}
	}
	if n := int(calls.Load()); n == 0 || n > r.Engines.Calls*6/10 {
		t.Errorf("resumed with %d of %d calls", n, r.Engines.Calls)
	}
}

// TestProgressReachesTheTotal, a step at a time.
func TestProgressReachesTheTotal(t *testing.T) {
	last, of := 0, 0
	_, err := Run(t.Context(), small(), Twin(speed.Measure), Options{Workers: 3, Progress: func(done, total int) {
		if done <= last {
			t.Errorf("%d after %d", done, last)
		}
		last, of = done, total
	}})
	if want := 6*8 + 3*4 + 22*4; err != nil || last != want || of != want {
		t.Errorf("%d of %d, want %d: %v", last, of, want, err)
	}
}

// TestChecks: every pass with a fault is asked for on both engines, of the others
// the drawn share; what differs is counted, named, and fails the criterion.
func TestChecks(t *testing.T) {
	c := small()
	c.Grids[0].Passes = 50
	r, err := Run(t.Context(), c, func(input []byte, check bool) (Answer, error) {
		a := Answer{Output: speed.Measure(input), Fuel: uint64(len(input)), Checked: check, TwinCompared: check}
		out, _ := abi.DecodeOutput(a.Output)
		a.EnginesDiffer = check && out.Code == speed.Clipping
		return a, nil
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	faulty, good := 88, 50*8+3*4
	if n := r.Engines.Checked - faulty; n < good/5 || n > good/2 {
		t.Errorf("%d of %d good passes checked, want about a third", n, good)
	}
	if r.Engines.EnginesDiffer == 0 || len(r.Differing) != r.Engines.EnginesDiffer || !strings.HasPrefix(r.Differing[0], "faults/") || r.Engines.LargestFuel < 1000 {
		t.Errorf("%+v, differing %v", r.Engines, r.Differing)
	}
	criteria, held := Judge(r)
	if i := slices.IndexFunc(criteria, func(c Criterion) bool { return c.Name == "compiler and interpreter agree" }); held || i < 0 || criteria[i].Held {
		t.Errorf("held %v in spite of differences: %+v", held, criteria)
	}
}

// TestCriteriaBite: each way to be wrong fails the criterion that is meant for it.
func TestCriteriaBite(t *testing.T) {
	c := small()
	c.Grids = c.Grids[:2]
	c.Grids[0].Passes = 20
	for name, w := range map[string]struct {
		change func([]int64)
		fails  []string
	}{
		"2 % too high":   {func(v []int64) { v[speed.ValueSpeed] += v[speed.ValueSpeed] / 50 }, []string{withinThird.name, covered.name, coveredBeyond.name}},
		"5 km/h too low": {func(v []int64) { v[speed.ValueSpeed] -= 5000 }, []string{withinMPE.name, withinThird.name, covered.name, coveredBeyond.name}},
		"U too small":    {func(v []int64) { v[speed.ValueSpeedUncertainty] = 20 }, []string{covered.name, coveredBeyond.name}},
		"U too large":    {func(v []int64) { v[speed.ValueSpeedUncertainty] *= 4 }, []string{medianU.name}},
		"length's U":     {func(v []int64) { v[speed.ValueLengthUncertainty] /= 10 }, []string{lengthCovered.name}},
	} {
		r, err := Run(t.Context(), c, changed(w.change), Options{})
		if err != nil {
			t.Fatal(name, err)
		}
		criteria, held := Judge(r)
		if held {
			t.Errorf("%s: held", name)
		}
		for _, x := range criteria {
			if x.Grid == "free" && x.Held == slices.Contains(w.fails, x.Name) && x.Name != refused.name {
				t.Errorf("%s: %q held %v: %s", name, x.Name, x.Held, x.Found)
			}
		}
	}
	never := Twin(func([]byte) []byte {
		b, _ := abi.EncodeOutput(abi.Output{Code: speed.LowSNR, Values: make([]int64, speed.ValueCount)})
		return b
	})
	r, err := Run(t.Context(), c, never, Options{})
	if criteria, held := Judge(r); err != nil || held || criteria[5].Name != refused.name || criteria[5].Held || criteria[0].Held {
		t.Errorf("a module that refuses everything: %+v, %v", criteria, err)
	}
}

// TestFaultyPassesAboveTheLimitAreFound: a module that accepts what it should not.
func TestFaultyPassesAboveTheLimitAreFound(t *testing.T) {
	c := small()
	c.Grids = c.Grids[2:]
	r, err := Run(t.Context(), c, changed(func(v []int64) { v[speed.ValueSpeed] += 4000 }), Options{})
	criteria, held := Judge(r)
	if err != nil || held || criteria[0].Held || len(r.Grids[0].Worst) < 10 || r.Grids[0].Worst[0].ErrorPercent < 100 {
		t.Errorf("%+v %v %+v", criteria, err, r.Grids[0].Worst)
	}
}

// TestAnInstallationIsJudgedAlone: one bad installation among good ones, whose
// share of all is too small to show, is named.
func TestAnInstallationIsJudgedAlone(t *testing.T) {
	good := Figures{Passes: 100_000, Accepted: 100_000, CoveredByU: 99_000}
	bad := Figures{Passes: 1000, Accepted: 1000, CoveredByU: 900}
	few := Figures{Passes: 999, Accepted: 999, CoveredByU: 0}
	all := func(r Row) Figures { return r.Bounded }
	g := GridReport{Name: "g", Installations: []Row{{RateHz: 1000, SpacingM: 2, Bounded: good}, {RateHz: 500, SpacingM: 5, Bounded: bad}, {Bounded: few}}}
	if c := covered.judge(g, good, all); c.Held || !strings.Contains(c.Found, "not in 1 of 2 installations (500 Hz, 5 m: 90.000 % of 1000)") {
		t.Errorf("%+v", c)
	}
	g.Installations = []Row{g.Installations[0], g.Installations[0], g.Installations[2]}
	if c := covered.judge(g, good, all); !c.Held || !strings.Contains(c.Found, "each of 2 installations") {
		t.Errorf("%+v", c)
	}
}

// TestRunsWithoutAResultAreRefusals: what the sandbox writes for a module that
// failed, and passes that no meter can send, for which no module is asked.
func TestRunsWithoutAResultAreRefusals(t *testing.T) {
	c := TypeTest(3)
	c.Grids = c.Grids[:1]
	c.Grids[0].SpeedsKmh = []float64{60}
	r, err := Run(t.Context(), c, func([]byte, bool) (Answer, error) {
		b, err := abi.EncodeOutput(abi.ExecutionFailed())
		return Answer{Output: b, Failed: true}, err
	}, Options{})
	if f := r.Grids[0].Bounded; err != nil || f.Accepted != 0 || f.Refused["EXECUTION_FAILED"] != f.Passes || r.Engines.Failed != f.Passes {
		t.Errorf("a module that always fails: %+v, %v", f, err)
	}
	if _, held := Judge(r); held {
		t.Error("a module that always fails is held to be good")
	}
	c.Grids[0].RatesHz = []float64{400_000}
	r, err = Run(t.Context(), c, func(input []byte, _ bool) (Answer, error) {
		t.Errorf("the module is given %d bytes", len(input))
		return Answer{}, nil
	}, Options{})
	if f := r.Grids[0].Bounded; err != nil || f.Passes != 3 || f.Refused["MALFORMED_INPUT"] != 3 || r.Engines.Calls != 0 {
		t.Errorf("passes above the bound: %+v, %v", f, err)
	}
}

// TestErrorsEndTheCampaign: of the engine, of garbage for an output, and of the
// configuration.
func TestErrorsEndTheCampaign(t *testing.T) {
	broken := errors.New("no engine")
	for name, m := range map[string]Measure{
		"engine":  func([]byte, bool) (Answer, error) { return Answer{}, broken },
		"garbage": Twin(func([]byte) []byte { return []byte{1} }),
		"short":   Twin(func([]byte) []byte { return make([]byte, abi.OutputSize(2)) }),
	} {
		if _, err := Run(t.Context(), small(), m, Options{}); err == nil || (name == "engine") != errors.Is(err, broken) || !strings.Contains(err.Error(), "pass ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, spoil := range map[string]func(*Config){
		"no families": func(c *Config) { c.Families = nil }, "no grids": func(c *Config) { c.Grids = nil }, "no check": func(c *Config) { c.CheckOneIn = 0 },
		"same name": func(c *Config) { c.Grids[1].Name = "free" }, "one channel": func(c *Config) { c.Grids[0].Channels = 1 },
		"no speeds": func(c *Config) { c.Grids[0].SpeedsKmh = nil }, "no severities": func(c *Config) { c.Grids[2].Severities = nil },
	} {
		c := small()
		spoil(&c)
		if _, err := Run(t.Context(), c, Twin(speed.Measure), Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestRepeat: a pass repeated by its name gives what it gave in the campaign.
func TestRepeat(t *testing.T) {
	c := small()
	r := run(t, c)
	for _, g := range r.Grids {
		for _, w := range g.Worst {
			again, err := Repeat(c, w.Name, Twin(speed.Measure))
			if err != nil || round(again.ErrorKmh, 3) != w.ErrorKmh || again.UKmh != w.UKmh || again.Code != "VALID" {
				t.Errorf("%+v again: %+v, %v", w, again, err)
			}
		}
	}
	for _, name := range []string{
		"", "free", "other/1000Hz/1m/20kmh/0", "free/1000Hz/1m/20kmh", "free/1000Hz/1m/20kmh/-1", "free/1000Hz/1m/20kmh/01", "free/1e3Hz/1m/20kmh/0",
		"free/NaNHz/1m/20kmh/0", "free/1000Hz/1m/0kmh/0", "free/1000/1m/20kmh/0", "free/clipping/0.5/1000Hz/1m/20kmh/0",
		"faults/1000Hz/1m/20kmh/0", "faults/none/0.5/1000Hz/1m/20kmh/0", "faults/clipping/2/1000Hz/1m/20kmh/0",
	} {
		if _, err := Repeat(c, name, Twin(speed.Measure)); err == nil {
			t.Errorf("%q is taken for a pass", name)
		}
	}
}

// TestFullIsTheGridThatWasAsked for, and the small campaign's good passes are
// among its.
func TestFullIsTheGridThatWasAsked(t *testing.T) {
	c := Full()
	g := c.Grids[0]
	if err := c.check(); err != nil || g.RatesHz[0] != 200 || g.RatesHz[len(g.RatesHz)-1] != 10_000 || !slices.Equal(g.SpacingsM, []float64{1, 2, 3, 4, 5}) ||
		len(g.SpeedsKmh) != 49 || g.SpeedsKmh[0] != 10 || g.SpeedsKmh[48] != 250 || g.Passes < 500 || g.Kind() != FreeFlow || c.CheckOneIn != 50 {
		t.Errorf("%v: %+v", err, g)
	}
	names := map[string]bool{}
	for _, cell := range g.cells() {
		names[cell.Name()] = true
	}
	for _, cell := range TypeTest(2).Grids[0].cells() {
		if !names[cell.Name()] {
			t.Errorf("%s is not in the whole campaign", cell.Name())
		}
	}
	if e := (Cell{SpeedKmh: 150, SpacingM: 2, RateHz: 2083.33}).OneSample(); math.Abs(e-0.01) > 1e-6 {
		t.Errorf("150 km/h, 2 m, 2083 Hz: one-sample error %g, want 1 %%", e)
	}
}

// TestPassesAreNumberedByTheirNames: a change of names or of their number would
// draw other passes, and reports would no longer compare.
func TestPassesAreNumberedByTheirNames(t *testing.T) {
	c := Cell{Grid: "faults-2ch", RateHz: 200, SpacingM: 2.5, SpeedKmh: 80, Fault: sim.TwoVehicles, Severity: 0.5}
	if name := c.passName(17); name != "faults-2ch/two-vehicles/0.5/200Hz/2.5m/80kmh/17" {
		t.Errorf("a pass is named %s", name)
	}
	// printf free-2ch/1000Hz/2m/80kmh/17 | sha256sum
	if n := number("free-2ch/1000Hz/2m/80kmh/17"); n != 0xdcc48045b70140c7 {
		t.Errorf("its number is %x", n)
	}
}

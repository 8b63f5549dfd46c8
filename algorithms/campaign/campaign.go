// Package campaign measures a speed module against simulated passes of known
// truth and reports figures: the test behind a type approval's test report.
//
// Source: docs/metrology.md, "Rules for speed meters": the maximum permissible
// error (MPE) is 3 km/h up to 100 km/h and 3 % above (OIML R 91, from a secondary
// source; no conformity is claimed). All passes are simulated (package sim).
//
// A campaign is a list of grids, a grid is made of cells (cell.go), a cell of
// passes. How finely an installation resolves time is told by its one-sample
// error v/(D*fs): what the speed v is wrong by if the delay over the spacing D is
// wrong by one sample at the rate fs. The bounds (judge.go) apply where it is
// below BoundedBelow; elsewhere the passes are run and reported just the same.
//
// Invariants:
//   - A report depends on the Config and the module only, not on the number of
//     workers or on interruptions.
//   - A pass has a name that says its conditions, and draws from a generator
//     numbered by the seed and that name: any pass can be repeated alone, and is
//     the same in every campaign that holds it.
//   - An accepted value counts whatever its stated uncertainty.
//   - A pass longer than maxVectorBytes is no meter's: the module is not asked, and
//     it counts as a refusal, MALFORMED_INPUT.
package campaign

import (
	"fmt"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// Seeds: tuning an algorithm may look at passes of TuningSeed only, and only at
// sim.TuningFamilies; the figures that count come from TestSeed.
const (
	TuningSeed uint64 = 1
	TestSeed   uint64 = 20_260_301
)

// BoundedBelow is the one-sample error v/(D*fs) below which the bounds apply.
const BoundedBelow = 0.03

// maxVectorBytes is the ledger's bound on raw vectors (core/record,
// MaxRawVectorBytes; core builds on this module, so it cannot be asked here).
const maxVectorBytes = 512 << 10

// MPE returns the maximum permissible error in km/h at a true speed in km/h.
func MPE(speedKmh float64) float64 { return max(3, 0.03*speedKmh) }

// Config describes a campaign.
type Config struct {
	Seed     uint64       `json:"seed"`
	Families []sim.Family `json:"families"`
	// CheckOneIn is the share of passes, drawn by their names, that are repeated
	// on the interpreter: one in so many. Passes of grids with faults all are.
	CheckOneIn int    `json:"interpreter_checks_one_pass_in"`
	Grids      []Grid `json:"grids"`
}

// Grid is a set of cells: every combination of its lists.
type Grid struct {
	Name      string    `json:"name"` // part of the passes' names; the same name means the same conditions
	Channels  int       `json:"channels"`
	RatesHz   []float64 `json:"rates_hz"`
	SpacingsM []float64 `json:"spacings_m"`
	SpeedsKmh []float64 `json:"speeds_kmh"`
	Passes    int       `json:"passes_per_cell"`
	// AccelerationsMss, if any, replace the mild ones of good traffic, drawn for
	// each pass, in either direction (sim.Accelerating).
	AccelerationsMss []float64   `json:"accelerations_m_per_s2,omitempty"`
	Faults           []sim.Fault `json:"faults,omitempty"`
	Severities       []float64   `json:"severities,omitempty"`
}

// Kind tells which bounds a grid is judged by.
type Kind string

// The kinds of grids.
const (
	FreeFlow     Kind = "free flow"    // good passes: all bounds
	Accelerating Kind = "accelerating" // strong accelerations: no wrong value, U covers; refusals are right
	Faulty       Kind = "faulty"       // no wrong value
)

// Kind returns the grid's kind.
func (g Grid) Kind() Kind {
	switch {
	case len(g.Faults) > 0:
		return Faulty
	case len(g.AccelerationsMss) > 0:
		return Accelerating
	default:
		return FreeFlow
	}
}

// steps returns from, from+step, ... up to and including to.
func steps(from, to, step float64) []float64 {
	var s []float64
	for i := 0; from+step*float64(i) <= to; i++ {
		s = append(s, from+step*float64(i))
	}
	return s
}

// severities are 0, 0.1, ..., 1.
func severities() []float64 {
	s := steps(0, 10, 1)
	for i := range s {
		s[i] /= 10
	}
	return s
}

// weakest are 0.01, 0.02, ..., 0.09: below the first step of severities.
func weakest() []float64 {
	s := steps(1, 9, 1)
	for i := range s {
		s[i] /= 100
	}
	return s
}

// TypeTest is the short campaign: 1 and 2 kHz, two channels 2 m apart, 29 speeds
// from 10 to 150 km/h, passes at each; and every fault at every severity and
// eight speeds, two of each.
func TypeTest(passes int) Config {
	return Config{
		Seed: TestSeed, Families: sim.Families, CheckOneIn: 1,
		Grids: []Grid{
			{Name: "free-2ch", Channels: 2, RatesHz: []float64{1000, 2000}, SpacingsM: []float64{2}, SpeedsKmh: steps(10, 150, 5), Passes: passes},
			{
				Name: "faults-2ch", Channels: 2, RatesHz: []float64{1000, 2000}, SpacingsM: []float64{2}, Passes: 2,
				SpeedsKmh: []float64{10, 20, 40, 60, 80, 100, 120, 150}, Faults: sim.Faults, Severities: severities(),
			},
		},
	}
}

// Full is the whole campaign: the grid of 200 Hz to 10 kHz, spacings of 1 to 5 m
// and 49 speeds from 10 to 250 km/h with two channels, 500 passes in each cell;
// a coarser one with three channels; accelerations up to 4 m/s^2; all faults; and
// crosstalk of 0.4 to 3.9 %, between what good passes have (sim.Good) and the
// weakest of the faults, in finer steps.
func Full() Config {
	rates, spacings := []float64{200, 500, 1000, 2000, 5000, 10_000}, steps(1, 5, 1)
	some := []float64{10, 20, 40, 60, 80, 100, 130, 160, 200, 250}
	return Config{
		Seed: TestSeed, Families: sim.Families, CheckOneIn: 50,
		Grids: []Grid{
			{Name: "free-2ch", Channels: 2, RatesHz: rates, SpacingsM: spacings, SpeedsKmh: steps(10, 250, 5), Passes: 500},
			{Name: "free-3ch", Channels: 3, RatesHz: rates, SpacingsM: []float64{1, 3, 5}, SpeedsKmh: steps(10, 250, 10), Passes: 100},
			{
				Name: "accelerating-2ch", Channels: 2, RatesHz: rates, SpacingsM: spacings, SpeedsKmh: steps(10, 250, 20), Passes: 60,
				AccelerationsMss: []float64{1, 2, 4},
			},
			{
				Name: "faults-2ch", Channels: 2, RatesHz: rates, SpacingsM: spacings, SpeedsKmh: some, Passes: 2,
				Faults: sim.Faults, Severities: severities(),
			},
			{
				Name: "faults-3ch", Channels: 3, RatesHz: []float64{1000, 5000}, SpacingsM: []float64{1, 3}, SpeedsKmh: some, Passes: 2,
				Faults: sim.Faults, Severities: severities(),
			},
			{
				Name: "crosstalk-2ch", Channels: 2, RatesHz: rates, SpacingsM: spacings, SpeedsKmh: some, Passes: 3,
				Faults: []sim.Fault{sim.Crosstalk}, Severities: weakest(),
			},
			{
				Name: "crosstalk-3ch", Channels: 3, RatesHz: []float64{1000, 5000}, SpacingsM: []float64{1, 3}, SpeedsKmh: some, Passes: 3,
				Faults: []sim.Fault{sim.Crosstalk}, Severities: weakest(),
			},
		},
	}
}

// check returns what is wrong with a configuration.
func (c Config) check() error {
	if len(c.Families) == 0 || len(c.Grids) == 0 || c.CheckOneIn < 1 {
		return fmt.Errorf("campaign has %d families, %d grids and checks one pass in %d, want at least 1 of each", len(c.Families), len(c.Grids), c.CheckOneIn)
	}
	names := map[string]bool{}
	for _, g := range c.Grids {
		if g.Name == "" || names[g.Name] {
			return fmt.Errorf("grid name %q is empty or used twice", g.Name)
		}
		names[g.Name] = true
		if g.Channels < 2 || g.Passes < 1 || len(g.Faults) > 0 != (len(g.Severities) > 0) || len(g.cells()) == 0 {
			return fmt.Errorf("grid %s: %d channels, %d passes, %d rates, %d spacings, %d speeds, %d faults, %d severities: want 2 channels or more, faults with severities, and of the others at least one",
				g.Name, g.Channels, g.Passes, len(g.RatesHz), len(g.SpacingsM), len(g.SpeedsKmh), len(g.Faults), len(g.Severities))
		}
	}
	return nil
}

// CodeName returns a result code's name in the speed module's schema.
func CodeName(code uint32) string {
	if code == speed.Valid {
		return "VALID"
	}
	for _, r := range speed.Schema().Refusals {
		if r.Code == code {
			return r.Name
		}
	}
	if code == abi.CodeExecutionFailed {
		return "EXECUTION_FAILED"
	}
	return fmt.Sprintf("CODE_%d", code)
}

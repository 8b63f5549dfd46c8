package campaign

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
)

// Report is the outcome of Run.
type Report struct {
	Config  Config       `json:"config"`
	Engines Engines      `json:"engines"`
	Grids   []GridReport `json:"grids"`
	// Differing names up to 100 passes on which engines or twins differed.
	Differing []string `json:"differing_passes"`
}

// Engines says how the module ran.
type Engines struct {
	Calls         int    `json:"calls"`
	Failed        int    `json:"calls_without_a_result"`
	Checked       int    `json:"calls_on_both_engines"`
	EnginesDiffer int    `json:"engines_differ"`
	TwinCompared  int    `json:"calls_compared_with_the_twin"`
	TwinsDiffer   int    `json:"twins_differ"`
	LargestFuel   uint64 `json:"largest_fuel"`
}

// GridReport is the figures of one grid.
type GridReport struct {
	Name     string `json:"name"`
	Kind     Kind   `json:"kind"`
	Channels int    `json:"channels"`
	// Bounded and Beyond are all passes in cells with a one-sample error below
	// BoundedBelow, and the others.
	Bounded Figures `json:"below_3_percent,omitzero"`
	Beyond  Figures `json:"from_3_percent,omitzero"`

	// The same passes by installation (rate and spacing), by speed and by bands of
	// the one-sample error; with faults also by fault and severity.
	Installations []Row `json:"by_installation"`
	Speeds        []Row `json:"by_speed"`
	Bands         []Row `json:"by_one_sample_error"`
	// How often each code came, by vehicle and by family of shapes, where the
	// bounds apply.
	Kinds  map[string]map[string]int `json:"codes_by_vehicle_and_by_family_below_3_percent"`
	Faults FaultRows                 `json:"by_fault_and_severity,omitempty"`

	Worst []WorstPass `json:"largest_errors"` // all that lie above the MPE, up to 20, and at least 10
	Cells Cells       `json:"cells,omitzero"` // not of grids with faults, which are too many and too small
}

// Row is the figures of passes that share what it names.
type Row struct {
	Fault    string   `json:"fault,omitempty"`
	Severity *float64 `json:"severity,omitempty"`
	RateHz   float64  `json:"rate_hz,omitempty"`
	SpacingM float64  `json:"spacing_m,omitempty"`
	SpeedKmh float64  `json:"speed_kmh,omitempty"`
	Band     *Band    `json:"one_sample_error_percent,omitempty"`
	Bounded  Figures  `json:"below_3_percent,omitzero"`
	Beyond   Figures  `json:"from_3_percent,omitzero"`
}

// Band is a range of the one-sample error in percent, the upper end excluded.
type Band struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

// bands split the one-sample error; the third begins where the bounds end.
var bands = []Band{{0, 0.5}, {0.5, 1.5}, {1.5, 3}, {3, 6}, {6, 12}, {12, 100}}

// newReport sums up finished units; their order is the configuration's.
func newReport(c Config, units []unit) Report {
	r := Report{Config: c, Differing: []string{}}
	var all tally
	for _, g := range c.Grids {
		n := len(g.cells())
		r.Grids = append(r.Grids, gridReport(g, units[:n]))
		for i := range units[:n] {
			t := &units[i].tally
			all.Calls += t.Calls
			all.Failed += t.Failed
			all.Checked += t.Checked
			all.EnginesDiffer += t.EnginesDiffer
			all.TwinCompared += t.TwinCompared
			all.TwinsDiffer += t.TwinsDiffer
			all.Fuel = max(all.Fuel, t.Fuel)
			r.Differing = append(r.Differing, t.Differing...)
		}
		units = units[n:]
	}
	r.Engines = Engines{all.Calls, all.Failed, all.Checked, all.EnginesDiffer, all.TwinCompared, all.TwinsDiffer, all.Fuel}
	r.Differing = r.Differing[:min(len(r.Differing), 100)]
	return r
}

func gridReport(g Grid, units []unit) GridReport {
	r := GridReport{Name: g.Name, Kind: g.Kind(), Channels: g.Channels}
	sum := func(of func(Cell) bool) Row {
		var bounded, beyond tally
		for i := range units {
			switch u := &units[i]; {
			case !of(u.Cell):
			case u.Bounded():
				bounded.merge(&u.tally)
			default:
				beyond.merge(&u.tally)
			}
		}
		bounded.finish()
		beyond.finish()
		return Row{Bounded: bounded.figures(), Beyond: beyond.figures()}
	}
	all := sum(func(Cell) bool { return true })
	r.Bounded, r.Beyond = all.Bounded, all.Beyond
	var kinds tally
	for i := range units {
		if units[i].Bounded() {
			kinds.merge(&tally{Kinds: units[i].tally.Kinds})
		}
	}
	r.Kinds = kinds.Kinds
	for _, rate := range g.RatesHz {
		for _, spacing := range g.SpacingsM {
			row := sum(func(c Cell) bool { return c.RateHz == rate && c.SpacingM == spacing })
			row.RateHz, row.SpacingM = rate, spacing
			r.Installations = append(r.Installations, row)
		}
	}
	for _, v := range g.SpeedsKmh {
		row := sum(func(c Cell) bool { return c.SpeedKmh == v })
		row.SpeedKmh = v
		r.Speeds = append(r.Speeds, row)
	}
	for _, band := range bands {
		row := sum(func(c Cell) bool { return 100*c.OneSample() >= band.From && 100*c.OneSample() < band.To })
		row.Band = &band
		r.Bands = append(r.Bands, row)
	}
	for _, fault := range g.Faults {
		for _, severity := range g.Severities {
			row := sum(func(c Cell) bool { return c.Fault == fault && c.Severity == severity })
			row.Fault, row.Severity = fault.String(), &severity
			r.Faults = append(r.Faults, row)
		}
	}
	r.Worst = worst(units)
	if len(g.Faults) == 0 {
		for i := range units {
			r.Cells = append(r.Cells, CellFigures{units[i].Cell, units[i].tally.figures()})
		}
	}
	return r
}

// worst gathers the passes with the largest errors.
func worst(units []unit) []WorstPass {
	all := []WorstPass{}
	for i := range units {
		all = append(all, units[i].tally.Worst...)
	}
	slices.SortStableFunc(all, func(a, b WorstPass) int { return cmp.Compare(b.ErrorPercent, a.ErrorPercent) })
	n := 10
	for n < min(20, len(all)) && all[n].ErrorPercent > 100 {
		n++
	}
	return all[:min(n, len(all))]
}

// CellFigures is the figures of one cell.
type CellFigures struct {
	Cell
	Figures
}

// Cells is written as one array for each cell, which keeps a report small; the
// first array holds the columns' names.
type Cells []CellFigures

// IsZero leaves it out.
func (c Cells) IsZero() bool { return len(c) == 0 }

// MarshalJSON implements json.Marshaler.
func (c Cells) MarshalJSON() ([]byte, error) {
	rows := [][]any{{
		"rate_hz", "spacing_m", "speed_kmh", "one_sample_error_percent", "passes", "accepted", "within_mpe", "within_a_third_of_mpe",
		"covered_by_u", "length_covered_by_u", "mean_error_percent_of_mpe", "median_error_percent_of_mpe", "p95_error_percent_of_mpe",
		"p99_error_percent_of_mpe", "largest_error_percent_of_mpe", "median_u_percent_of_mpe", "refused_by_code",
	}}
	for _, x := range c {
		f := x.Figures
		refused := f.Refused
		if refused == nil {
			refused = map[string]int{}
		}
		rows = append(rows, []any{
			x.RateHz, x.SpacingM, x.SpeedKmh, round(100*x.OneSample(), 3), f.Passes, f.Accepted, f.WithinMPE, f.WithinThird,
			f.CoveredByU, f.LengthCoveredBy, f.MeanErrorPercent, f.MedianErrorPercent, f.P95ErrorPercent,
			f.P99ErrorPercent, f.LargestErrorPercent, f.MedianUPercent, refused,
		})
	}
	return json.Marshal(rows)
}

// FaultRows is written as one array for each row, as Cells are.
type FaultRows []Row

// MarshalJSON implements json.Marshaler.
func (f FaultRows) MarshalJSON() ([]byte, error) {
	side := []string{"passes", "accepted", "within_mpe", "largest_error_percent_of_mpe", "refused_by_code"}
	rows := [][]any{{"fault", "severity", map[string]any{"below_3_percent": side}, map[string]any{"from_3_percent": side}}}
	for _, row := range f {
		cells := []any{row.Fault, row.Severity}
		for _, x := range []Figures{row.Bounded, row.Beyond} {
			refused := x.Refused
			if refused == nil {
				refused = map[string]int{}
			}
			cells = append(cells, []any{x.Passes, x.Accepted, x.WithinMPE, x.LargestErrorPercent, refused})
		}
		rows = append(rows, cells)
	}
	return json.Marshal(rows)
}

// Share returns part of whole in percent, NaN of nothing.
func Share(part, whole int) float64 {
	if whole == 0 {
		return math.NaN()
	}
	return 100 * float64(part) / float64(whole)
}

// Package campaign measures a speed module against simulated passes of known
// truth and reports figures: the test behind a type approval's test report.
//
// Source: docs/metrology.md, "Rules for speed meters": the maximum permissible
// error (MPE) is 3 km/h up to 100 km/h and 3 % above (OIML R 91, from a secondary
// source; no conformity is claimed). All passes are simulated (package sim).
//
// Invariants:
//   - A report depends on the Config and the module only; its passes are drawn
//     from generators numbered (seed, pass), so any pass can be repeated alone.
//   - An accepted value counts whatever its stated uncertainty.
//   - A pass longer than maxVectorBytes is no meter's: the module is not asked, and
//     it counts as a refusal, MALFORMED_INPUT.
package campaign

import (
	"fmt"
	"math"
	"sort"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// Measure is a module: exact input bytes to result bytes; abi.CodeExecutionFailed
// without values where it gave no result.
type Measure func(input []byte) []byte

// Seeds: tuning an algorithm may look at passes of TuningSeed only, and only at
// sim.TuningFamilies; the figures that count come from TestSeed.
const (
	TuningSeed uint64 = 1
	TestSeed   uint64 = 20_260_301
)

// maxVectorBytes is the ledger's bound on raw vectors (core/record,
// MaxRawVectorBytes; core builds on this module, so it cannot be asked here).
const maxVectorBytes = 512 << 10

// Config describes a campaign; Default fills what approval asks for.
type Config struct {
	Seed      uint64       `json:"seed"`
	RatesHz   []float64    `json:"rates_hz"`
	SpeedsKmh []float64    `json:"speeds_kmh"`
	SpacingM  float64      `json:"spacing_m"`
	Channels  int          `json:"channels"`
	Passes    int          `json:"passes_per_speed_and_rate"`
	Families  []sim.Family `json:"families"`
}

// Default is the campaign of a type approval: 1 and 2 kHz, two channels 2 m
// apart, 29 speeds from 10 to 150 km/h, 100 passes at each, all families.
func Default() Config {
	c := Config{Seed: TestSeed, RatesHz: []float64{1000, 2000}, SpacingM: 2, Channels: 2, Passes: 100, Families: sim.Families}
	for v := 10.0; v <= 150; v += 5 {
		c.SpeedsKmh = append(c.SpeedsKmh, v)
	}
	return c
}

// MPE returns the maximum permissible error in km/h at a true speed in km/h.
func MPE(speedKmh float64) float64 { return max(3, 0.03*speedKmh) }

// Figures sums up passes.
type Figures struct {
	Passes   int            `json:"passes"`
	Accepted int            `json:"accepted"`
	Refused  map[string]int `json:"refused_by_code"`

	LargestErrorKmh     float64 `json:"largest_error_kmh"`
	LargestErrorPerMPE  float64 `json:"largest_error_per_mpe"`
	WithinMPE           int     `json:"within_mpe"`
	WithinThird         int     `json:"within_a_third_of_mpe"`
	CoveredByU          int     `json:"covered_by_u"`
	MedianUPerMPE       float64 `json:"median_u_per_mpe"`
	LengthCoveredByU    int     `json:"length_covered_by_u"`
	LargestErrorMessage string  `json:"largest_error_pass"`

	ratios []float64 // U per MPE of every accepted pass
}

// Row is the figures of one speed, all rates together.
type Row struct {
	SpeedKmh float64 `json:"speed_kmh"`
	Figures
}

// Report is the outcome of Accuracy.
type Report struct {
	Config Config  `json:"config"`
	Total  Figures `json:"total"`
	Rows   []Row   `json:"by_speed"`
}

// Accuracy runs good passes. The error is one of the configuration or of the
// module's output encoding, never one of measurement: those are in the report.
func Accuracy(c Config, measure Measure) (Report, error) {
	r := Report{Config: c}
	pass := uint64(0)
	for _, v := range c.SpeedsKmh {
		row := Row{SpeedKmh: v}
		for _, rate := range c.RatesHz {
			for range c.Passes {
				pass++
				rng := sim.NewRand(c.Seed, pass)
				conditions := sim.Good(v, rate, c.SpacingM, c.Families, rng)
				conditions.Channels = c.Channels
				recording := sim.Pass(conditions, rng)
				out, err := run(recording, c.SpacingM, measure)
				if err != nil {
					return Report{}, fmt.Errorf("pass %d of seed %d: %w", pass, c.Seed, err)
				}
				what := fmt.Sprintf("seed %d pass %d: %v, %v, %g km/h, %g Hz", c.Seed, pass, conditions.Vehicle, conditions.Family, v, rate)
				row.add(recording.Truth, out, what)
				r.Total.add(recording.Truth, out, what)
			}
		}
		row.finish()
		r.Rows = append(r.Rows, row)
	}
	r.Total.finish()
	return r, nil
}

// run measures one recording with the default parameters at its spacing. The
// result has all values, but for the two that come of no run of the module.
func run(r sim.Recording, spacingM float64, measure Measure) (abi.Output, error) {
	if 2*len(r.Samples)*len(r.Samples[0]) > maxVectorBytes {
		return abi.Output{Code: speed.MalformedInput}, nil
	}
	input, err := abi.EncodeInput(abi.Input{
		SampleRateMillihertz: uint64(math.Round(r.RateHz * 1000)),
		Parameters:           speed.DefaultParameters(int64(math.Round(spacingM * 1000))),
		Samples:              r.Samples,
	})
	if err != nil {
		return abi.Output{}, err
	}
	out, err := abi.DecodeOutput(measure(input))
	if err != nil {
		return abi.Output{}, err
	}
	if out.Code == abi.CodeExecutionFailed && len(out.Values) == 0 {
		return out, nil
	}
	if len(out.Values) != speed.ValueCount {
		return abi.Output{}, fmt.Errorf("code %d came with %d values, the schema has %d", out.Code, len(out.Values), speed.ValueCount)
	}
	return out, nil
}

// speedError returns the error of an accepted value in km/h, signed by
// direction; a pass without a true speed makes any value as wrong as it is large.
func speedError(t sim.Truth, out abi.Output) float64 {
	value := float64(out.Values[speed.ValueSpeed]) / 1000
	if t.SpeedKmh > 0 && out.Values[speed.ValueDirection] != int64(t.Direction) {
		return value + t.SpeedKmh
	}
	return value - t.SpeedKmh
}

func (f *Figures) add(t sim.Truth, out abi.Output, what string) {
	f.Passes++
	if out.Code != speed.Valid {
		if f.Refused == nil {
			f.Refused = map[string]int{}
		}
		f.Refused[CodeName(out.Code)]++
		return
	}
	f.Accepted++
	e, mpe := math.Abs(speedError(t, out)), MPE(t.SpeedKmh)
	u := float64(out.Values[speed.ValueSpeedUncertainty]) / 1000
	f.LargestErrorKmh = max(f.LargestErrorKmh, e)
	if e/mpe > f.LargestErrorPerMPE {
		f.LargestErrorPerMPE, f.LargestErrorMessage = e/mpe, what
	}
	if e <= mpe {
		f.WithinMPE++
	}
	if e <= mpe/3 {
		f.WithinThird++
	}
	if e <= u {
		f.CoveredByU++
	}
	lengthError := math.Abs(float64(out.Values[speed.ValueLength])/1000 - t.LengthM)
	if lengthError <= float64(out.Values[speed.ValueLengthUncertainty])/1000 {
		f.LengthCoveredByU++
	}
	f.ratios = append(f.ratios, u/mpe)
}

func (f *Figures) finish() {
	if len(f.ratios) == 0 {
		return
	}
	sort.Float64s(f.ratios)
	f.MedianUPerMPE = f.ratios[len(f.ratios)/2]
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

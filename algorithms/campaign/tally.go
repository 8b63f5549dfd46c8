package campaign

import (
	"cmp"
	"math"
	"slices"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// worstKept is how many passes with the largest errors each tally keeps.
const worstKept = 3

// tally counts passes; tallies add up in any order. The exported fields are what
// a checkpoint keeps.
type tally struct {
	Passes, Accepted                             int
	WithinMPE, WithinThird, Covered, LengthCover int
	Refused                                      map[string]int `json:",omitempty"`
	// Kinds counts by vehicle, and by family of shapes: how often each code came.
	Kinds map[string]map[string]int `json:",omitempty"`
	// Of every accepted pass, sorted by finish: the error's absolute value and the
	// stated expanded uncertainty, in millionths of the MPE.
	Errors, Us []int32 `json:",omitempty"`
	// SumErrors adds up signed errors, in the same unit.
	SumErrors       int64
	LargestErrorKmh float64
	Worst           []WorstPass `json:",omitempty"`

	Calls, Failed, Checked, EnginesDiffer, TwinCompared, TwinsDiffer int
	Fuel                                                             uint64   // the largest of one call
	Differing                                                        []string `json:",omitempty"` // names of passes on which engines or twins differed
}

// WorstPass is an accepted pass with a large error.
type WorstPass struct {
	Name         string  `json:"pass"`
	SpeedKmh     float64 `json:"true_speed_kmh"`
	ErrorKmh     float64 `json:"error_kmh"` // signed
	UKmh         float64 `json:"expanded_uncertainty_kmh"`
	ErrorPercent float64 `json:"error_percent_of_mpe"`
}

// ppm rounds a fraction to whole millionths, the largest first bounded: whatever
// is wrong by more than a thousand times the MPE is wrong by that.
func ppm(fraction float64) int32 { return int32(math.Round(1e6 * max(-1000, min(1000, fraction)))) }

// speedError returns the error of an accepted value in km/h, signed by
// direction; a pass without a true speed makes any value as wrong as it is large.
func speedError(t sim.Truth, out abi.Output) float64 {
	value := float64(out.Values[speed.ValueSpeed]) / 1000
	if t.SpeedKmh > 0 && out.Values[speed.ValueDirection] != int64(t.Direction) {
		return value + t.SpeedKmh
	}
	return value - t.SpeedKmh
}

// add counts a result.
func (t *tally) add(pass string, truth sim.Truth, out abi.Output) {
	t.Passes++
	if out.Code != speed.Valid {
		if t.Refused == nil {
			t.Refused = map[string]int{}
		}
		t.Refused[CodeName(out.Code)]++
		return
	}
	t.Accepted++
	signed, mpe := speedError(truth, out), MPE(truth.SpeedKmh)
	e, u := math.Abs(signed), float64(out.Values[speed.ValueSpeedUncertainty])/1000
	if e <= mpe {
		t.WithinMPE++
	}
	if e <= mpe/3 {
		t.WithinThird++
	}
	if e <= u {
		t.Covered++
	}
	lengthError := math.Abs(float64(out.Values[speed.ValueLength])/1000 - truth.LengthM)
	if lengthError <= float64(out.Values[speed.ValueLengthUncertainty])/1000 {
		t.LengthCover++
	}
	t.Errors, t.Us = append(t.Errors, ppm(e/mpe)), append(t.Us, ppm(u/mpe))
	t.SumErrors += int64(ppm(signed / mpe))
	t.LargestErrorKmh = max(t.LargestErrorKmh, round(e, 3))
	t.keepWorst(WorstPass{pass, round(truth.SpeedKmh, 3), round(signed, 3), u, float64(ppm(e/mpe)) / 1e4})
}

// count counts what the engines said beside the result.
func (t *tally) count(pass string, a Answer) {
	one := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	t.Calls++
	t.Failed += one(a.Failed)
	t.Checked += one(a.Checked)
	t.EnginesDiffer += one(a.EnginesDiffer)
	t.TwinCompared += one(a.TwinCompared)
	t.TwinsDiffer += one(a.TwinsDiffer)
	t.Fuel = max(t.Fuel, a.Fuel)
	if a.EnginesDiffer || a.TwinsDiffer {
		t.Differing = append(t.Differing, pass)
	}
}

func (t *tally) keepWorst(w ...WorstPass) {
	t.Worst = append(t.Worst, w...)
	slices.SortFunc(t.Worst, func(a, b WorstPass) int {
		return cmp.Or(cmp.Compare(b.ErrorPercent, a.ErrorPercent), cmp.Compare(a.Name, b.Name))
	})
	t.Worst = t.Worst[:min(len(t.Worst), worstKept)]
}

// finish sorts what later is read in order.
func (t *tally) finish() {
	slices.Sort(t.Errors)
	slices.Sort(t.Us)
	slices.Sort(t.Differing)
}

// addKind counts a result's code for a vehicle and for a family.
func (t *tally) addKind(kind, code string, n int) {
	if t.Kinds == nil {
		t.Kinds = map[string]map[string]int{}
	}
	if t.Kinds[kind] == nil {
		t.Kinds[kind] = map[string]int{}
	}
	t.Kinds[kind][code] += n
}

// merge adds another tally; finish must follow the last.
func (t *tally) merge(o *tally) {
	t.Passes += o.Passes
	t.Accepted += o.Accepted
	t.WithinMPE += o.WithinMPE
	t.WithinThird += o.WithinThird
	t.Covered += o.Covered
	t.LengthCover += o.LengthCover
	for code, n := range o.Refused {
		if t.Refused == nil {
			t.Refused = map[string]int{}
		}
		t.Refused[code] += n
	}
	for kind, codes := range o.Kinds {
		for code, n := range codes {
			t.addKind(kind, code, n)
		}
	}
	t.Errors, t.Us = append(t.Errors, o.Errors...), append(t.Us, o.Us...)
	t.SumErrors += o.SumErrors
	t.LargestErrorKmh = max(t.LargestErrorKmh, o.LargestErrorKmh)
	t.keepWorst(o.Worst...)
	t.Calls += o.Calls
	t.Failed += o.Failed
	t.Checked += o.Checked
	t.EnginesDiffer += o.EnginesDiffer
	t.TwinCompared += o.TwinCompared
	t.TwinsDiffer += o.TwinsDiffer
	t.Fuel = max(t.Fuel, o.Fuel)
	t.Differing = append(t.Differing, o.Differing...)
}

// Figures sums up passes. Percentages are of the MPE at the true speed, rounded
// to hundredths; percentiles are by nearest rank, 0 where nothing was accepted.
type Figures struct {
	Passes   int            `json:"passes"`
	Accepted int            `json:"accepted"`
	Refused  map[string]int `json:"refused_by_code,omitempty"`

	WithinMPE       int `json:"within_mpe"`
	WithinThird     int `json:"within_a_third_of_mpe"`
	CoveredByU      int `json:"covered_by_u"`
	LengthCoveredBy int `json:"length_covered_by_u"`

	MeanErrorPercent    float64 `json:"mean_error_percent_of_mpe"` // signed
	MedianErrorPercent  float64 `json:"median_error_percent_of_mpe"`
	P95ErrorPercent     float64 `json:"p95_error_percent_of_mpe"`
	P99ErrorPercent     float64 `json:"p99_error_percent_of_mpe"`
	LargestErrorPercent float64 `json:"largest_error_percent_of_mpe"`
	LargestErrorKmh     float64 `json:"largest_error_kmh"`
	LargestErrorPass    string  `json:"largest_error_pass,omitempty"`
	MedianUPercent      float64 `json:"median_u_percent_of_mpe"`
}

// IsZero leaves figures of no pass out of a report.
func (f Figures) IsZero() bool { return f.Passes == 0 }

// AboveMPE counts accepted passes with an error above the MPE.
func (f Figures) AboveMPE() int { return f.Accepted - f.WithinMPE }

// figures reads a finished tally.
func (t *tally) figures() Figures {
	f := Figures{
		Passes: t.Passes, Accepted: t.Accepted, Refused: t.Refused,
		WithinMPE: t.WithinMPE, WithinThird: t.WithinThird, CoveredByU: t.Covered, LengthCoveredBy: t.LengthCover,
		MedianErrorPercent: percent(t.Errors, 50), P95ErrorPercent: percent(t.Errors, 95), P99ErrorPercent: percent(t.Errors, 99),
		LargestErrorPercent: percent(t.Errors, 100), LargestErrorKmh: t.LargestErrorKmh, MedianUPercent: percent(t.Us, 50),
	}
	if t.Accepted > 0 {
		f.MeanErrorPercent = round(float64(t.SumErrors)/float64(t.Accepted)/1e4, 2)
		f.LargestErrorPass = t.Worst[0].Name
	}
	return f
}

// percent returns a percentile of sorted millionths by nearest rank, in percent.
func percent(sorted []int32, percentile int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*percentile + 99) / 100
	return round(float64(sorted[rank-1])/1e4, 2)
}

func round(x float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(x*scale) / scale
}

package sim

import (
	"math"
	"reflect"
	"testing"
)

const testSeed = 4711

// TestPassIsDeterministic: the same seed gives the same recording, another seed
// another.
func TestPassIsDeterministic(t *testing.T) {
	draw := func(seed uint64) Recording {
		rng := NewRand(seed, 1)
		return Pass(Good(60, 1000, 2, Families, rng), rng)
	}
	if !reflect.DeepEqual(draw(testSeed), draw(testSeed)) {
		t.Error("one seed gave two recordings")
	}
	if reflect.DeepEqual(draw(testSeed), draw(testSeed+1)) {
		t.Error("two seeds gave one recording")
	}
}

// TestTruth checks the measurand against closed forms: constant speed, constant
// acceleration, direction.
func TestTruth(t *testing.T) {
	for _, v := range []float64{10, 60, 250} {
		for _, a := range []float64{0, 0.3, -0.3} {
			c := Config{Vehicle: Car, SpeedKmh: v, AccelerationMss: a, Channels: 3, SpacingM: 2, SpacingErrorM: 0.1, LoopLengthM: 2, RateHz: 2000, AgainstDirection: a < 0}
			truth := Pass(c, NewRand(testSeed, 2)).Truth
			// Speed where front, or rear, is half-way between the outer loops' middles.
			half, mid := truth.LengthM/2, v/3.6
			lead, trail := math.Sqrt(mid*mid-2*a*half)*3.6, math.Sqrt(mid*mid+2*a*half)*3.6
			if math.Abs(truth.LeadingKmh-lead) > 0.006*v || math.Abs(truth.TrailingKmh-trail) > 0.006*v {
				t.Errorf("%g km/h, %g m/s2: leading %.3f, want %.3f; trailing %.3f, want %.3f", v, a, truth.LeadingKmh, lead, truth.TrailingKmh, trail)
			}
			if a == 0 && math.Abs(truth.SpeedKmh-v) > 1e-6*v {
				t.Errorf("constant %g km/h is %.9f", v, truth.SpeedKmh)
			}
			if want := map[bool]int{false: 1, true: -1}[a < 0]; truth.Direction != want {
				t.Errorf("direction %d, want %d", truth.Direction, want)
			}
		}
	}
}

// TestShapes: every family and vehicle gives a pulse of one piece: normalised,
// nearly nothing far away, never down to a tenth between its outer quarters.
func TestShapes(t *testing.T) {
	for _, f := range Families {
		for _, v := range Vehicles {
			for i := range uint64(20) {
				rng := NewRand(testSeed, i)
				length := v.drawLength(rng)
				s := newShape(f, v, length, 2, rng)
				top, lowest := 0.0, 1.0
				for u := -reachM; u < length+2+reachM; u += 0.01 {
					top = max(top, s.at(u))
					if u > 1+0.25*length && u < 1+0.75*length {
						lowest = min(lowest, s.at(u))
					}
				}
				if math.Abs(top-1) > 0.01 || lowest < 0.1 || math.Abs(s.at(-4)) > 0.03 || math.Abs(s.at(length+6)) > 0.03 {
					t.Errorf("%v %v %d: top %.3f, lowest inside %.3f, 4 m before %.3f, 4 m behind %.3f", f, v, i, top, lowest, s.at(-4), s.at(length+6))
				}
			}
		}
	}
}

// TestFaultsGrow: severity 0 changes nothing, severity 1 changes the recording
// or the truth.
func TestFaultsGrow(t *testing.T) {
	pass := func(f Fault, s float64) Recording {
		rng := NewRand(testSeed, 3)
		c := Good(60, 1000, 2, Families, rng)
		c.Vehicle, c.AccelerationMss, c.Fault, c.Severity = Car, 0, f, s
		return Pass(c, rng)
	}
	for _, f := range Faults {
		none, gross := pass(f, 0), pass(f, 1)
		if math.Abs(none.Truth.SpeedKmh-60) > 0.01 {
			t.Errorf("%v of severity 0 has true speed %g", f, none.Truth.SpeedKmh)
		}
		if reflect.DeepEqual(none.Samples, gross.Samples) {
			t.Errorf("%v: severities 0 and 1 give one recording", f)
		}
	}
	if s := pass(Reversal, 1).Truth.SpeedKmh; s != 0 {
		t.Errorf("a vehicle that drives back has true speed %g", s)
	}
}

// TestGoodStaysWithinItsWord checks the documented ranges of good traffic.
func TestGoodStaysWithinItsWord(t *testing.T) {
	for i := range uint64(500) {
		rng := NewRand(testSeed, i)
		v := 10 + 140*rng.Float64()
		c := Good(v, 1000, 2, TuningFamilies, rng)
		if c.Family == Circuits || c.Family == Rectangle || c.NoiseCounts < 2 || c.NoiseCounts > 12 || c.Crosstalk > 0.003 || c.Fault != NoFault || c.Bits < 14 {
			t.Errorf("%d: %+v", i, c)
		}
		r := Pass(c, rng)
		if len(r.Samples) != 2 || len(r.Samples[0]) != len(r.Samples[1]) || len(r.Samples[0]) < 2*minLeadSamples {
			t.Errorf("%d: %d channels, %d samples", i, len(r.Samples), len(r.Samples[0]))
		}
		if math.Abs(r.Truth.LeadingKmh-r.Truth.TrailingKmh) > 0.1*v {
			t.Errorf("%d: front at %g, rear at %g km/h", i, r.Truth.LeadingKmh, r.Truth.TrailingKmh)
		}
	}
}

// TestAcceleratingStaysWithinItsWord: as strong as asked, or as the bound on the
// change of speed allows, in both directions; and no vehicle turns.
func TestAcceleratingStaysWithinItsWord(t *testing.T) {
	braking, strong := 0, 0
	for i := range uint64(300) {
		rng := NewRand(testSeed, i)
		v := 10 + 240*rng.Float64()
		c := Accelerating(v, 1000, 3, 2, TuningFamilies, rng)
		if a := math.Abs(c.AccelerationMss); a > 2 || v > 100 && a < 2 {
			t.Errorf("%d: %g m/s2 at %g km/h", i, a, v)
		}
		if c.AccelerationMss < 0 {
			braking++
		}
		truth := Pass(c, rng).Truth
		change := math.Abs(truth.LeadingKmh-truth.TrailingKmh) / v
		if truth.SpeedKmh == 0 || change > 0.3 {
			t.Errorf("%d: front at %g, rear at %g km/h", i, truth.LeadingKmh, truth.TrailingKmh)
		}
		if change > 0.05 {
			strong++
		}
	}
	if braking < 100 || braking > 200 || strong < 30 {
		t.Errorf("of 300 passes %d brake, %d are stronger than good traffic", braking, strong)
	}
}

// TestNearestIsRound, at ties and beside them too.
func TestNearestIsRound(t *testing.T) {
	for _, x := range []float64{0, 0.5, -0.5, 1.5, -2.5, math.Nextafter(0.5, 0), math.Nextafter(-0.5, 0), math.Nextafter(0.5, 1), 32767.5, -32768.5, 1e6 + 0.25, -1e9 - 0.75} {
		if got, want := nearest(x), math.Round(x); got != want {
			t.Errorf("nearest(%v) = %v, want %v", x, got, want)
		}
	}
	rng := NewRand(testSeed, 9)
	for range 10_000 {
		if x := 1e5 * rng.NormFloat64(); nearest(x) != math.Round(x) {
			t.Fatalf("nearest(%v) = %v", x, nearest(x))
		}
	}
}

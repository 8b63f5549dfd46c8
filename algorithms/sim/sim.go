// Package sim simulates vehicles over inductive loops, with known truth.
//
// Source: docs/metrology.md, "The signal and the algorithm". No public recording
// of two loops with a known speed was found, so the physics is simulated and
// every figure drawn from it is one of *simulated* loops, not of a road.
//
// Model: the front of a vehicle moves along x(t); channel c, whose leading edge
// lies at x_c, sees the vehicle's shape S(x(t)-x_c), a smooth function of
// position alone (family.go). Gain mismatch, crosstalk, drift, noise, limiting
// and quantisation follow, in the order of a real signal chain. Nothing here is
// shared with the algorithm that is tested against it.
//
// Invariants:
//   - Pass depends on its Config and the random generator only: the same seed
//     gives the same recording (on one architecture: floats may fuse on another).
//   - A fault of severity 0 is invisible; severity 1 is gross.
package sim

import (
	"math"
	"math/rand/v2"
)

// Config describes one pass. Zero values mean: no noise, no drift, equal gains.
type Config struct {
	Vehicle Vehicle
	Family  Family

	SpeedKmh         float64 // of the front when the vehicle is half-way over the array
	AccelerationMss  float64 // constant, m/s^2
	AgainstDirection bool    // drives from the last channel to the first

	Channels      int     // N >= 2
	SpacingM      float64 // nominal, leading edge to leading edge, as registered
	SpacingErrorM float64 // true spacing less nominal
	LoopLengthM   float64
	RateHz        float64

	AmplitudeCounts   float64 // peak of the undistorted signal; 0: typical of the vehicle
	NoiseCounts       float64 // standard deviation of white noise, before the limiter
	DriftCountsPerSec float64 // largest drift of a channel, its sign and size drawn per channel
	GainMismatch      float64 // channel gains are drawn from 1 ± this
	Crosstalk         float64 // fraction of each neighbour's signal
	Bits              int     // effective bits of the converter; 0: 16

	Fault    Fault
	Severity float64 // 0 invisible to 1 gross
}

// Truth is what really happened.
type Truth struct {
	// SpeedKmh is the measurand: the mean of LeadingKmh and TrailingKmh. It is 0
	// when the front or the rear did not cross the whole array in one direction.
	SpeedKmh float64
	// LeadingKmh and TrailingKmh are the mean speeds of the front, and of the
	// rear, between the middle of the first loop and that of the last.
	LeadingKmh, TrailingKmh float64
	LengthM                 float64 // bumper to bumper
	Direction               int     // +1 from the first to the last channel
}

// Recording is one pass as the meter would have sampled it.
type Recording struct {
	Samples [][]int16 // [channel][sample], counts
	RateHz  float64
	Truth   Truth
}

// NewRand returns the generator that campaigns seed; a seed has two words, so
// that a campaign and a pass within it can be numbered apart.
func NewRand(campaign, pass uint64) *rand.Rand {
	return rand.New(rand.NewPCG(campaign, pass))
}

// fringeM is how far from the array, in metres, the recording starts and ends
// to follow a vehicle; the quiet lead-in comes before, the lead-out after.
const fringeM = 3.0

// Lead-in and lead-out: a tenth of the passage, within these bounds in samples.
const minLeadSamples, maxLeadSamples = 32, 2048

// body is one moving vehicle, its strength and its way along time.
type body struct {
	shape     shape
	amplitude float64
	front     []float64 // front's position at each sample, m, in driving direction
	fade      []float64 // lateral coupling at each sample; nil: 1
}

// Pass simulates one pass.
func Pass(c Config, rng *rand.Rand) Recording {
	if c.Fault == OutOfRange {
		c.SpeedKmh = beyondRange(c.SpeedKmh, c.Severity, rng)
	}
	length := c.Vehicle.drawLength(rng)
	main := body{
		shape:     newShape(c.Family, c.Vehicle, length, c.LoopLengthM, rng),
		amplitude: c.AmplitudeCounts,
	}
	if main.amplitude == 0 {
		main.amplitude = c.Vehicle.drawAmplitude(rng)
	}
	span := (c.SpacingM + c.SpacingErrorM) * float64(c.Channels-1)
	m := newMotion(c, length, span, rng)
	main.front = m.positions()
	plan := planFault(c, &main, length, m, rng)
	samples := sampleChannels(c, plan, rng)
	return Recording{Samples: samples, RateHz: c.RateHz, Truth: truthOf(c, main.front, length, span)}
}

// truthOf finds when front and rear crossed the middles of the outer loops, by
// linear interpolation between samples.
func truthOf(c Config, front []float64, length, span float64) Truth {
	t := Truth{LengthM: length, Direction: 1}
	if c.AgainstDirection {
		t.Direction = -1
	}
	mean := func(from float64) float64 {
		enter, left := lastCrossing(front, from), lastCrossing(front, from+span)
		if enter < 0 || left <= enter {
			return 0
		}
		return span / (left - enter) * c.RateHz * 3.6
	}
	t.LeadingKmh, t.TrailingKmh = mean(c.LoopLengthM/2), mean(c.LoopLengthM/2+length)
	if t.LeadingKmh > 0 && t.TrailingKmh > 0 {
		t.SpeedKmh = (t.LeadingKmh + t.TrailingKmh) / 2
	}
	return t
}

// lastCrossing returns the sample at which x was last passed upwards, or -1 if
// it was not, or was passed downwards afterwards.
func lastCrossing(front []float64, x float64) float64 {
	for i := len(front) - 1; i > 0; i-- {
		if front[i-1] >= x && front[i] < x {
			return -1
		}
		if front[i-1] < x && front[i] >= x {
			return float64(i-1) + (x-front[i-1])/(front[i]-front[i-1])
		}
	}
	return -1
}

// sampleChannels runs the signal chain: vehicles, gain, crosstalk, drift,
// noise, limiter, converter.
func sampleChannels(c Config, p plan, rng *rand.Rand) [][]int16 {
	n := len(p.bodies[0].front)
	spacing := c.SpacingM + c.SpacingErrorM
	clean := make([][]float64, c.Channels)
	for ch := range clean {
		place := float64(ch) * spacing
		if c.AgainstDirection {
			place = float64(c.Channels-1-ch) * spacing
		}
		gain := 1 + c.GainMismatch*(2*rng.Float64()-1)
		clean[ch] = make([]float64, n)
		for _, b := range p.bodies {
			for i, front := range b.front {
				s := b.shape.at(front-place) * b.amplitude * gain
				if b.fade != nil {
					s *= b.fade[i]
				}
				clean[ch][i] += s
			}
		}
	}
	quantum := 1.0
	if c.Bits > 0 {
		quantum = math.Exp2(float64(16 - c.Bits))
	}
	out := make([][]int16, c.Channels)
	for ch := range out {
		offset := 1000 * (2*rng.Float64() - 1)
		drift := c.DriftCountsPerSec * (2*rng.Float64() - 1) / c.RateHz
		out[ch] = make([]int16, n)
		for i := range out[ch] {
			v := clean[ch][i]
			if ch > 0 {
				v += p.crosstalk * clean[ch-1][i]
			}
			if ch+1 < c.Channels {
				v += p.crosstalk * clean[ch+1][i]
			}
			if p.gainAt != nil {
				v *= p.gainAt(ch, i)
			}
			v += p.noise * rng.NormFloat64()
			v = min(v, p.limit[ch])
			v += offset + drift*float64(i)
			v = nearest(v/quantum) * quantum
			out[ch][i] = int16(max(math.MinInt16, min(math.MaxInt16, v)))
		}
		out[ch] = out[ch][p.first : n-p.dropped]
	}
	return out
}

// nearest is math.Round without branches, which noise makes unpredictable.
func nearest(x float64) float64 {
	whole := math.Trunc(x)
	return whole + math.Trunc(2*(x-whole))
}

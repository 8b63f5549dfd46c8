package sim

import (
	"math"
	"math/rand/v2"
)

// Fault is something wrong with a pass or with the instrument.
type Fault int

// The simulated faults. The first eight must be refused once they matter; the
// last three are disturbances beyond those of good traffic.
const (
	NoFault     Fault = iota
	Saturation        // the converter's range is too small for the signal
	Clipping          // the amplifier limits, on one channel or on all
	MissingEdge       // the recording starts late, ends early, or a channel drops out
	TwoVehicles       // another vehicle before, behind, or alongside, of growing strength
	Reversal          // the vehicle slows down, stops, or drives back
	LaneChange        // the vehicle leaves or joins the lane while over the array
	DeadChannel       // one channel loses its sensitivity
	OutOfRange        // slower or faster than the meter is made for
	Noise             // white noise up to a third of the signal
	Braking           // strong constant acceleration or braking
	Crosstalk         // channels couple
)

// Faults lists every fault.
var Faults = []Fault{Saturation, Clipping, MissingEdge, TwoVehicles, Reversal, LaneChange, DeadChannel, OutOfRange, Noise, Braking, Crosstalk}

// String returns the name used in reports.
func (f Fault) String() string {
	return [...]string{"none", "saturation", "clipping", "missing edge", "two vehicles", "reversal", "lane change", "dead channel", "out of range", "noise", "braking", "crosstalk"}[f]
}

// MarshalText gives reports the name instead of the number.
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// plan is what the signal chain has to do for one pass.
type plan struct {
	bodies    []body
	noise     float64
	crosstalk float64
	limit     []float64                         // per channel, counts above the offset
	gainAt    func(channel, sample int) float64 // nil: 1
	first     int                               // samples cut from the recording's start
	dropped   int                               // samples cut from its end
}

func planFault(c Config, main *body, length float64, m motion, rng *rand.Rand) plan {
	n := len(main.front)
	p := plan{noise: c.NoiseCounts, crosstalk: c.Crosstalk, limit: make([]float64, c.Channels)}
	for i := range p.limit {
		p.limit[i] = math.Inf(1)
	}
	s, victim := c.Severity, rng.IntN(c.Channels)
	switch c.Fault {
	case Saturation:
		main.amplitude = 29000 + s*100000
	case Clipping:
		all := rng.IntN(2) == 0
		for i := range p.limit {
			if all || i == victim {
				p.limit[i] = main.amplitude * (1 + c.GainMismatch) * (1.05 - 0.85*s)
			}
		}
	case MissingEdge:
		cut := int(s * float64(n) / 2)
		switch rng.IntN(3) {
		case 0:
			p.first = cut
		case 1:
			p.dropped = cut
		default:
			p.gainAt = func(channel, sample int) float64 {
				if channel == victim && sample >= n-cut {
					return 0
				}
				return 1
			}
		}
	case LaneChange:
		main.fade = fade(n, s, c.RateHz, rng)
	case DeadChannel:
		p.gainAt = func(channel, _ int) float64 {
			if channel == victim {
				return 1 - s
			}
			return 1
		}
	case Noise:
		p.noise += s * main.amplitude / 3
	case Crosstalk:
		p.crosstalk += s * 0.4
	}
	p.bodies = []body{*main}
	if c.Fault == TwoVehicles {
		p.bodies = append(p.bodies, secondBody(c, *main, length, m, rng))
	}
	return p
}

// fade is the coupling of a vehicle that leaves its lane (or joins it) while it
// passes, losing the fraction s of its signal. At a lateral speed of 3 m/s, a
// violent one, it takes half a second to lose a loop 1.5 m wide.
func fade(n int, s, rateHz float64, rng *rand.Rand) []float64 {
	middle := (0.2 + 0.6*rng.Float64()) * float64(n)
	width := max((0.05+0.3*rng.Float64())*float64(n), (0.25+0.25*rng.Float64())*rateHz)
	joins := rng.IntN(2) == 0
	out := make([]float64, n)
	for i := range out {
		gone := (1 + math.Tanh((float64(i)-middle)/width)) / 2
		if joins {
			gone = 1 - gone
		}
		out[i] = 1 - s*gone
	}
	return out
}

// secondBody is another vehicle with a speed of its own: two times in three in
// the same lane, before or behind at half a metre to 15 m between bumpers, its
// strength growing with severity; else in the adjacent lane, anywhere, in either
// direction, coupling up to a quarter.
func secondBody(c Config, main body, mainLength float64, m motion, rng *rand.Rand) body {
	v := Vehicles[rng.IntN(len(Vehicles))]
	length := v.drawLength(rng)
	second := body{
		shape:     newShape(c.Family, v, length, c.LoopLengthM, rng),
		amplitude: c.Severity * v.drawAmplitude(rng),
		front:     make([]float64, len(main.front)),
	}
	middle := (m.begin + m.end) / 2
	ratio := interval{0.7, 1.3}.draw(rng)
	var offset float64 // of the second front from the first when the first is at middle
	if rng.IntN(3) < 2 {
		// They must not collide while the first is within the recording.
		gap := interval{0.5, 15}.draw(rng) + math.Abs(ratio-1)*(m.end-middle)
		if offset = gap + length; rng.IntN(2) == 0 {
			offset = -gap - mainLength
		}
	} else {
		second.amplitude *= 0.25
		offset = interval{-20, 20}.draw(rng)
		if rng.IntN(2) == 0 {
			ratio = -ratio
		}
	}
	for i, x := range main.front {
		second.front[i] = middle + ratio*(x-middle) + offset
	}
	return second
}

// beyondRange moves a speed towards 2.5 km/h or towards 500 km/h, on a
// logarithmic scale.
func beyondRange(speedKmh, severity float64, rng *rand.Rand) float64 {
	far := 2.5
	if rng.IntN(2) == 0 {
		far = 500
	}
	return speedKmh * math.Pow(far/speedKmh, severity)
}

package sim

import "math/rand/v2"

// Vehicle is a class of vehicle.
type Vehicle int

// The simulated classes.
const (
	Motorcycle Vehicle = iota
	Car
	Van
	Lorry
	LorryWithTrailer
)

// Vehicles lists every class.
var Vehicles = []Vehicle{Motorcycle, Car, Van, Lorry, LorryWithTrailer}

// String returns the name used in reports.
func (v Vehicle) String() string {
	return [...]string{"motorcycle", "car", "van", "lorry", "lorry with trailer"}[v]
}

// MarshalText gives reports the name instead of the number.
func (v Vehicle) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// interval is a range to draw from uniformly.
type interval struct{ low, high float64 }

func (s interval) draw(rng *rand.Rand) float64 { return s.low + (s.high-s.low)*rng.Float64() }

// drawLength returns a length in metres.
func (v Vehicle) drawLength(rng *rand.Rand) float64 {
	return [...]interval{{1.9, 2.3}, {3.6, 5.0}, {4.8, 6.5}, {7, 12}, {14, 18.7}}[v].draw(rng)
}

// drawAmplitude returns a peak in counts: high chassis couple less than low ones.
func (v Vehicle) drawAmplitude(rng *rand.Rand) float64 {
	return [...]interval{{1500, 4000}, {9000, 18000}, {7000, 14000}, {4000, 9000}, {4000, 9000}}[v].draw(rng)
}

// part is a stretch of the vehicle, metres from its front, and how high its
// metal lies above the road, metres.
type part struct{ from, to, height float64 }

// parts draws the underside of a vehicle, front to rear, without holes: a
// drawbar is high and thin metal, but it is there.
func (v Vehicle) parts(length float64, rng *rand.Rand) []part {
	h := func(low, high float64) float64 { return interval{low, high}.draw(rng) }
	cut := func(low, high float64) float64 { return length * h(low, high) }
	switch v {
	case Motorcycle:
		a := cut(0.25, 0.35)
		b := cut(0.7, 0.8)
		return []part{{0.2, a, h(.30, .40)}, {a, b, h(.20, .25)}, {b, length - .2, h(.30, .40)}}
	case Car:
		a, b := cut(0.2, 0.32), cut(0.7, 0.85)
		return []part{{0, a, h(.20, .28)}, {a, b, h(.22, .32)}, {b, length, h(.24, .36)}}
	case Van:
		a := cut(0.2, 0.3)
		return []part{{0, a, h(.25, .32)}, {a, length, h(.30, .40)}}
	case Lorry:
		a, b, c := cut(0.18, 0.25), cut(0.6, 0.7), cut(0.88, 0.95)
		return []part{{0, a, h(.40, .5)}, {a, b, h(.5, .75)}, {b, c, h(.4, .5)}, {c, length, h(.5, .8)}}
	default:
		a, b := cut(0.12, 0.16), cut(0.36, 0.42)
		c := b + h(0.8, 1.6)
		d, e := cut(0.62, 0.68), cut(0.88, 0.94)
		return []part{{0, a, h(.4, .5)}, {a, b, h(.45, .6)}, {b, c, h(.8, 1)}, {c, d, h(.5, .65)}, {d, e, h(.42, .5)}, {e, length, h(.5, .7)}}
	}
}

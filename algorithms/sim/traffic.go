package sim

import (
	"math"
	"math/rand/v2"
)

// Good draws the conditions of an undisturbed pass at free flow: any vehicle,
// noise of 2 to 12 counts, drift up to 10 counts/s, gains within 15 %,
// crosstalk up to 0.3 %, 14 to 16 bits, a spacing known to 3 mm (k = 1), and an
// acceleration of 0.3 m/s^2 (standard deviation) that changes the speed by no
// more than 5 % during the passage. One vehicle in ten drives the other way.
func Good(speedKmh, rateHz, spacingM float64, families []Family, rng *rand.Rand) Config {
	c := Config{
		Vehicle:           Vehicles[rng.IntN(len(Vehicles))],
		Family:            families[rng.IntN(len(families))],
		SpeedKmh:          speedKmh,
		AgainstDirection:  rng.IntN(10) == 0,
		Channels:          2,
		SpacingM:          spacingM,
		SpacingErrorM:     0.003 * rng.NormFloat64(),
		LoopLengthM:       2,
		RateHz:            rateHz,
		NoiseCounts:       2 + 10*rng.Float64(),
		DriftCountsPerSec: 10 * rng.Float64(),
		GainMismatch:      0.15,
		Crosstalk:         0.003 * rng.Float64(),
		Bits:              14 + rng.IntN(3),
	}
	v := speedKmh / 3.6
	seconds := (2*c.LoopLengthM + spacingM + 10) / v
	bound := 0.05 * v / seconds
	c.AccelerationMss = math.Max(-bound, math.Min(bound, 0.3*rng.NormFloat64()))
	return c
}

// Accelerating draws the conditions of a pass that is as Good, but for a strong
// constant acceleration of mss m/s^2, speeding up or braking, as far as the speed
// does not change by more than 30 % during the passage. What is measured then is
// Truth.SpeedKmh as ever: the mean of the front's and the rear's mean speeds over
// the array.
func Accelerating(speedKmh, rateHz, spacingM, mss float64, families []Family, rng *rand.Rand) Config {
	c := Good(speedKmh, rateHz, spacingM, families, rng)
	v := speedKmh / 3.6
	seconds := (2*c.LoopLengthM + 2*spacingM + 20) / v // of the longest vehicle over three channels, about
	c.AccelerationMss = min(mss, 0.3*v/seconds)
	if rng.IntN(2) == 0 {
		c.AccelerationMss = -c.AccelerationMss
	}
	return c
}

package sim

import (
	"math"
	"math/rand/v2"
)

// motion is how a vehicle's front moves: constant acceleration, and for some
// faults a manoeuvre, a linear change to another speed within a short time.
type motion struct {
	rate        float64 // samples per second
	lead        int     // samples of lead-in, and of lead-out
	startSpeed  float64 // m/s when the front enters the fringe
	accel       float64
	begin, end  float64 // positions of the front where the passage begins and ends, m
	manoeuvre   bool
	turnAt      float64 // front's position where the manoeuvre starts, m
	turnSeconds float64
	turnFactor  float64 // speed after it, as a fraction of the speed before
}

func newMotion(c Config, length, span float64, rng *rand.Rand) motion {
	mid := c.SpeedKmh / 3.6
	m := motion{rate: c.RateHz, accel: c.AccelerationMss, begin: -fringeM, end: c.LoopLengthM + length + span + fringeM}
	half := (m.end - m.begin) / 2
	m.startSpeed = math.Sqrt(max(mid*mid-2*m.accel*half, mid*mid/16))
	m.lead = int(min(max(0.1*2*half/mid*m.rate, minLeadSamples), maxLeadSamples))
	switch c.Fault {
	case TwoVehicles:
		if rng.IntN(2) == 0 { // the recording follows both, not just the first
			m.lead = int(25 / m.startSpeed * m.rate)
		}
	case Reversal:
		m.manoeuvre = true
		m.turnFactor = 1 - 2*c.Severity
		m.turnAt = rng.Float64() * (c.LoopLengthM + length + span)
		m.turnSeconds = (0.2 + rng.Float64()) * span / mid
	case Braking:
		m.accel = -c.Severity * 0.6 * mid * mid / (2 * half)
		if rng.IntN(2) == 0 {
			m.accel = -m.accel
		}
		m.startSpeed = math.Sqrt(mid*mid - 2*m.accel*half)
	}
	return m
}

// positions returns the front's position at each sample, lead-in and lead-out
// included. A vehicle that stops or turns is followed for a bounded time.
func (m motion) positions() []float64 {
	dt := 1 / m.rate
	front := make([]float64, 0, 2*m.lead+int(1.3*(m.end-m.begin)/m.startSpeed*m.rate)+1)
	for i := m.lead; i > 0; i-- {
		front = append(front, m.begin-m.startSpeed*dt*float64(i))
	}
	longest := int(3*(m.end-m.begin)/m.startSpeed*m.rate) + 1
	x, v := m.begin, m.startSpeed
	turning := -1.0 // seconds since the manoeuvre began
	var before float64
	for range longest {
		front = append(front, x)
		if x > m.end || x < m.begin {
			break
		}
		next := v + m.accel*dt
		if m.manoeuvre && turning < 0 && x >= m.turnAt {
			turning, before = 0, v
		}
		if turning >= 0 {
			turning += dt
			next = before * (1 + (m.turnFactor-1)*min(1, turning/m.turnSeconds))
		}
		x += (v + next) / 2 * dt
		v = next
	}
	for range m.lead {
		front = append(front, front[len(front)-1]+v*dt)
	}
	return front
}

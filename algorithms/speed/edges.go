package speed

// survey finds each channel's baseline and noise from the lead-in, and its
// extremes, and refuses what has no vehicle in it, or half of one.
func (m *measurement) survey() uint32 {
	lead := leadIn(m.n)
	strongest, worst, best := int64(0), int64(1<<62), int64(0)
	saturated, hollow := false, false
	for i := range m.channels {
		c := &m.channel[i]
		var sum, squares, half, out int64
		for j := range lead {
			x := c.at(j)
			sum += x
			squares += x * x
			if j < lead/2 {
				half += x
			}
			out += c.at(m.n - 1 - j)
		}
		c.low, c.high = c.at(0), c.at(0)
		for j := range m.n {
			c.low, c.high = min(c.low, c.at(j)), max(c.high, c.at(j))
		}
		c.base = sum * 256 / lead
		c.noise = max(74, root((lead*squares-sum*sum)/(lead-1)*65536/lead)) // 74: rounding, 256/sqrt(12)
		c.peak = c.high*256 - c.base
		c.quiet = max(c.peak/16, 6*c.noise)
		lean := abs(sum-2*half) * 512 / lead // second half of the lead-in less the first
		saturated = saturated || c.high == 32767 || c.low == -32768
		drift := (out - sum) * 256 / lead
		if abs(drift) > c.noise { // below, correcting it would add more noise than it takes away
			c.drift = drift
		}
		dip := c.base - c.low*256
		hollow = hollow || dip > c.peak/32+6*c.noise || abs(drift) > c.peak/32+c.noise || lean > max(c.peak/128, c.noise*3/2)
		strongest = max(strongest, c.peak)
		ratio := max(0, c.peak) * 100 / c.noise
		worst, best = min(worst, ratio), max(best, ratio)
	}
	m.value[ValueSignalToNoise] = worst
	m.value[ValuePeakFirst] = m.channel[0].peak / 256
	m.value[ValuePeakLast] = m.channel[m.channels-1].peak / 256
	required := m.parameter[ParameterMinSignalToNoise]
	switch {
	case saturated:
		return Saturation
	case hollow:
		return MissingEdge
	case best < required/4:
		return NoVehicle
	}
	for i := range m.channels {
		if m.channel[i].peak < strongest/8 {
			return DeadChannel
		}
		m.unlike = m.unlike || m.channel[i].peak < strongest*5/8
	}
	if worst < required {
		return LowSNR
	}
	return Valid
}

// leadIn returns how many samples of quiet a recording of n must begin with,
// an even number.
func leadIn(n int64) int64 { return max(16, min(256, n/32*2)) }

// edges finds where each channel crosses its thresholds: first coarsely, by the
// hysteresis on single samples, then finely, on a moving mean whose width is an
// eighth of the delay between the channels. The mean delays all channels alike.
func (m *measurement) edges() uint32 {
	quiet := int64(63) // permille of every channel's peak that only a vehicle exceeds
	for i := range m.channels {
		quiet = max(quiet, m.channel[i].quiet*1000/m.channel[i].peak+1)
	}
	if quiet > m.parameter[ParameterFallPermille] {
		return LowSNR
	}
	for i := range m.channels {
		c := &m.channel[i]
		c.quiet = c.peak * quiet / 1000
		if code := c.cross(m.n, &m.parameter); code != Valid {
			return code
		}
	}
	end := m.channels - 1
	m.half = abs(m.channel[end].on-m.channel[0].on) / end / 16
	rise, fall := m.parameter[ParameterRisePermille], m.parameter[ParameterFallPermille]
	for i := range m.channels {
		c := &m.channel[i]
		c.rise = c.refine(m.n, c.on, m.half, c.baseline(m.n, c.on)+c.peak*rise/1000, 1)
		c.fall = c.refine(m.n, c.off, m.half, c.baseline(m.n, c.off)+c.peak*fall/1000, -1)
		if c.rise.at < 0 || c.fall.at <= c.rise.at {
			return MissingEdge
		}
	}
	return Valid
}

// baseline returns the baseline at a sample, Q8 counts: the line through lead-in
// and lead-out, where they differ by more than noise.
func (c *channel) baseline(n, i int64) int64 {
	lead := leadIn(n)
	return c.base + c.drift*(i-lead/2)/(n-lead)
}

// cross runs the hysteresis over single samples.
func (c *channel) cross(n int64, parameter *[ParameterCount]int64) uint32 {
	rise := (c.base + c.peak*parameter[ParameterRisePermille]/1000) >> 8
	fall := (c.base + c.peak*parameter[ParameterFallPermille]/1000) >> 8
	quiet := (c.base + c.quiet) >> 8
	inside := false
	flat := int64(0)
	c.first = -1
	for i := range n {
		x := c.at(i)
		if x > quiet {
			if c.first < 0 {
				c.first = i
			}
			c.last = i
		}
		if !inside && x > rise {
			inside = true
			if c.pulses == 0 {
				c.on = i
			}
			c.pulses++
		}
		if inside && x <= fall {
			inside = false
			c.off = i
		}
		if x < c.high-2 {
			flat = 0
		} else {
			flat++
			c.flat = max(c.flat, flat)
		}
	}
	switch {
	case !inside && c.flat >= max(8, (c.off-c.on)/16):
		return Clipping
	case inside || c.first < leadIn(n) || c.last >= n-8:
		return MissingEdge
	case c.pulses > 1:
		return TwoVehicles
	}
	return Valid
}

// refine finds where the moving mean over 2*half+1 samples crosses a level (Q8
// counts) near a raw crossing, upwards (sign 1) or downwards (-1).
func (c *channel) refine(n, near, half, level, sign int64) edge {
	width := 2*half + 1
	from := max(half, near-4*half-8)
	to := min(n-1-half, near+4*half+8)
	sum := int64(0)
	for i := from - half; i <= from+half && i < n; i++ {
		sum += c.at(i)
	}
	before := sign * (sum*256 - level*width)
	for i := from + 1; i <= to; i++ {
		sum += c.at(i+half) - c.at(i-half-1)
		after := sign * (sum*256 - level*width)
		if before < 0 && after >= 0 {
			steep := after - before
			ratio := min(c.noise*4096/steep, 1<<22)
			return edge{at: (i-1)*65536 - before*65536/steep, variance: ratio * ratio * width}
		}
		before = after
	}
	return edge{at: -1}
}

func abs(x int64) int64 {
	if x < 0 {
		return -x
	}
	return x
}

// root returns the integer square root of x >= 0, rounded down.
func root(x int64) int64 {
	r := int64(0)
	for bit := int64(1) << 62; bit > 0; bit >>= 2 {
		if x >= r+bit {
			x -= r + bit
			r = r>>1 + bit
		} else {
			r >>= 1
		}
	}
	return r
}

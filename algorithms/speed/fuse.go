package speed

// fuse turns the edges into speeds, adds the correlation's, and states the value
// with its uncertainty or refuses.
func (m *measurement) fuse() uint32 {
	p, v, end := &m.parameter, &m.value, m.channels-1
	head, tail := &m.channel[0], &m.channel[end]
	leading := (tail.rise - head.rise) / end
	trailing := (tail.fall - head.fall) / end
	v[ValueOnTimeFirst] = m.microseconds(head.fall - head.rise)
	v[ValueOnTimeLast] = m.microseconds(tail.fall - tail.rise)
	direction := int64(1)
	if leading < 0 {
		direction, leading, trailing = -1, -leading, -trailing
	}
	if leading <= 0 || trailing <= 0 {
		return Reversal
	}
	v[ValueDirection] = direction
	// speed (km/h, 10^-3) = 3600 * 65536 / 10^9 * spacing (um) * rate (mHz) / delay
	m.scale = p[ParameterSpacingMicrometres] * m.rate / 78125 * 18432
	v[ValueSpeedLeading] = m.scale / leading
	v[ValueSpeedTrailing] = m.scale / trailing
	slowest, fastest := p[ParameterMinSpeed]*18/5, p[ParameterMaxSpeed]*18/5
	edges := m.scale * 2 / (leading + trailing)
	if edges < slowest || edges > fastest {
		return OutOfRange
	}
	// Beyond its thresholds a pulse ends within the length of the loop.
	skirt := (leading+trailing)/2*(p[ParameterLoopLengthMicrometres]/100)/(p[ParameterSpacingMicrometres]/100)/65536 + 2
	for i := range m.channels {
		c := &m.channel[i]
		if c.on-c.first > skirt || c.last-c.off > skirt {
			return TwoVehicles
		}
	}
	shape := m.correlate(direction, (leading+trailing)/2, m.scale/fastest*end>>16, m.scale/slowest*end>>16)
	if shape <= 0 {
		return SpeedsDisagree
	}
	v[ValueSpeedCorrelation] = m.scale / shape
	v[ValueCorrelation] = 1000 - m.unlikeness/1000
	// Noise makes shapes unlike by about 3/SNR^2; acceleration, by the square of
	// the stretch over the product of the lengths of pulse and edge.
	stretch := abs(leading-trailing) * end >> 8
	explained := stretch * stretch / skirt * 1_000_000 / (head.fall - head.rise)
	if m.unlikeness > 200+3*explained/2+30_000_000_000/(v[ValueSignalToNoise]*v[ValueSignalToNoise]) ||
		m.tilt > 12+40_000/v[ValueSignalToNoise] {
		return LaneChange
	}
	both := (leading + trailing) / 2
	foot := direction * (tail.footRise - head.footRise + tail.footFall - head.footFall) / 2 / end
	delay := (both + shape) / 2
	speed := m.scale / delay
	permissible := delay * max(3000, speed*3/100) / speed // the MPE, as a difference of delays
	tolerance := delay*3/200 + 6554                       // 1.5 % and a tenth of a sample
	if abs(leading-trailing) > min(permissible, delay*8/100+6554) ||
		(shape-both)*(shape-both)+(foot-both)*(foot-both) > tolerance*tolerance {
		return SpeedsDisagree
	}
	for i := range end {
		a, b := &m.channel[i], &m.channel[i+1]
		if abs(direction*(b.rise-a.rise)-leading) > permissible ||
			abs(direction*(b.fall-a.fall)-trailing) > permissible {
			return SpeedsDisagree
		}
	}
	if speed < slowest || speed > fastest {
		return OutOfRange
	}
	v[ValueSpeed] = speed
	m.uncertainty(delay, max(leading, trailing, shape)-min(leading, trailing, shape))
	return Valid
}

// microseconds converts a time in Q16 samples.
func (m *measurement) microseconds(samples int64) int64 {
	return samples * 1953125 / 128 / m.rate
}

// uncertainty fills the expanded uncertainties (k = 2) and the length. The budget
// in ppm of the delay, standard uncertainties combined as root sum of squares:
//   - the registered spacing: half its expanded uncertainty;
//   - noise at the edges: each enters with a quarter of its weight;
//   - disagreement of front, rear and shape: a quarter of their range;
//   - interpolation between samples: 0.03 sample;
//   - the model (crosstalk up to 0.3 %, unequal loops): 0.3 %.
func (m *measurement) uncertainty(delay, spread int64) {
	p, v, end := &m.parameter, &m.value, m.channels-1
	ppm := func(x int64) int64 { return min(x*1_000_000/delay, 1_000_000) }
	spacing := p[ParameterSpacingUncertaintyMicrometres] * 500_000 / p[ParameterSpacingMicrometres]
	noise := ppm(root(m.channel[0].jitter+m.channel[end].jitter) * 16 / 4 / end)
	disagreement := ppm(spread / 4)
	interpolation := ppm(1966 / end)
	const model = 3000
	relative := 2 * root(spacing*spacing+noise*noise+disagreement*disagreement+interpolation*interpolation+model*model)
	v[ValueSpeedUncertainty] = v[ValueSpeed]*relative/1_000_000 + 1
	travelled := v[ValueSpeed] * ((v[ValueOnTimeFirst] + v[ValueOnTimeLast]) / 2) / 3_600_000 // mm
	loop := p[ParameterLoopLengthMicrometres] / 1000
	v[ValueLength] = travelled - loop
	share := travelled * relative / 1_000_000
	v[ValueLengthUncertainty] = root(share*share + loop*loop/4)
}

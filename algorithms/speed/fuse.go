package speed

// mostCrosstalk is the share of a neighbour's signal, ppm, up to which a value is
// stated.
const mostCrosstalk = 10_000

// fuse turns the edges into speeds, adds the correlation's, and states the value
// with its uncertainty or refuses. Delays are in Q16 samples per spacing.
func (m *measurement) fuse() uint32 {
	p, v, end := &m.parameter, &m.value, m.channels-1
	head, tail := &m.channel[0], &m.channel[end]
	leading, trailing := (tail.rise.at-head.rise.at)/end, (tail.fall.at-head.fall.at)/end
	v[ValueOnTimeFirst] = m.microseconds(head.fall.at - head.rise.at)
	v[ValueOnTimeLast] = m.microseconds(tail.fall.at - tail.rise.at)
	direction := int64(1)
	if leading < 0 {
		direction, leading, trailing = -1, -leading, -trailing
	}
	if leading <= 0 || trailing <= 0 {
		return Reversal
	}
	v[ValueDirection] = direction
	// speed (km/h, 10^-3) = 3600 * 65536 / 10^9 * spacing (um) * rate (mHz) / delay
	scale := p[ParameterSpacingMicrometres] * m.rate / 78125 * 18432
	both := (leading + trailing) / 2
	slowest, fastest := p[ParameterMinSpeed]*18/5, p[ParameterMaxSpeed]*18/5
	v[ValueSpeedLeading], v[ValueSpeedTrailing] = scale/leading, scale/trailing
	if scale/both < slowest || scale/both > fastest {
		return OutOfRange
	}
	// The effective length of a loop, in samples. Beyond its thresholds a pulse
	// fades within two of them.
	loop := both*(p[ParameterLoopLengthMicrometres]/100)/(p[ParameterSpacingMicrometres]/100)>>16 + 1
	for i := range m.channels {
		c := &m.channel[i]
		if c.on-c.first > 2*loop+2 || c.last-c.off > 2*loop+2 {
			return TwoVehicles
		}
	}
	if m.unlike {
		return LaneChange
	}
	shape := m.correlate(direction, both, loop, scale/fastest*end>>16, scale/slowest*end>>16)
	if shape < both/2 || shape > both*2 {
		return SpeedsDisagree
	}
	v[ValueSpeedCorrelation] = scale / shape
	v[ValueCorrelation] = 1000 - m.unlikeness/1000
	delay := (both + shape) / 2
	speed := max(1, scale/delay)
	permissible := delay * max(3000, speed*3/100) / speed // the MPE, as a difference of delays
	if abs(leading-trailing) > min(permissible, delay*8/100+6554) {
		return SpeedsDisagree
	}
	// Noise makes shapes unlike by about 3/SNR^2; acceleration, by the square of
	// the stretch over the product of the lengths of pulse and edge; interpolation,
	// by the inverse square of the delay in samples. In ppm.
	snr, stretch := v[ValueSignalToNoise], abs(leading-trailing)*end>>8
	whole := both>>16 + 1
	explained := 100 + 40_000/(whole*whole) + 30_000_000_000/(snr*snr) + stretch*stretch/loop*1_500_000/(head.fall.at-head.rise.at)
	if m.unlikeness > explained || m.tilt > 12+40_000/snr {
		return LaneChange
	}
	// What edges and shape agree on is still wrong by 2 % where 1 % of a channel's
	// signal is in its neighbour's.
	crosstalk := m.crosstalk(direction, delay)
	if crosstalk > mostCrosstalk || abs(shape-both) > delay*3/200+6554 {
		return SpeedsDisagree
	}
	for i := range end {
		a, b := &m.channel[i], &m.channel[i+1]
		if abs(direction*(b.rise.at-a.rise.at)-leading) > permissible ||
			abs(direction*(b.fall.at-a.fall.at)-trailing) > permissible {
			return SpeedsDisagree
		}
	}
	if speed < slowest || speed > fastest {
		return OutOfRange
	}
	v[ValueSpeed] = speed
	m.uncertainty(delay, crosstalk, max(leading, trailing, shape)-min(leading, trailing, shape))
	return Valid
}

// microseconds converts a time in Q16 samples.
func (m *measurement) microseconds(samples int64) int64 {
	return samples * 1953125 / 128 / m.rate
}

// uncertainty fills the expanded uncertainties (k = 2) and the length. The budget
// in ppm of the delay, standard uncertainties combined as root sum of squares:
//   - the registered spacing: half its expanded uncertainty;
//   - noise at the edges: each of the four enters with a quarter;
//   - disagreement of front, rear and shape: a quarter of their range;
//   - interpolation between samples: 0.03 sample;
//   - the model (crosstalk, unequal loops): what was found of crosstalk, as the
//     speed is wrong by twice that over the spacings; at least 0.3 %.
func (m *measurement) uncertainty(delay, crosstalk, spread int64) {
	p, v, end := &m.parameter, &m.value, m.channels-1
	head, tail := &m.channel[0], &m.channel[end]
	ppm := func(x int64) int64 { return min(x*1_000_000/delay, 1_000_000) }
	spacing := p[ParameterSpacingUncertaintyMicrometres] * 500_000 / p[ParameterSpacingMicrometres]
	noise := ppm(root(head.rise.variance+head.fall.variance+tail.rise.variance+tail.fall.variance) * 4 / end)
	disagreement := ppm(spread / 4)
	interpolation := ppm(1966 / end)
	model := max(3000, crosstalk/end)
	relative := 2 * root(spacing*spacing+noise*noise+disagreement*disagreement+interpolation*interpolation+model*model)
	v[ValueSpeedUncertainty] = v[ValueSpeed]*relative/1_000_000 + 1
	travelled := v[ValueSpeed] * ((v[ValueOnTimeFirst] + v[ValueOnTimeLast]) / 2) / 3_600_000 // mm
	loop := p[ParameterLoopLengthMicrometres] / 1000
	v[ValueLength] = travelled - loop
	share := travelled * relative / 1_000_000
	v[ValueLengthUncertainty] = root(share*share + loop*loop*4/9)
}

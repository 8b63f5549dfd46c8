package speed

// Debug is temporary.
func Debug(input []byte) (code uint32, rho, foot, footLead, footTrail, lead, trail, shape float64, v [ValueCount]int64) {
	m := measurement{length: int64(len(input))}
	code = m.run(input)
	if code != 0 && code != SpeedsDisagree && code != LaneChange {
		return
	}
	end := m.channels - 1
	h, t := &m.channel[0], &m.channel[end]
	if m.value[ValueCorrelation] == 0 {
		return
	}
	d := float64(m.value[ValueDirection])
	lead, trail = d*float64(t.rise.at-h.rise.at)/float64(end), d*float64(t.fall.at-h.fall.at)/float64(end)
	shape = float64(m.parameter[0]*m.rate/78125*18432) / float64(m.value[ValueSpeedCorrelation])
	e := (lead + trail) / 2
	direction := int64(d)
	ft := func(sample, delay int64) int64 {
		expected := h.level(m.n, sample<<16, m.half) * t.peak / h.peak
		return t.level(m.n, sample<<16+direction*delay*end, m.half) - expected
	}
	fr := -ft(h.first, int64(lead)) * 65536 / t.rise.steep
	re := ft(h.last, int64(trail)) * 65536 / t.fall.steep
	footTrail = d * float64(re) / e / float64(end)
	foot = d * float64(fr+re) / 2 / e / float64(end)
	both := int64(e)
	loop := both*(m.parameter[2]/100)/(m.parameter[0]/100)>>16 + 1
	snr, stretch := m.value[ValueSignalToNoise], abs(int64(lead)-int64(trail))*end>>8
	explained := 30_000_000_000/(snr*snr) + stretch*stretch/loop*1_000_000/(h.fall.at-h.rise.at)
	rho = float64(m.unlikeness-explained) / 1e6
	footLead = float64(m.tilt)
	lead, trail, shape = lead/e-1, trail/e-1, shape/e-1
	v = m.value
	return
}

func SetFootWeight(w int64) {}

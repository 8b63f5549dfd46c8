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
	fr1, fr2, ff1, ff2 := h.footRise, t.footRise, h.footFall, t.footFall
	if m.value[ValueCorrelation] == 0 {
		return
	}
	d := float64(m.value[ValueDirection])
	lead, trail = d*float64(t.rise-h.rise)/float64(end), d*float64(t.fall-h.fall)/float64(end)
	shape = float64(m.parameter[0]*m.rate/78125*18432) / float64(m.value[ValueSpeedCorrelation])
	e := (lead + trail) / 2
	footLead = d*float64(fr2-fr1)/float64(end)/lead - 1
	footTrail = d*float64(ff2-ff1)/float64(end)/trail - 1
	foot = d*(float64(fr2-fr1)+float64(ff2-ff1))/2/float64(end)/e - 1
	st := abs(t.rise-h.rise-t.fall+h.fall) >> 8
	skirt := int64(1)
	rho = float64(m.unlikeness-(st*st/skirt*1e6/(h.fall-h.rise)))/1e6 - 3e4/float64(m.value[10]*m.value[10])
	footLead = float64(m.tilt)
	lead, trail, shape = lead/e-1, trail/e-1, shape/e-1
	v = m.value
	return
}

package speed

// correlate finds the delay at which the last channel resembles the first most,
// in Q16 samples per spacing, and sets the correlation coefficient. It searches
// every lag that the registered range of speeds allows, knowing of the edges
// only the direction: coarsely, then in halved steps, then with a parabola
// through three lags whose distance (delay/16) is small against a pulse's edges
// but large against noise. Lags are in samples between the first and the last
// channel, 0 < shortest <= longest. It returns 0 when there is no peak.
func (m *measurement) correlate(direction, delay, shortest, longest int64) int64 {
	a := &m.channel[0]
	fine := max(1, (a.last-a.first)/160)
	coarse := max(1, (a.last-a.first)/40)
	lag, best := int64(0), int64(0)
	step := max(1, (a.off-a.on)/24)
	for l := shortest; l <= min(longest, m.n); l += step {
		if p, _, _ := m.product(direction*l, coarse); p > best {
			lag, best = l, p
		}
	}
	last := max(1, delay/65536/16)
	best, first, second := m.product(direction*lag, fine)
	before, after := int64(0), int64(0)
	for range 64 { // halves the step, then at most walks on to the top
		before, _, _ = m.product(direction*(lag-step), fine)
		after, _, _ = m.product(direction*(lag+step), fine)
		switch {
		case after > best:
			lag += step
		case before > best:
			lag -= step
		case step == last:
			bend := 2*best - before - after
			if bend <= 0 {
				return 0
			}
			m.value[ValueCorrelation] = min(1000, best*1000/max(1, root(first)*root(second)))
			return (lag*65536 + (after-before)*32768/bend*step) / (m.channels - 1)
		default:
			step = max(last, step/2)
			continue
		}
		best, first, second = m.product(direction*lag, fine)
	}
	return 0
}

// product sums first[i] * last[i+lag] over the first channel's pulse, every
// stride samples, and the squares of both factors, in counts squared.
func (m *measurement) product(lag, stride int64) (both, first, second int64) {
	a, b := &m.channel[0], &m.channel[m.channels-1]
	for i := a.first; i <= a.last; i += stride {
		if j := i + lag; j >= 0 && j < m.n {
			x, y := a.at(i)-a.base>>8, b.at(j)-b.base>>8
			both += x * y
			first += x * x
			second += y * y
		}
	}
	return both, first, second
}

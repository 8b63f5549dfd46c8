package speed

// correlate finds the delay at which the last channel resembles the first most,
// in Q16 samples per spacing, and sets m.unlikeness and m.tilt. It searches every
// lag that the registered range of speeds allows, knowing of the edges only the
// direction: coarsely, then in halved steps, then with a parabola through three
// lags. Their distance, a sixteenth of the delay but at most a tenth of a loop's
// effective length (loop, in samples), or one sample, is small against a pulse's
// edges and large against noise, and a multiple of the stride, so that the three
// sums see the same noise. Lags are in samples between the first and the last channel. It returns 0
// when there is no peak, or one below 15/16.
func (m *measurement) correlate(direction, delay, loop, shortest, longest int64) int64 {
	a := &m.channel[0]
	extent := a.last - a.first
	stride := max(1, min(delay>>16/32, loop/20), extent/1024)
	coarse := max(1, extent/24)
	fine := 2 * stride // the distance of the three lags
	if loop < 20 {
		fine = stride // two samples would be more than a tenth of the loop
	}
	lag, best := int64(0), int64(0)
	step := max(1, (a.off-a.on)/16, m.n/2048)
	for l := shortest; l <= min(longest, m.n); l += step {
		if p, _, _ := m.product(direction*l, coarse, a.first, a.last); p > best {
			lag, best = l, p
		}
	}
	best, first, second := m.product(direction*lag, stride, a.first, a.last)
	for range 64 { // walks to the top, halving the step
		before, _, _ := m.product(direction*(lag-step), stride, a.first, a.last)
		after, _, _ := m.product(direction*(lag+step), stride, a.first, a.last)
		switch {
		case after > best:
			lag += step
		case before > best:
			lag -= step
		case step == fine:
			bend := 2*best - before - after
			if bend <= 0 {
				return 0
			}
			offset := (after - before) * 32768 / bend // of the top, Q16 steps
			top := best + (after-before)/8*offset/32768
			norm := max(1, root(first<<16)*root(second<<16)>>16)
			if top < norm-norm/16 {
				return 0
			}
			m.unlikeness = max(0, (norm-top)*1_000_000/norm)
			total := lag<<16 + offset*step
			middle := (a.first + a.last) / 2
			front := m.gain(direction, total, stride, a.first, middle)
			rear := m.gain(direction, total, stride, middle, a.last)
			m.tilt = abs(front-rear) * 2000 / max(1, front+rear)
			return total / (m.channels - 1)
		default:
			step = max(fine, step/2)
			continue
		}
		best, first, second = m.product(direction*lag, stride, a.first, a.last)
	}
	return 0
}

// gain returns how much stronger the last channel is than the first between two
// samples of the first, Q16, at a lag in Q16 samples: interpolated between the
// whole lags on both sides.
func (m *measurement) gain(direction, lag, stride, from, to int64) int64 {
	near, square, _ := m.product(direction*(lag>>16), stride, from, to)
	far, other, _ := m.product(direction*(lag>>16+1), stride, from, to)
	near, far = near*65536/max(1, square), far*65536/max(1, other)
	return near + (far-near)*(lag&65535)>>16
}

// product sums first[i] * last[i+lag] over samples from..to of the first
// channel, every stride, and the squares of both factors, in counts squared.
func (m *measurement) product(lag, stride, from, to int64) (both, first, second int64) {
	a, b := &m.channel[0], &m.channel[m.channels-1]
	for i := from; i <= to; i += stride {
		if j := i + lag; j >= 0 && j < m.n {
			x, y := a.at(i)-a.base>>8, b.at(j)-b.base>>8
			both += x * y
			first += x * x
			second += y * y
		}
	}
	return both, first, second
}

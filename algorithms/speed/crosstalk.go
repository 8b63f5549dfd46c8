package speed

// Crosstalk is what front, rear and shape cannot tell: it shifts them alike. Let a channel see a share c of its neighbour's signal, d be the delay
// over a spacing, T that over all of them, and s the signal of the first channel
// without crosstalk. To first order in c, and but for its gain, the channels show
//
//	head(t) = s(t) + c s(t-d)
//	tail(t) = s(t-T) + c s(t-T+d)
//	tail(t+T) - head(t) = c [s(t+d) - s(t-d)]
//
// For a d that is small against a pulse the bracket is 2d s'(t): a shift of the
// tail, so that every delay comes out short by 2cd and the speed too high. But it
// is not quite that. What no shift explains, c [s(t+d) - s(t-d) - 2d s'(t)], is a
// thousandth of a pulse where c is a hundredth; yet it extends over all of the
// pulse, and noise averages out. So tail(t+T) is fitted, by least squares, with
//
//	head(t)                        the gains of the channels
//	head(t+e) - head(t-e)          a delay other than T, e an eighth of d
//	(t-middle) [the same]          acceleration: a delay that grows
//	head(t+d) - head(t-d)          crosstalk
//
// and the last one's coefficient is c. Columns are made orthogonal one after the
// other (modified Gram-Schmidt), so that the last pair's is that coefficient.
// Its standard deviation is that of what remains over the length of what is left
// of the last column, as if all noise were in the tail and white; on simulated
// passes the errors spread about twice as wide.
//
// All this is done on means over a few samples, 12 to 24 of them to d (fewer where
// d has fewer samples, or the pulse would have more than 1023). Of several pairs of
// neighbours, the first and the last channel tell: they have one neighbour each.
const (
	gains = iota
	shift
	stretch
	neighbour
	rest
	columns
)

// mostRows bounds the rows of a column: 1023 in the pulse, and on both sides
// as many as there are in d, at most 24, and one.
const mostRows = 1023 + 2*24 + 1

// crosstalk returns the share c, its magnitude and a standard deviation together,
// in ppm, for a delay over a spacing in Q16 samples.
//
// Bounds: a mean is below 2^24.5 (16 bits, Q8, and a drift that survey bounds to a
// seventh of the peak), an entry below 2^25.5, a column's sum of squares below
// 2^61.5: its length is below 2^30.8. As norm is rounded up, no more is subtracted
// than the projection, so lengths do not grow. With the Cauchy-Schwarz inequality
// a share is below 2^16 times the ratio of two lengths, of which the lower is at
// least 2^8 where the 2^16 counts: below 2^39; and its product with an entry is
// below 2^16 times the other length, 2^47.
func (m *measurement) crosstalk(direction, delay int64) int64 {
	head, tail := &m.channel[0], &m.channel[m.channels-1]
	extent := head.last - head.first
	width := max(delay>>16/24, extent/1024) + 1
	apart := max(1, (delay>>16+width/2)/width)
	near := max(1, apart/8)
	rows := extent/width + 2*apart + 1
	from := head.first - apart*width
	lag := direction * ((delay*(m.channels-1) + 32768) >> 16)

	var seen [mostRows + 2*24]int64 // the head's means, from d before the first point to d after the last
	for j := range rows + 2*apart {
		seen[j] = head.mean(m.n, from+(j-apart)*width, width)
	}
	var column [columns][mostRows]int64
	for j := range rows {
		i := j + apart
		slope := seen[i+near] - seen[i-near]
		column[gains][j] = seen[i]
		column[shift][j] = slope
		column[stretch][j] = slope * (2*j - rows) / rows
		column[neighbour][j] = seen[i+apart] - seen[i-apart]
		column[rest][j] = tail.mean(m.n, from+j*width+lag, width)
	}
	dot := func(a, b *[mostRows]int64) int64 {
		sum := int64(0)
		for j := range rows {
			sum += a[j] * b[j]
		}
		return sum
	}
	var share, norm int64 // Q16; the sum of squares over 65536
	for a := range rest {
		norm = dot(&column[a], &column[a])>>16 + 1
		for b := a + 1; b <= rest; b++ {
			share = dot(&column[a], &column[b]) / norm
			for j := range rows {
				column[b][j] -= share * column[a][j] >> 16
			}
		}
	}
	deviation := root(dot(&column[rest], &column[rest])/rows) * 256 / root(norm)
	return (abs(share) + deviation) * 15625 / 1024
}

// mean returns the mean of some samples from i on, Q8 counts above the baseline,
// whose drift is that from the lead-in to the lead-out. Where the recording does
// not reach, it is that of its first or last samples.
func (c *channel) mean(n, i, width int64) int64 {
	i = max(0, min(i, n-width))
	sum := int64(0)
	for j := i; j < i+width; j++ {
		sum += c.at(j)
	}
	return sum*256/width - c.baseline(n, i)
}

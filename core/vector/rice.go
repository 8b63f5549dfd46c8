package vector

import (
	"math"
	"math/bits"

	"github.com/lacre-metrology/lacre/core/reason"
)

// The constants of the format; the package doc gives their meaning.
const (
	blockLength  = 64 // shorter blocks follow a pulse's edges more closely, each costs 6 bits
	orderBits    = 2
	parameterLen = 4
	maxParameter = 14
	verbatim     = 15
	escapeZeros  = 24 // with escapeBits, the longest code word fits one refill of the reader
	escapeBits   = 19
	sampleBits   = 16
)

// history is what the predictors know: the sample before and its first and
// second differences. The zero differences stand for a constant past.
type history struct {
	v, d, e int32
}

// step takes the next sample in.
func (h *history) step(x int32) {
	d := x - h.v
	h.e = d - h.d
	h.d = d
	h.v = x
}

func zigzag(r int32) uint32   { return uint32(r<<1) ^ uint32(r>>31) }
func unzigzag(u uint32) int32 { return int32(u>>1) ^ -int32(u&1) }

func encodeRice(samples [][]int16, n int) []byte {
	w := bitWriter{b: make([]byte, 0, len(samples)*n+len(samples)*4)}
	for _, channel := range samples {
		w.put(uint32(uint16(channel[0])), sampleBits)
		h := history{v: int32(channel[0])}
		for rest := channel[1:]; len(rest) > 0; {
			block := rest[:min(blockLength, len(rest))]
			encodeBlock(&w, &h, block)
			rest = rest[len(block):]
		}
	}
	return w.finish()
}

// encodeBlock chooses the order whose residuals have the least sum, which is
// the best one but for rare ties in length, and then the best parameter near
// the one that a geometric distribution of that mean would want.
func encodeBlock(w *bitWriter, h *history, block []int16) {
	var residuals [4][blockLength]uint32
	var sums [4]uint32 // 64 residuals below 2^19 stay below 2^25
	for i, sample := range block {
		x := int32(sample)
		u0, u1 := zigzag(x), zigzag(x-h.v)
		u2, u3 := zigzag(x-h.v-h.d), zigzag(x-h.v-h.d-h.e)
		residuals[0][i], residuals[1][i], residuals[2][i], residuals[3][i] = u0, u1, u2, u3
		sums[0] += u0
		sums[1] += u1
		sums[2] += u2
		sums[3] += u3
		h.step(x)
	}
	order := 0
	for p := 1; p < len(sums); p++ {
		if sums[p] < sums[order] {
			order = p
		}
	}
	chosen := residuals[order][:len(block)]
	k, cost := parameter(chosen, sums[order])
	if cost >= sampleBits*len(block) {
		w.put(verbatim, orderBits+parameterLen)
		for _, x := range block {
			w.put(uint32(uint16(x)), sampleBits)
		}
		return
	}
	w.put(uint32(order)<<parameterLen|uint32(k), orderBits+parameterLen)
	for _, u := range chosen {
		w.putRice(u, k)
	}
}

// parameter is the k with the shortest codes, and their length in bits. A few
// outliers pull the mean up, so more is tried below it than above. The least
// sum is at most that of order 0, so the mean is below 2^16 and the guess at
// most 15: some k is always tried.
func parameter(residuals []uint32, sum uint32) (best uint, cost int) {
	guess := bits.Len32(sum/uint32(len(residuals))) - 1
	cost = math.MaxInt
	for k := max(0, guess-2); k <= min(maxParameter, guess+1); k++ {
		c := 0
		for _, u := range residuals {
			if q := u >> uint(k); q < escapeZeros {
				c += int(q) + 1 + k
			} else {
				c += escapeZeros + escapeBits
			}
		}
		if c < cost {
			best, cost = uint(k), c
		}
	}
	return best, cost
}

// riceChannelMinBits is the least that a channel of n samples takes; every
// residual takes at least one bit, so memory is bounded by 16 times the input.
func riceChannelMinBits(n int) int {
	blocks := (n - 1 + blockLength - 1) / blockLength
	return sampleBits + blocks*(orderBits+parameterLen) + (n - 1)
}

func decodeRice(channels, n int, b []byte) ([][]int16, error) {
	if least := channels * riceChannelMinBits(n); 8*len(b) < least {
		return nil, reason.New(reason.Malformed, "raw vector has %d bits, %d channels of %d samples take at least %d", 8*len(b), channels, n, least)
	}
	samples := newSamples(channels, n)
	r := bitReader{b: b}
	for c, channel := range samples {
		if err := decodeChannel(&r, channel); err != nil {
			return nil, reason.New(err.Reason, "channel %d: %s", c, err.Detail)
		}
	}
	return samples, r.finish()
}

func decodeChannel(r *bitReader, channel []int16) *reason.Error {
	first, ok := r.take(sampleBits)
	if !ok {
		return ends(0)
	}
	channel[0] = int16(first)
	h := history{v: int32(channel[0])}
	for at := 1; at < len(channel); {
		head, ok := r.take(orderBits + parameterLen)
		if !ok {
			return ends(at)
		}
		block := channel[at:min(at+blockLength, len(channel))]
		order, k := head>>parameterLen, uint(head&(1<<parameterLen-1))
		var err *reason.Error
		switch {
		case k != verbatim:
			err = decodeResiduals(r, &h, block, order, k, at)
		case order != 0:
			err = reason.New(reason.NotCanonical, "verbatim block at sample %d has order %d, want 0", at, order)
		default:
			err = decodeVerbatim(r, &h, block, at)
		}
		if err != nil {
			return err
		}
		at += len(block)
	}
	return nil
}

func decodeResiduals(r *bitReader, h *history, block []int16, order uint32, k uint, at int) *reason.Error {
	var codes [blockLength]uint32
	read, fault := takeCodes(r, codes[:len(block)], k, at)
	// The predictor of order p holds the p-th difference of the signal to be 0 (the signal itself for p = 0), so
	// the residual is that difference, and what is below it follows by adding up. A mask for each order keeps the
	// loop free of branches.
	keepV, keepD, keepE := mask(order >= 1), mask(order >= 2), mask(order >= 3)
	v, d, e := h.v, h.d, h.e
	block = block[:read]
	for i, u := range codes[:len(block)] {
		e = e&keepE + unzigzag(u)
		d = d&keepD + e
		v = v&keepV + d
		if v != int32(int16(v)) {
			return reason.New(reason.Malformed, "sample %d is %d, outside 16 bits", at+i, v)
		}
		block[i] = int16(v)
	}
	for _, x := range block[max(0, len(block)-3):] {
		h.step(int32(x)) // three, because d and e above are not the signal's differences for every order
	}
	return fault
}

// takeCodes reads the Rice codes of a block whose first sample is the at-th, up
// to the first one that is damaged, and says how many it read.
func takeCodes(r *bitReader, codes []uint32, k uint, at int) (int, *reason.Error) {
	for i := 0; ; i++ {
		if i += r.takeShort(codes[i:], k); i == len(codes) {
			return i, nil
		}
		u, ok := r.takeRice(k)
		if !ok {
			return i, ends(at + i)
		}
		if u == badEscape {
			return i, reason.New(reason.NotCanonical, "sample %d is escaped, its code with parameter %d is short", at+i, k)
		}
		codes[i] = u
	}
}

func decodeVerbatim(r *bitReader, h *history, block []int16, at int) *reason.Error {
	for i := range block {
		x, ok := r.take(sampleBits)
		if !ok {
			return ends(at + i)
		}
		block[i] = int16(x)
		h.step(int32(block[i]))
	}
	return nil
}

func mask(on bool) int32 {
	if on {
		return -1
	}
	return 0
}

func ends(sample int) *reason.Error {
	return reason.New(reason.Malformed, "the bytes end before sample %d", sample)
}

package vector

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/lacre-metrology/lacre/core/reason"
)

// bitWriter appends bits, most significant first.
type bitWriter struct {
	b   []byte
	acc uint64 // the low n bits wait to be written; the bits above are stale
	n   uint   // below 32 between calls
}

// put writes the low width bits of v, which has no others; width is at most 32.
func (w *bitWriter) put(v uint32, width uint) {
	w.acc = w.acc<<width | uint64(v)
	w.n += width
	if w.n >= 32 {
		w.n -= 32
		w.b = binary.BigEndian.AppendUint32(w.b, uint32(w.acc>>w.n))
	}
}

// putRice writes the Rice code of u, or its escape.
func (w *bitWriter) putRice(u uint32, k uint) {
	q := uint(u >> k)
	if q >= escapeZeros {
		w.put(0, escapeZeros)
		w.put(u, escapeBits)
		return
	}
	low := 1<<k | u&(1<<k-1)
	if q+1+k > 32 {
		w.put(0, q)
		q = 0
	}
	w.put(low, q+1+k)
}

// finish pads the last byte with zero bits and returns the bytes.
func (w *bitWriter) finish() []byte {
	for w.n >= 8 {
		w.n -= 8
		w.b = append(w.b, byte(w.acc>>w.n))
	}
	if w.n > 0 {
		w.b = append(w.b, byte(w.acc<<(8-w.n)))
	}
	return w.b
}

// bitReader takes bits, most significant first.
type bitReader struct {
	b   []byte
	pos int    // the next byte that is not counted in n
	acc uint64 // the next n bits, left-aligned; below them true bits or zeros
	n   uint   // at most 63
}

// refill brings n to at least 56, or to all that is left.
func (r *bitReader) refill() {
	if r.pos+8 <= len(r.b) {
		r.acc |= binary.BigEndian.Uint64(r.b[r.pos:]) >> r.n
		r.pos += int((63 - r.n) >> 3)
		r.n |= 56
		return
	}
	for r.n <= 55 && r.pos < len(r.b) {
		r.acc |= uint64(r.b[r.pos]) << (56 - r.n)
		r.pos++
		r.n += 8
	}
}

// take reads width bits, at most 32; false when fewer are left.
func (r *bitReader) take(width uint) (uint32, bool) {
	if r.n < width {
		if r.refill(); r.n < width {
			return 0, false
		}
	}
	v := uint32(r.acc >> (64 - width))
	r.acc <<= width
	r.n -= width
	return v, true
}

// takeShort reads Rice codes as long as they are no escapes and eight bytes
// follow, which is nearly always, and says how many it read; takeRice reads on
// from there. One refill serves four codes if they have 56 bits together.
func (r *bitReader) takeShort(codes []uint32, k uint) int {
	acc, n, rest := r.acc, r.n, r.b[r.pos:] // copies, which stay in registers
	k &= 15                                 // what it is anyway: tells the compiler that no shift exceeds a word
	i := 0
reading:
	for i < len(codes) && len(rest) >= 8 {
		acc |= binary.BigEndian.Uint64(rest) >> (n & 63)
		rest = rest[(63-n)>>3&7:]
		n |= 56
		for end := min(i+4, len(codes)); i < end; i++ {
			q := uint(bits.LeadingZeros32(uint32(acc >> 32))) // costs less than of all 64
			if q >= escapeZeros {
				break reading
			}
			width := q + 1 + k
			if width > n {
				break
			}
			codes[i] = uint32(q-1)<<k + uint32(acc>>((64-width)&63))
			acc <<= width & 63
			n -= width
		}
	}
	r.acc, r.n, r.pos = acc, n, len(r.b)-len(rest)
	return i
}

// badEscape is takeRice's answer to an escape that a short code replaces.
const badEscape = math.MaxUint32

// takeRice reads one Rice code; false when the bytes end within it. The longest
// has 43 bits, so one refill is enough.
func (r *bitReader) takeRice(k uint) (uint32, bool) {
	if r.n < escapeZeros+escapeBits {
		r.refill()
	}
	q := uint(bits.LeadingZeros64(r.acc))
	if q >= escapeZeros {
		if r.n < escapeZeros+escapeBits {
			return 0, false
		}
		u := uint32(r.acc << escapeZeros >> (64 - escapeBits))
		r.acc <<= escapeZeros + escapeBits
		r.n -= escapeZeros + escapeBits
		if u>>k < escapeZeros {
			return badEscape, true
		}
		return u, true
	}
	width := q + 1 + k
	if r.n < width {
		return 0, false
	}
	u := uint32(q)<<k | uint32(r.acc<<(q+1)>>1>>(63-k))
	r.acc <<= width
	r.n -= width
	return u, true
}

// finish says whether everything was read: whole bytes and zero padding.
func (r *bitReader) finish() error {
	used := 8*r.pos - int(r.n) // bits
	left := 8*len(r.b) - used
	if left >= 8 {
		return reason.New(reason.Malformed, "raw vector has %d bytes, its samples end in byte %d", len(r.b), (used+7)/8)
	}
	if left > 0 && r.b[len(r.b)-1]&(1<<left-1) != 0 {
		return reason.New(reason.NotCanonical, "the last %d bits are padding and not all zero", left)
	}
	return nil
}

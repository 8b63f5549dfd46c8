package vector

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
)

// plainReader reads bit after bit.
type plainReader struct {
	b  []byte
	at int // bits
}

func (r *plainReader) take(width uint) (v uint32, ok bool) {
	if r.at+int(width) > 8*len(r.b) {
		return 0, false
	}
	for range width {
		v = v<<1 | uint32(r.b[r.at/8]>>(7-r.at%8)&1)
		r.at++
	}
	return v, true
}

// takeRice answers as bitReader's does.
func (r *plainReader) takeRice(k uint) (uint32, bool) {
	for q := range uint32(escapeZeros) {
		one, ok := r.take(1)
		if !ok {
			return 0, false
		}
		if one == 1 {
			low, ok := r.take(k)
			return q<<k | low, ok
		}
	}
	u, ok := r.take(escapeBits)
	if ok && u>>k < escapeZeros {
		return badEscape, true
	}
	return u, ok
}

// decodePlainly reads a vector as the package doc defines it, one sample after
// the other, with no regard to speed. It gives what Decode gives, to the text of
// an error.
func decodePlainly(channels, n int, b []byte) ([][]int16, error) {
	if least := channels * riceChannelMinBits(n); 8*len(b) < least {
		_, err := decodeRice(channels, n, b)
		return nil, err
	}
	samples := newSamples(channels, n)
	r := &plainReader{b: b}
	for c, x := range samples {
		if err := decodeChannelPlainly(r, x); err != nil {
			return nil, reason.New(err.Reason, "channel %d: %s", c, err.Detail)
		}
	}
	whole := 8 * len(b)
	if whole-r.at >= 8 {
		return samples, reason.New(reason.Malformed, "raw vector has %d bytes, its samples end in byte %d", len(b), (r.at+7)/8)
	}
	left := whole - r.at
	if padding, _ := r.take(uint(left)); padding != 0 {
		return samples, reason.New(reason.NotCanonical, "the last %d bits are padding and not all zero", left)
	}
	return samples, nil
}

func decodeChannelPlainly(r *plainReader, x []int16) *reason.Error {
	first, ok := r.take(sampleBits)
	if !ok {
		return ends(0)
	}
	x[0] = int16(first)
	before := func(i int) int32 { return int32(x[max(0, i)]) }
	var order, k uint32
	for i := 1; i < len(x); i++ {
		if (i-1)%blockLength == 0 {
			if order, ok = r.take(orderBits); ok {
				k, ok = r.take(parameterLen)
			}
			if !ok {
				return ends(i)
			}
			if k == verbatim && order != 0 {
				return reason.New(reason.NotCanonical, "verbatim block at sample %d has order %d, want 0", i, order)
			}
		}
		if k == verbatim {
			u, ok := r.take(sampleBits)
			if !ok {
				return ends(i)
			}
			x[i] = int16(u)
			continue
		}
		u, ok := r.takeRice(uint(k))
		if !ok {
			return ends(i)
		}
		if u == badEscape {
			return reason.New(reason.NotCanonical, "sample %d is escaped, its code with parameter %d is short", i, k)
		}
		a, b, c := before(i-1), before(i-2), before(i-3)
		v := []int32{0, a, 2*a - b, 3*a - 3*b + c}[order] + unzigzag(u)
		if v != int32(int16(v)) {
			return reason.New(reason.Malformed, "sample %d is %d, outside 16 bits", i, v)
		}
		x[i] = int16(v)
	}
	return nil
}

// assertPlain compares what Decode gives with the plain reading.
func assertPlain(t *testing.T, channels, n int, b []byte) {
	t.Helper()
	got, err := Decode(rice, uint32(channels), uint32(n), b)
	want, wantErr := decodePlainly(channels, n, b)
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("%d x %d of %x: %v, read plainly %v", channels, n, b, err, wantErr)
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%d x %d of %x: another vector than read plainly", channels, n, b)
	}
}

// Every bit of every form flipped, and every length that is too short: whatever
// is read fast and whatever slowly, it is the format that decides.
func TestDecodesAsReadPlainly(t *testing.T) {
	for _, samples := range shapes() {
		channels, n := len(samples), len(samples[0])
		b, err := Encode(rice, samples)
		if err != nil {
			t.Fatal(err)
		}
		for end := range len(b) + 1 {
			assertPlain(t, channels, n, b[:end])
		}
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			assertPlain(t, channels, n, b)
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestRandomBitsDecodeAsReadPlainly(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		b := make([]byte, rng.IntN(300))
		for i := range b {
			b[i] = byte(rng.Uint32() & rng.Uint32()) // more zeros than ones
		}
		if rng.IntN(2) == 0 && len(b) > 2 {
			b[0], b[1], b[2] = byte(rng.IntN(3)), 0, byte(rng.Uint32()) // a first sample in the middle: more comes before the range ends
		}
		assertPlain(t, 1+rng.IntN(3), 1+rng.IntN(300), b)
	}
}

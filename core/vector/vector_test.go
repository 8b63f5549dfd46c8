package vector

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

const (
	plain = recordv1.Encoding_ENCODING_INT16
	rice  = recordv1.Encoding_ENCODING_RICE
)

var encodings = []recordv1.Encoding{plain, rice}

// fill makes a vector of a function of channel and position.
func fill(channels, n int, f func(c, i int) int) [][]int16 {
	samples := newSamples(channels, n)
	for c := range samples {
		for i := range samples[c] {
			samples[c][i] = int16(f(c, i))
		}
	}
	return samples
}

// pulses is a vehicle over loops: an offset, a smooth bump, noise of a few
// units. Integer noise from a seed keeps it the same everywhere.
func pulses(channels, n int, noise int) [][]int16 {
	rng := rand.New(rand.NewPCG(1, 2))
	return fill(channels, n, func(c, i int) int {
		at := float64(i-n/3-c*n/10) / float64(n/8)
		return 3000 + int(math.Round(20000*math.Exp(-at*at*at*at))) + rng.IntN(2*noise+1) - noise
	})
}

// shapes are vectors that reach every branch of the format.
func shapes() map[string][][]int16 {
	rng := rand.New(rand.NewPCG(3, 4))
	return map[string][][]int16{
		"one sample":      fill(1, 1, func(_, _ int) int { return -32768 }),
		"zeros":           fill(2, 200, func(_, _ int) int { return 0 }),
		"constant":        fill(2, 65, func(c, _ int) int { return 30000 - 60000*c }),
		"line":            fill(2, 300, func(c, i int) int { return (i - 100) * (100 + c) }),
		"parabola":        fill(2, 129, func(_, i int) int { return (i - 64) * (i - 64) * 7 }),
		"pulse":           pulses(3, 512, 6),
		"white noise":     fill(2, 130, func(_, _ int) int { return rng.IntN(65536) - 32768 }),
		"largest steps":   fill(2, 130, func(c, i int) int { return []int{32767, -32768}[(i+c)%2] }),
		"spike":           fill(2, 130, func(_, i int) int { return map[bool]int{true: 32767}[i == 70] }),
		"period of four":  fill(2, 130, func(_, i int) int { return []int{32767, 32767, -32768, -32768}[i%4] }),
		"block exactly":   fill(1, 1+blockLength, func(_, i int) int { return i % 3 }),
		"block and one":   fill(1, 2+blockLength, func(_, i int) int { return i % 5 }),
		"sixteen of them": fill(16, 2, func(c, i int) int { return c*1000 - i }),
	}
}

func TestRoundTrip(t *testing.T) {
	for name, samples := range shapes() {
		for _, enc := range encodings {
			b, err := Encode(enc, samples)
			if err != nil {
				t.Fatalf("%s, %v: %v", name, enc, err)
			}
			got, err := Decode(enc, uint32(len(samples)), uint32(len(samples[0])), b)
			if err != nil {
				t.Fatalf("%s, %v: %v", name, enc, err)
			}
			if !reflect.DeepEqual(got, samples) {
				t.Errorf("%s, %v: another vector came back", name, enc)
			}
		}
	}
}

// The branches that TestRoundTrip must have reached: a test that silently
// stops covering one would prove nothing.
func TestShapesUseEveryForm(t *testing.T) {
	var orders [4]bool
	var sawVerbatim, sawEscape bool
	for _, samples := range shapes() {
		b, err := Encode(rice, samples)
		if err != nil {
			t.Fatal(err)
		}
		r := bitReader{b: b}
		for _, channel := range samples {
			r.take(sampleBits)
			for left := len(channel) - 1; left > 0; left -= blockLength {
				head, _ := r.take(orderBits + parameterLen)
				k := uint(head & 15)
				orders[head>>4] = orders[head>>4] || k != verbatim
				sawVerbatim = sawVerbatim || k == verbatim
				for range min(left, blockLength) {
					if k == verbatim {
						r.take(sampleBits)
						continue
					}
					if u, _ := r.takeRice(k); u>>k >= escapeZeros {
						sawEscape = true
					}
				}
			}
		}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
	}
	if orders != [4]bool{true, true, true, true} || !sawVerbatim || !sawEscape {
		t.Errorf("orders %v, verbatim %v, escape %v; want all", orders, sawVerbatim, sawEscape)
	}
}

func TestRandomWalksRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		step := 1 + rng.IntN(1<<rng.IntN(16))
		x := 0
		samples := fill(1+rng.IntN(4), 1+rng.IntN(300), func(_, _ int) int {
			x += rng.IntN(2*step+1) - step
			return x
		})
		b, err := Encode(rice, samples)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(rice, uint32(len(samples)), uint32(len(samples[0])), b)
		if err != nil || !reflect.DeepEqual(got, samples) {
			t.Fatalf("step %d, %d x %d: %v", step, len(samples), len(samples[0]), err)
		}
	}
}

// A smooth signal is what the form is for; noise must cost next to nothing more
// than plain. The bounds are the design's ("about a third") with its noise.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		name      string
		samples   [][]int16
		perMille  int
		plainSize int
	}{
		{"pulse, noise 6", pulses(2, 512, 6), 340, 2048},
		{"pulse, noise 100", pulses(2, 512, 100), 560, 2048},
		{"white noise", shapes()["white noise"], 1010, 520},
	} {
		b, err := Encode(rice, c.samples)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d of %d bytes", c.name, len(b), c.plainSize)
		if len(b)*1000 > c.plainSize*c.perMille {
			t.Errorf("%s: %d bytes, want at most %d permille of %d", c.name, len(b), c.perMille, c.plainSize)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	noise := rand.New(rand.NewPCG(5, 6))
	for _, c := range []struct {
		name    string
		enc     recordv1.Encoding
		samples [][]int16
		want    reason.Reason
	}{
		{"no channel", rice, nil, reason.Malformed},
		{"no sample", rice, [][]int16{{}, {}}, reason.Malformed},
		{"ragged", plain, [][]int16{{1, 2}, {1}}, reason.Malformed},
		{"too many channels", plain, fill(sample.MaxChannels+1, 1, func(_, _ int) int { return 0 }), reason.Malformed},
		{"too long", rice, fill(1, sample.MaxSamplesPerChannel+1, func(_, _ int) int { return 0 }), reason.Malformed},
		{"unknown encoding", 9, [][]int16{{1}}, reason.Malformed},
		{"no encoding", 0, [][]int16{{1}}, reason.Malformed},
		{"plain above the limit", plain, fill(4, 1<<16+1, func(_, _ int) int { return 0 }), reason.TooLarge},
		{"compact above the limit", rice, fill(4, 1<<16, func(_, _ int) int { return noise.IntN(65536) }), reason.TooLarge},
	} {
		if _, err := Encode(c.enc, c.samples); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// bitString packs '0' and '1'; spaces are for the eye.
func bitString(s string) []byte {
	var w bitWriter
	for _, c := range s {
		if c != ' ' {
			w.put(uint32(c-'0'), 1)
		}
	}
	return w.finish()
}

// refusal is a vector that no decoder may accept.
type refusal struct {
	Name     string        `json:"name"`
	Encoding string        `json:"encoding"`
	Channels uint32        `json:"channels"`
	Samples  uint32        `json:"samples_per_channel"`
	Hex      string        `json:"hex"`
	Reason   reason.Reason `json:"reason"`
	enc      recordv1.Encoding
	b        []byte
}

func refusals() []refusal {
	zero16, zeros24 := "0000000000000000", "000000000000000000000000"
	list := []refusal{
		{Name: "one byte missing", enc: plain, Channels: 2, Samples: 1, b: []byte{1, 0, 2}, Reason: reason.Malformed},
		{Name: "one byte more", enc: plain, Channels: 2, Samples: 1, b: []byte{1, 0, 2, 0, 0}, Reason: reason.Malformed},
		{Name: "nothing", enc: rice, Channels: 1, Samples: 1, b: nil, Reason: reason.Malformed},
		{Name: "too short for its shape", enc: rice, Channels: 16, Samples: 131072, b: make([]byte, 64), Reason: reason.Malformed},
		{Name: "padding bit set", enc: rice, Channels: 1, Samples: 2, b: bitString(zero16 + "00 0000 1 1"), Reason: reason.NotCanonical},
		{Name: "trailing byte", enc: rice, Channels: 1, Samples: 2, b: append(bitString(zero16+"00 0000 1"), 0), Reason: reason.Malformed},
		{Name: "ends within a code", enc: rice, Channels: 1, Samples: 2, b: bitString(zero16 + "00 1000 01"), Reason: reason.Malformed},
		{Name: "ends within an escape", enc: rice, Channels: 1, Samples: 2, b: bitString(zero16 + "00 0000" + zeros24 + "1111"), Reason: reason.Malformed},
		{Name: "ends before a block", enc: rice, Channels: 2, Samples: 2, b: bitString(zero16 + "00 0000 0000000000000000 01" + zero16), Reason: reason.Malformed},
		{Name: "ends within a verbatim sample", enc: rice, Channels: 1, Samples: 2, b: bitString(zero16 + "00 1111 00000000"), Reason: reason.Malformed},
		{Name: "verbatim with an order", enc: rice, Channels: 1, Samples: 2, b: bitString(zero16 + "01 1111" + zero16), Reason: reason.NotCanonical},
		{Name: "escape of a short value", enc: rice, Channels: 1, Samples: 2, b: bitString(zero16 + "00 0000" + zeros24 + "0000000000000010111"), Reason: reason.NotCanonical},
		{Name: "sample above 16 bits", enc: rice, Channels: 1, Samples: 2, b: bitString("0111111111111111" + "01 0000 001"), Reason: reason.Malformed},
		{Name: "sample below 16 bits", enc: rice, Channels: 1, Samples: 2, b: bitString("1000000000000000" + "01 0000 01"), Reason: reason.Malformed},
		{Name: "largest escape", enc: rice, Channels: 1, Samples: 2, b: bitString(zero16 + "11 0000" + zeros24 + "1111111111111111111"), Reason: reason.Malformed},
		{Name: "no channels", enc: rice, Channels: 0, Samples: 1, b: nil, Reason: reason.Malformed},
		{Name: "too many channels", enc: rice, Channels: 17, Samples: 1, b: make([]byte, 34), Reason: reason.Malformed},
		{Name: "no samples", enc: plain, Channels: 2, Samples: 0, b: nil, Reason: reason.Malformed},
		{Name: "too many samples", enc: plain, Channels: 1, Samples: 131073, b: make([]byte, 2), Reason: reason.Malformed},
		{Name: "unspecified encoding", enc: 0, Channels: 1, Samples: 1, b: make([]byte, 2), Reason: reason.Malformed},
	}
	for i := range list {
		list[i].Hex, list[i].Encoding = hex.EncodeToString(list[i].b), list[i].enc.String()
	}
	return list
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range refusals() {
		if got, err := Decode(c.enc, c.Channels, c.Samples, c.b); reason.Of(err) != c.Reason {
			t.Errorf("%s: %v and %v, want %s", c.Name, got, err, c.Reason)
		}
	}
	if _, err := Decode(plain, 2, 1, make([]byte, record.MaxRawVectorBytes+1)); reason.Of(err) != reason.TooLarge {
		t.Errorf("above the limit: %v, want %s", err, reason.TooLarge)
	}
}

func TestEveryFlippedBitChangesTheVectorOrIsRefused(t *testing.T) {
	samples := pulses(2, 100, 6)
	b, err := Encode(rice, samples)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(b) {
		b[bit/8] ^= 1 << (bit % 8)
		if got, err := Decode(rice, 2, 100, b); err == nil && reflect.DeepEqual(got, samples) {
			t.Errorf("bit %d flipped: the same vector", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// line is one accepted vector of the golden file.
type line struct {
	Name     string `json:"name"`
	Encoding string `json:"encoding"`
	Channels int    `json:"channels"`
	Samples  int    `json:"samples_per_channel"`
	Values   string `json:"values"` // JSON, one list for each channel
	Hex      string `json:"hex"`
	values   [][]int16
}

func TestGoldenVectors(t *testing.T) {
	var file struct {
		Accepted []line    `json:"accepted"`
		Refused  []refusal `json:"refused"`
	}
	for _, c := range []line{
		{Name: "plain", Encoding: "ENCODING_INT16", values: [][]int16{{1, -2, 300}, {-32768, 32767, 0}}},
		{Name: "one sample", values: [][]int16{{-2}, {5}}},
		{Name: "constant", values: [][]int16{{7, 7, 7, 7}, {-7, -7, -7, -7}}},
		{Name: "order 1", values: [][]int16{{100, 101, 103, 102, 104, 103}, {0, -1, 0, 1, 2, 1}}},
		{Name: "order 2", values: [][]int16{{0, 1000, 2000, 3000, 4001, 5002, 6002, 7001}}},
		{Name: "order 3", values: [][]int16{{0, 100, 400, 900, 1600, 2500, 3600, 4900, 6400, 8100}}},
		{Name: "escape", values: fill(1, 40, func(_, i int) int { return map[bool]int{true: -20000}[i == 20] })},
		{Name: "verbatim", values: [][]int16{{32767, -32768, 12345, -23456}, {-32768, 32767, -30000, 31000}}},
		{Name: "three blocks", values: pulses(2, 150, 3)},
	} {
		enc := rice
		if c.Encoding == "" {
			c.Encoding = "ENCODING_RICE"
		} else {
			enc = plain
		}
		b, err := Encode(enc, c.values)
		if err != nil {
			t.Fatal(err)
		}
		values, err := json.Marshal(c.values)
		if err != nil {
			t.Fatal(err)
		}
		c.Channels, c.Samples, c.Values, c.Hex = len(c.values), len(c.values[0]), string(values), hex.EncodeToString(b)
		file.Accepted = append(file.Accepted, c)
	}
	file.Refused = refusals()
	golden.JSON(t, "vectors/raw.json", file)
}

func FuzzDecode(f *testing.F) {
	for _, samples := range shapes() {
		for _, enc := range encodings {
			b, err := Encode(enc, samples)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(int32(enc), uint32(len(samples)), uint32(len(samples[0])), b)
		}
	}
	f.Fuzz(func(t *testing.T, enc int32, channels, n uint32, b []byte) {
		samples, err := Decode(recordv1.Encoding(enc), channels, n, b)
		if recordv1.Encoding(enc) == rice && reason.Of(err) != reason.TooLarge && checkShape(uint64(channels), uint64(n)) == nil {
			assertPlain(t, int(channels), int(n), b)
		}
		if err != nil {
			if reason.Of(err) == "" {
				t.Fatalf("%v is not a reason", err)
			}
			return
		}
		again, err := Encode(recordv1.Encoding(enc), samples)
		if reason.Of(err) == reason.TooLarge {
			return // the writer of b chose better than our encoder does
		}
		if err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		back, err := Decode(recordv1.Encoding(enc), channels, n, again)
		if err != nil || !reflect.DeepEqual(back, samples) {
			t.Fatalf("encoded again it is another vector: %v", err)
		}
	})
}

// FuzzRoundTrip reads its input as samples.
func FuzzRoundTrip(f *testing.F) {
	f.Add(uint8(2), []byte("a smooth signal is not what a fuzzer writes"))
	f.Add(uint8(1), []byte{0xff, 0x7f, 0x00, 0x80, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, channels uint8, b []byte) {
		c := 1 + int(channels)%sample.MaxChannels
		n := len(b) / 2 / c
		if n == 0 || n > sample.MaxSamplesPerChannel {
			return
		}
		samples, err := decodeInt16(c, n, b[:2*c*n])
		if err != nil {
			t.Fatal(err)
		}
		coded, err := Encode(rice, samples)
		if reason.Of(err) == reason.TooLarge {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(rice, uint32(c), uint32(n), coded)
		if err != nil || !reflect.DeepEqual(back, samples) {
			t.Fatalf("another vector came back: %v", err)
		}
	})
}

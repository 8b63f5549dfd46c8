package speed_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

const twinSeed = 77_001

// TestTwinIsBitIdentical compares the module with its Go twin over simulated
// passes, good and faulty, and over adversarial inputs of several kinds.
func TestTwinIsBitIdentical(t *testing.T) {
	t.Logf("seed %d", twinSeed)
	r := newRunner(t)
	codes := map[uint32]int{}
	for i := range uint64(12_000) {
		input := anInput(sim.NewRand(twinSeed, i), i)
		want := speed.Measure(input)
		got := r.run(t, input)
		if !bytes.Equal(got, want) {
			t.Fatalf("input %d of seed %d (%d bytes):\nmodule %v\ntwin   %v", i, twinSeed, len(input), words(got), words(want))
		}
		codes[binary.LittleEndian.Uint32(want)]++
	}
	for code := speed.Valid; code <= speed.NoVehicle; code++ {
		if codes[code] == 0 {
			t.Errorf("no input gave code %d; the comparison does not reach it (%v)", code, codes)
		}
	}
	t.Logf("results by code: %v", codes)
}

// FuzzTwin lets the fuzzer look for an input on which module and twin differ, or
// either fails.
func FuzzTwin(f *testing.F) {
	for i := range uint64(6) {
		f.Add(anInput(sim.NewRand(twinSeed, 500+i), 3+i%3)) // the small kinds
	}
	f.Add([]byte{})
	r := newRunner(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		if uint64(len(input)) > uint64(r.capacity) {
			return
		}
		if got, want := r.run(t, input), speed.Measure(input); !bytes.Equal(got, want) {
			t.Fatalf("module %v\ntwin   %v", words(got), words(want))
		}
	})
}

func words(b []byte) []int64 {
	out := []int64{int64(binary.LittleEndian.Uint32(b)), int64(binary.LittleEndian.Uint32(b[4:]))}
	for at := 8; at+8 <= len(b); at += 8 {
		out = append(out, int64(binary.LittleEndian.Uint64(b[at:])))
	}
	return out
}

func pick[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// anInput draws the i-th input of the comparison.
func anInput(rng *rand.Rand, i uint64) []byte {
	in := abi.Input{SampleRateMillihertz: 1_000_000, Parameters: speed.DefaultParameters(2000)}
	switch i % 6 {
	case 0, 1, 2: // simulated
		c := sim.Good(5+245*rng.Float64(), pick[float64](rng, 200, 500, 1000, 2000), pick[float64](rng, 1, 2, 3.5, 5), sim.Families, rng)
		c.SpeedKmh = max(c.SpeedKmh, c.RateHz/100)
		c.Channels = pick(rng, 2, 2, 2, 3, 5)
		if i%6 == 2 {
			c.Fault, c.Severity = pick(rng, sim.Faults...), rng.Float64()
		}
		in.SampleRateMillihertz = uint64(c.RateHz * 1000)
		in.Parameters = speed.DefaultParameters(int64(c.SpacingM * 1000))
		in.Samples = sim.Pass(c, rng).Samples
	case 3: // trapezes and steps, extreme levels
		in.Samples = steps(rng, pick(rng, 2, 3, 16), 64+rng.IntN(800))
	case 4: // the same, with parameters at the ends of their ranges
		in.Samples = steps(rng, 2, 64+rng.IntN(800))
		in.SampleRateMillihertz = pick[uint64](rng, 49_999, 50_000, 1_000_000, 100_000_000, 100_000_001, 1<<63)
		in.Parameters = []int64{
			pick[int64](rng, 100_000, 20_000_000, 2_000_000, 99_999, -1),
			pick[int64](rng, 0, 10_000),
			pick[int64](rng, 100_000, 20_000_000, 2_000_000),
			pick[int64](rng, 100, 250, 900), 100,
			pick[int64](rng, 1000, 4000),
			pick[int64](rng, 100, 1000), pick[int64](rng, 200_000, 83_333, 100),
		}
	default: // a valid input with a damaged header, length or sample
		in.Samples = steps(rng, 2, 64+rng.IntN(200))
		b, _ := abi.EncodeInput(in)
		switch rng.IntN(4) {
		case 0:
			return b[:rng.IntN(len(b))]
		case 1:
			b[rng.IntN(96)] = pick[byte](rng, 0, 1, 255, byte(rng.IntN(256)))
		case 2:
			return append(b, make([]byte, 1+rng.IntN(9))...)
		default:
			binary.LittleEndian.PutUint64(b[8*rng.IntN(12):], rng.Uint64())
		}
		return b
	}
	b, err := abi.EncodeInput(in)
	if err != nil {
		panic(err)
	}
	if len(b) > 96+512*1024 {
		return b[:1000]
	}
	return b
}

// steps draws channels that are copies of one random polygon, shifted, scaled
// and sometimes spoilt.
func steps(rng *rand.Rand, channels, n int) [][]int16 {
	shift, level := rng.IntN(n/3)-n/6, float64(pick(rng, 20, 300, 5000, 60_000))
	knots := make([]float64, 3+rng.IntN(6))
	for i := range knots {
		knots[i] = rng.Float64()
	}
	noise := pick(rng, 0, 0, 0.3, 2, level/100)
	start, length := n/4+rng.IntN(n/8), 4+rng.IntN(n/3)
	offset := pick[float64](rng, 0, 0, 1000, -32_000)
	out := make([][]int16, channels)
	for c := range out {
		scale := level * (1 + pick(rng, 0, 0, 0.2, -0.5)*rng.Float64())
		spoilt := rng.IntN(8) == 0
		out[c] = make([]int16, n)
		for i := range out[c] {
			place := float64(i-start-c*shift) / float64(length) * float64(len(knots)+1)
			k := int(place)
			value := 0.0
			if place >= 0 && k <= len(knots) {
				at := func(j int) float64 {
					if j < 0 || j >= len(knots) {
						return 0
					}
					return knots[j]
				}
				value = at(k-1) + (at(k)-at(k-1))*(place-float64(k))
			}
			x := offset + scale*value + noise*rng.NormFloat64()
			if spoilt && rng.IntN(n) == 0 {
				x = -x
			}
			out[c][i] = int16(max(-32768, min(32767, x)))
		}
	}
	return out
}

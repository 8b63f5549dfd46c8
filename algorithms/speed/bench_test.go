package speed_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// passOf512 is a car at 110 km/h, 1 kHz, cut to 2 x 512 samples.
func passOf512(tb testing.TB) []byte {
	c := sim.Config{Vehicle: sim.Car, Family: sim.Plates, SpeedKmh: 110, Channels: 2, SpacingM: 2, LoopLengthM: 2, RateHz: 1000, NoiseCounts: 5}
	r := sim.Pass(c, sim.NewRand(1, 1))
	for i, ch := range r.Samples {
		for len(ch) < 512 {
			ch = append(ch, ch[len(ch)-8]) // more of the lead-out
		}
		r.Samples[i] = ch[:512]
	}
	b, err := abi.EncodeInput(abi.Input{SampleRateMillihertz: 1_000_000, Parameters: speed.DefaultParameters(2000), Samples: r.Samples})
	if err != nil {
		tb.Fatal(err)
	}
	if out, _ := abi.DecodeOutput(speed.Measure(b)); out.Code != speed.Valid {
		tb.Fatalf("the benchmark's pass gives code %d", out.Code)
	}
	return b
}

// BenchmarkModule is one measurement in wazero's compiler, input copied in.
func BenchmarkModule(b *testing.B) {
	input, r := passOf512(b), newRunner(b)
	for b.Loop() {
		r.run(b, input)
	}
}

// BenchmarkTwin is the same in Go.
func BenchmarkTwin(b *testing.B) {
	input := passOf512(b)
	for b.Loop() {
		speed.Measure(input)
	}
}

// BenchmarkModuleLargest is a lorry with trailer at 10 km/h and 10 kHz.
func BenchmarkModuleLargest(b *testing.B) {
	c := sim.Config{Vehicle: sim.LorryWithTrailer, Family: sim.Plates, SpeedKmh: 10, Channels: 2, SpacingM: 2, LoopLengthM: 2, RateHz: 10_000, NoiseCounts: 5}
	recording := sim.Pass(c, sim.NewRand(1, 1))
	input, err := abi.EncodeInput(abi.Input{SampleRateMillihertz: 10_000_000, Parameters: speed.DefaultParameters(2000), Samples: recording.Samples})
	if err != nil {
		b.Fatal(err)
	}
	if out, _ := abi.DecodeOutput(speed.Measure(input)); out.Code != speed.Valid {
		b.Fatalf("%d bytes give code %d", len(input), out.Code)
	}
	b.SetBytes(int64(len(input)))
	r := newRunner(b)
	for b.Loop() {
		r.run(b, input)
	}
}

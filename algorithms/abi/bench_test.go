package abi

import "testing"

// BenchmarkEncodeInput is what an endorser does with 2 x 512 decoded samples.
func BenchmarkEncodeInput(b *testing.B) {
	samples := make([]int16, 1024)
	for i := range samples {
		samples[i] = int16(i * 77)
	}
	in := Input{SampleRateMillihertz: 1_000_000, Parameters: make([]int64, 8), Samples: [][]int16{samples[:512], samples[512:]}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeInput(in); err != nil {
			b.Fatal(err)
		}
	}
}

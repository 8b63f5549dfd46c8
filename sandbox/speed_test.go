package sandbox

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// speedFuel is ample for the speed module over the vectors of this test.
const speedFuel = 1 << 32

// speedInputs are vectors that lead the speed module through its branches:
// vehicles at several speeds and in both directions, silence, noise, saturation,
// and inputs that are not well formed.
func speedInputs(t testing.TB, random *rand.Rand) [][]byte {
	t.Helper()
	inputs := [][]byte{nil, {1}, make([]byte, 32), bytes.Repeat([]byte{0xff}, 500)}
	add := func(sample func(channel, i int) int16) {
		samples := make([][]int16, 2)
		for c := range samples {
			samples[c] = make([]int16, 512)
			for i := range samples[c] {
				samples[c][i] = sample(c, i)
			}
		}
		encoded, err := abi.EncodeInput(abi.Input{SampleRateMillihertz: 1_000_000, Parameters: speed.DefaultParameters(1000), Samples: samples})
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, encoded, encoded[:len(encoded)-1])
	}
	noise := func() int16 { return int16(random.IntN(41) - 20) }
	add(func(int, int) int16 { return 0 })
	add(func(int, int) int16 { return noise() })
	add(func(int, int) int16 { return 32767 })
	add(func(int, int) int16 { return int16(random.Uint32()) })
	for range 20 {
		start, width, delay := 60+random.IntN(80), 60+random.IntN(80), random.IntN(160)-40
		add(func(c, i int) int16 { // a pulse with ramps of 20 samples
			at := i - start - c*delay
			return int16(300*max(0, min(20, at, width-at))) + noise()
		})
	}
	return inputs
}

// TestSpeedModule runs the built-in speed algorithm through profile, fuel and
// both engines, against its Go twin.
func TestSpeedModule(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	p := load(t, newEngine(t, Config{CrossCheck: CrossCheckNever}), speed.Module())
	if m := p.Module(); m.Name != speed.Name || m.Version != speed.ModuleVersion {
		t.Errorf("the module is %s %s, the schema %s %s", m.Name, m.Version, speed.Name, speed.ModuleVersion)
	}
	codes := make(map[uint32]int)
	var mostFuel uint64
	for i, input := range speedInputs(t, rand.New(rand.NewPCG(seed, 0))) {
		want, err := p.authority.execute(input, speedFuel)
		if err != nil {
			t.Fatal(err)
		}
		if twin := speed.Measure(input); want.Outcome != Completed || !bytes.Equal(want.Output, twin) {
			t.Errorf("input %d: module %v, twin %x", i, want, twin)
		}
		for name, x := range executors(p) {
			for limit, result := range map[uint64]Result{want.FuelUsed: want, want.FuelUsed - 1: failed(OutOfFuel, want.FuelUsed-1)} {
				if got, err := x.execute(input, limit); err != nil || !got.Equal(result) {
					t.Errorf("input %d on the %s with fuel %d: %v, %v, want %v", i, name, limit, got, err, result)
				}
			}
			assertPristine(t, name, x.(*pool))
		}
		codes[want.Code()]++
		mostFuel = max(mostFuel, want.FuelUsed)
	}
	t.Logf("codes %v, at most %d fuel at 2 x 512 samples", codes, mostFuel)
	if codes[0] == 0 || len(codes) < 3 {
		t.Errorf("codes %v: the inputs cover less than they say", codes)
	}
}

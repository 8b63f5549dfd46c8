package sandbox

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"

	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// generatedFuel is small, so that endless loops end soon.
const generatedFuel = 200_000

// compareEngines runs a generated module on every engine and checks that
// results, fuel and outcome agree, that a second call gives the same, that the
// fuel boundary is exact, that instances are left pristine, and that the
// instrumented module computes what the original does.
func compareEngines(t *testing.T, e *Engine, module, input []byte) Outcome {
	t.Helper()
	p := load(t, e, module)
	defer p.Close(context.Background())
	want, err := p.authority.execute(input, generatedFuel)
	if err != nil {
		t.Fatal(err)
	}
	same := func(name string, x executor, fuelLimit uint64, want Result) {
		if got, err := x.execute(input, fuelLimit); err != nil || !got.Equal(want) {
			t.Fatalf("%s with fuel %d: %v, %v; want %v", name, fuelLimit, got, err, want)
		}
	}
	for name, x := range executors(p) {
		same(name, x, generatedFuel, want)
		if want.Outcome == Completed {
			same(name, x, want.FuelUsed, want)
			same(name, x, want.FuelUsed-1, failed(OutOfFuel, want.FuelUsed-1))
		}
		same(name, x, generatedFuel, want)
		assertPristine(t, name, x.(*pool))
	}
	if want.Outcome != OutOfFuel {
		original := runOriginal(t, e, p.Module(), input)
		if original.Outcome != want.Outcome || !bytes.Equal(original.Output, want.Output) {
			t.Fatalf("the original module gives %v, the instrumented one %v", original, want)
		}
	}
	return want.Outcome
}

// runOriginal runs the module without fuel on the interpreter. Only for modules
// that are known to end.
func runOriginal(t *testing.T, e *Engine, m *profile.Module, input []byte) Result {
	t.Helper()
	ctx := context.Background()
	compiled, err := e.interpreter.CompileModule(ctx, m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	defer compiled.Close(ctx)
	instance, err := e.interpreter.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Close(ctx)
	instance.Memory().Write(m.InputPtr, input)
	length, err := instance.ExportedFunction(profile.ExportMeasure).Call(ctx, uint64(len(input)))
	if err != nil {
		return failed(Trapped, 0)
	}
	output, _ := instance.Memory().Read(m.OutputPtr, m.OutputCap)
	return judge(output, uint32(length[0]), 0, 0)
}

// TestEnginesAgree is FuzzEngines over a fixed sequence, long enough that every
// outcome that a generated module can have occurs.
func TestEnginesAgree(t *testing.T) {
	const seed, modules = 20250611, 300
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	e := newEngine(t, Config{CrossCheck: CrossCheckNever})
	seen := make(map[Outcome]int)
	for range modules {
		data := make([]byte, 20+random.IntN(500))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		if module := w.Generate(data); len(module) <= profile.MaxModuleBytes {
			seen[compareEngines(t, e, module, data)]++
		}
	}
	t.Logf("outcomes %v", seen)
	for _, outcome := range []Outcome{Completed, Trapped, OutOfFuel} {
		if seen[outcome] == 0 {
			t.Errorf("no generated module ended as %s: the test covers less than it says", outcome)
		}
	}
}

// FuzzEngines: on generated valid modules, both engines give equal result, fuel
// and trap.
func FuzzEngines(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte("a lorry at ten kilometres per hour"), []byte("samples"))
	f.Add(bytes.Repeat([]byte{3, 5, 4, 1, 7, 250}, 40), []byte{0xff})
	f.Fuzz(func(t *testing.T, seed, input []byte) {
		if len(seed) > 2000 || len(input) > w.InputCap {
			return
		}
		module := w.Generate(seed)
		if _, err := profile.Check(module); err != nil {
			t.Fatalf("generated module: %v", err)
		}
		// An engine of its own: none keeps the code of an earlier input.
		compareEngines(t, newEngine(t, Config{CrossCheck: CrossCheckNever}), module, input)
	})
}

// TestFuelIsExact counts a loop by hand: the charge of the body once, of the
// loop for each arrival, equal on both engines.
func TestFuelIsExact(t *testing.T) {
	// body: 8 + 1 local + 2 constants, stores 2 x 4, 2 constants, constant, end;
	// loop: loop, get, const, sub, tee, br_if, end.
	module := w.WithMeasure(nil,
		w.Block(0x03, w.Void, w.Get(0), w.I32Const(1), w.Op(0x6b), w.Tee(0), w.Idx(0x0d, 0)),
		returns(0, w.I64Const(0))).Encode()
	p := load(t, newEngine(t, Config{}), module)
	for name, x := range executors(p) {
		for _, n := range []int{1, 2, 1000} {
			want := uint64(8 + 1 + 6 + 2*4 + 7*n)
			got, err := x.execute(make([]byte, n), want)
			if err != nil || got.Outcome != Completed || got.FuelUsed != want {
				t.Errorf("%s: %d iterations: %v, %v, want fuel %d", name, n, got, err, want)
			}
			got, err = x.execute(make([]byte, n), want-1)
			if err != nil || got.Outcome != OutOfFuel || got.FuelUsed != want-1 {
				t.Errorf("%s: %d iterations with too little fuel: %v, %v", name, n, got, err)
			}
		}
		if got, err := x.execute([]byte{0}, 0); err != nil || got.Outcome != OutOfFuel || got.FuelUsed != 0 {
			t.Errorf("%s: no fuel: %v, %v", name, got, err)
		}
	}
}

// TestFuelOfExits: whichever way a function is left, its charge reaches the
// caller, and so do the charges of what it called.
func TestFuelOfExits(t *testing.T) {
	exits := map[string]struct {
		body []byte
		fuel uint64 // weight of the body's instructions
	}{
		"end":               {w.Cat(w.Op(0x01), w.End), 2},
		"return":            {w.Cat(w.Op(0x0f), w.End), 2},
		"branch":            {w.Cat(w.Idx(0x0c, 0), w.End), 2},
		"conditional":       {w.Cat(w.I32Const(1), w.Idx(0x0d, 0), w.End), 3},
		"branch table":      {w.Cat(w.I32Const(9), []byte{0x0e, 1, 0, 0}, w.End), 1 + 4 + 1},
		"return in a block": {w.Cat(w.Block(0x02, w.Void, w.Op(0x0f)), w.End), 4},
		"branch in a loop":  {w.Cat(w.Block(0x03, w.Void, w.Idx(0x0c, 1)), w.End), 4},
	}
	e := newEngine(t, Config{})
	for exit, c := range exits {
		m := w.Minimal()
		leaf := m.AddFunction(w.TypeVoid, nil, c.body)
		middle := m.AddFunction(w.TypeVoid, nil, w.Call(leaf), w.Call(leaf), w.End)
		m.Functions[w.Measure].Body = w.Cat(w.Call(leaf), w.Call(middle), returns(0, w.I64Const(0)))
		p := load(t, e, m.Encode())
		// leaf runs three times, middle and measure once: entries of 8 (measure
		// has one local), calls of 8 each, and measure's 6 + 2 stores of 4.
		want := 3*(8+c.fuel) + (8 + 2*8 + 1) + (8 + 1 + 2*8 + 6 + 2*4)
		for name, x := range executors(p) {
			for limit, outcome := range map[uint64]Outcome{want: Completed, want - 1: OutOfFuel} {
				if got, err := x.execute(nil, limit); err != nil || got.Outcome != outcome || got.FuelUsed != limit {
					t.Errorf("%s, %s, limit %d: %v, %v, want %s", exit, name, limit, got, err, outcome)
				}
			}
		}
	}
}

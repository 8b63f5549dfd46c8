package speed_test

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	wasm "github.com/tetratelabs/wazero/api"

	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// runner runs the module on wazero's compiler, the shortest way: the sandbox
// has its own, with fuel and a validator.
type runner struct {
	memory        wasm.Memory
	measure       wasm.Function
	input, output uint32
	capacity      uint32
}

func newRunner(tb testing.TB) *runner {
	tb.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(wasm.CoreFeaturesV1))
	tb.Cleanup(func() { _ = rt.Close(ctx) })
	mod, err := rt.Instantiate(ctx, speed.Module())
	if err != nil {
		tb.Fatal(err)
	}
	get := func(name string) uint32 {
		out, err := mod.ExportedFunction(name).Call(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		return uint32(out[0])
	}
	return &runner{
		memory: mod.Memory(), measure: mod.ExportedFunction("measure"),
		input: get("input_ptr"), output: get("output_ptr"), capacity: get("input_cap"),
	}
}

// run returns the module's result bytes for an input that fits.
func (r *runner) run(tb testing.TB, input []byte) []byte {
	r.memory.Write(r.input, input)
	n, err := r.measure.Call(context.Background(), uint64(len(input)))
	if err != nil {
		tb.Fatalf("the module trapped on %d input bytes: %v", len(input), err)
	}
	out, ok := r.memory.Read(r.output, uint32(n[0]))
	if !ok {
		tb.Fatalf("output of %d bytes at %d lies outside memory", n[0], r.output)
	}
	return out
}

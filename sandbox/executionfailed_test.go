package sandbox

import (
	"bytes"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
)

// TestExecutionFailedIsOneCode: whichever way a run fails, its result is the one
// that every other endorser finds: EXECUTION_FAILED without values.
func TestExecutionFailedIsOneCode(t *testing.T) {
	want, err := abi.EncodeOutput(abi.ExecutionFailed())
	if err != nil {
		t.Fatal(err)
	}
	endless := w.WithMeasure(nil, w.Block(0x03, w.Void, w.Idx(0x0c, 0)), returns(0, w.I64Const(0))).Encode()
	for name, module := range map[string][]byte{
		"a trap":                         w.WithMeasure(nil, w.Op(0x00), w.End).Encode(),
		"no fuel left":                   endless,
		"a length that no result has":    w.WithMeasure(nil, w.I32Const(7), w.End).Encode(),
		"a result of a code above 99":    w.WithMeasure(nil, w.I32Const(w.OutputPtr), w.I64Const(101), w.Store(0x37, 3, 0), w.I32Const(8), w.End).Encode(),
		"a result of more than it holds": w.WithMeasure(nil, w.I32Const(w.OutputPtr), w.I64Const(2<<32), w.Store(0x37, 3, 0), w.I32Const(8), w.End).Encode(),
	} {
		t.Run(name, func(t *testing.T) {
			for engine, config := range map[string]Config{"both engines": {CrossCheck: CrossCheckAlways}, "interpreter": {InterpreterOnly: true}} {
				got, err := load(t, newEngine(t, config), module).Run(make([]byte, 40), 10_000)
				if err != nil || got.Code() != abi.CodeExecutionFailed || !bytes.Equal(got.Output, want) {
					t.Errorf("%s: %+v, %v; want code %d and the output %x", engine, got, err, abi.CodeExecutionFailed, want)
				}
			}
		})
	}
}

package receipt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// algorithm stands for a module: it sums the samples. Core runs no WebAssembly;
// package audit of the sandbox tests with real modules.
func algorithm() receipttest.Algorithm {
	return receipttest.Algorithm{
		Module: []byte("a module that sums"), Parameters: []int64{7},
		Schema: approval.Schema{
			Parameters: []approval.Field{{Name: "offset", Unit: "1", Scale: 0}},
			Values:     []approval.Field{{Name: "sum", Unit: "km/h", Scale: -3}, {Name: "direction", Unit: "1", Scale: 0}},
			Refusals:   []approval.Refusal{{Code: 8, Name: "LOW_SNR"}},
		},
		Run: sum,
	}
}

func sum(input []byte, _ uint64) ([]byte, uint64) {
	in, err := abi.DecodeInput(input)
	if err != nil {
		panic(err)
	}
	total := in.Parameters[0]
	for _, channel := range in.Samples {
		for _, v := range channel {
			total += int64(v)
		}
	}
	out := abi.Output{Values: []int64{total, -1}}
	if total < 1000 {
		out.Code = 8
	}
	b, err := abi.EncodeOutput(out)
	if err != nil {
		panic(err)
	}
	return b, uint64(len(input))
}

// runner runs the stand-in, and nothing else.
type runner struct{ err error }

func (r runner) Run(module, input []byte, fuelLimit uint64) ([]byte, uint64, error) {
	if r.err != nil {
		return nil, 0, r.err
	}
	if !bytes.Equal(module, algorithm().Module) {
		return nil, 0, errors.New("another module")
	}
	result, fuelUsed := sum(input, fuelLimit)
	return result, fuelUsed, nil
}

// liar gives another result.
type liar struct{}

func (liar) Run(_, input []byte, fuelLimit uint64) ([]byte, uint64, error) {
	result, fuelUsed := sum(input, fuelLimit)
	binary.LittleEndian.PutUint64(result[8:], 1)
	return result, fuelUsed, nil
}

// ledger has two meters under the national table "br". Both rolled their key over: the first between its
// second and third sample, the second after its only one; then both were laid
// anew. It returns the
// indices of their measurements.
func ledger(t testing.TB) (n *receipttest.Network, first, second []uint64) {
	n = receipttest.Found(t, algorithm())
	n.Accept(n.Sign(sumTable(n.Network, "br"), statetest.Body()))
	n.NowUnix += 60
	n.NationalTable = "br"
	n.Register("m-1")
	n.Register("m-2")
	first = n.Measure([]int{0, 1},
		receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(900, 5)},
		receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(3, 5)})
	second = n.Measure([]int{0, 2}, receipttest.Capture{Meter: "m-2", Samples: receipttest.Pulse(900, 5)})
	n.RollOver("m-1")
	n.RollOver("m-2")
	n.LayAnew("m-1", algorithm().Parameters[0]+1)
	n.LayAnew("m-2")
	first = append(first, n.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(700, 4)})...)
	return n, first, second
}

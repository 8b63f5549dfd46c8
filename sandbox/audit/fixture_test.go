package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/sandbox"
	"github.com/lacre-metrology/lacre/sandbox/audit"
	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
)

// samplesAt is where the module finds the tallest four samples of a pulse:
// behind the header with one parameter, sample 16 of channel 0.
const samplesAt = 32 + 8 + 2*16

// module gives four samples as one value, and the length of its input.
func module() []byte {
	return w.WithMeasure(nil,
		w.I32Const(w.OutputPtr), w.I64Const(2<<32), w.Store(0x37, 3, 0),
		w.I32Const(w.OutputPtr), w.I32Const(w.InputPtr), w.Store(0x29, 3, samplesAt), w.Store(0x37, 3, 8),
		w.I32Const(w.OutputPtr), w.Get(0), w.Op(0xad), w.Store(0x37, 3, 16),
		w.I32Const(24), w.End).Encode()
}

// network has two meters; the honest endorsers run the module in the sandbox.
func network(t testing.TB) *receipttest.Network {
	t.Helper()
	engine, err := sandbox.NewEngine(context.Background(), sandbox.Config{InterpreterOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close(context.Background()) })
	program, err := engine.Load(t.Context(), module())
	if err != nil {
		t.Fatal(err)
	}
	n := receipttest.Found(t, receipttest.Algorithm{
		Module: module(), Parameters: []int64{7},
		Schema: approval.Schema{
			Parameters: []approval.Field{{Name: "offset", Unit: "1"}},
			Values:     []approval.Field{{Name: "samples", Unit: "1"}, {Name: "length", Unit: "byte"}},
			Refusals:   []approval.Refusal{{Code: 8, Name: "LOW_SNR"}}, // what endorsers who collude claim
		},
		Run: func(input []byte, fuelLimit uint64) ([]byte, uint64) {
			result, err := program.Run(input, fuelLimit)
			if err != nil {
				panic(err)
			}
			return result.Output, result.FuelUsed
		},
	})
	n.Register("m-1")
	n.Register("m-2")
	return n
}

// honest is a ledger with 2 + 1 + 1 measurements in three blocks, the second
// of them endorsed by the first and the third organisation.
func honest(t testing.TB) *receipttest.Network {
	t.Helper()
	n := network(t)
	n.Measure([]int{0, 1}, pulse("m-1", 900), pulse("m-2", 800))
	n.Measure([]int{0, 2}, pulse("m-1", 700))
	n.RollOver("m-1")
	n.Measure([]int{0, 1}, pulse("m-1", 600))
	return n
}

func pulse(meter string, height int16) receipttest.Capture {
	return receipttest.Capture{Meter: meter, Samples: receipttest.Pulse(height, 5)}
}

// source is a copy of a ledger, for tests to tamper with.
type source struct {
	blocks []*audit.Block
	fail   error // after the last block
}

// copyOf copies a ledger with a certificate for every block.
func copyOf(n *receipttest.Network) *source {
	s := &source{}
	for _, ref := range n.Store.Blocks {
		b := &audit.Block{Height: ref.Height, Certificate: n.Certificate(ref.Height)}
		for i, leaf := range n.Store.BlockLeaves(ref.Height) {
			b.Leaves = append(b.Leaves, bytes.Clone(leaf))
			b.Raw = append(b.Raw, bytes.Clone(n.Raw(ref.FirstIndex+uint64(i))))
		}
		s.blocks = append(s.blocks, b)
	}
	return s
}

func (s *source) Blocks(_ context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for _, b := range s.blocks {
			if b.Height >= from && !yield(b, nil) {
				return
			}
		}
		if s.fail != nil {
			yield(nil, s.fail)
		}
	}
}

// block counts from the newest, which is 0; -1 is the one before.
func (s *source) block(fromEnd int) *audit.Block { return s.blocks[len(s.blocks)-1+fromEnd] }

// installed is the module store.
func installed(want digest.Digest) ([]byte, bool) {
	return module(), want == digest.Plain(module())
}

// options audit everything, with both engines on every call.
func options(n *receipttest.Network) audit.Options {
	return audit.Options{Trust: n.Trust(), Modules: installed, Seed: 1, Engine: sandbox.Config{CrossCheck: sandbox.CrossCheckAlways}}
}

func run(t testing.TB, s audit.Source, o audit.Options) *audit.Report {
	t.Helper()
	report, err := audit.Run(t.Context(), s, o)
	if err != nil {
		t.Fatalf("%v; %v", err, report)
	}
	return report
}

// only wants exactly one finding, of this kind.
func only(t *testing.T, name string, r *audit.Report, kind audit.Kind) audit.Finding {
	t.Helper()
	if len(r.Findings) != 1 || r.Findings[0].Kind != kind {
		t.Fatalf("%s: want one %s:\n%s", name, kind, r)
	}
	return r.Findings[0]
}

func has(r *audit.Report, kind audit.Kind) bool {
	return slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Kind == kind })
}

func endorsers(f audit.Finding) string {
	var b []string
	for _, e := range f.Endorsers {
		b = append(b, e.Node+" of "+e.Organisation)
	}
	return fmt.Sprint(b)
}

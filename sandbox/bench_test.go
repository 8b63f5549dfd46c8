package sandbox

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/core/benchtest"
	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// vectorBytes is an input of 2 x 512 samples with 8 parameters.
const vectorBytes = 32 + 8*8 + 2*512*2

// scan is a plain threshold pass: it reads every sample, compares it, and adds
// up those above; about what a simple algorithm does.
func scan() []byte {
	return w.WithMeasure([]byte{w.I32, w.I64},
		w.I32Const(w.InputPtr), w.Get(0), w.Op(0x6a), w.Set(0),
		w.I32Const(w.InputPtr), w.Set(1),
		w.Block(0x03, w.Void,
			w.Get(1), w.Store(0x2e, 1, 0), w.I32Const(100), w.Op(0x4a),
			w.Block(0x04, w.Void, w.Get(2), w.Get(1), w.Store(0x32, 1, 0), w.Op(0x7c), w.Set(2)),
			w.Get(1), w.I32Const(2), w.Op(0x6a), w.Tee(1), w.Get(0), w.Op(0x49), w.Idx(0x0d, 0)),
		returns(0, w.Get(2))).Encode()
}

// BenchmarkRun is one call with everything: input copied in, fuel, output copied
// out, memory and globals restored.
func BenchmarkRun(b *testing.B) {
	e := newEngine(b, Config{CrossCheck: CrossCheckNever})
	p := load(b, e, scan())
	input := make([]byte, vectorBytes)
	for i := range input {
		input[i] = byte(i)
	}
	for name, x := range executors(p) {
		b.Run("engine="+name, func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				if r, err := x.execute(input, plenty); err != nil || r.Code() != 0 {
					b.Fatal(r, err)
				}
			})
		})
	}
	b.Run("engine=budgeted", func(b *testing.B) {
		p := load(b, newEngine(b, Config{}), scan())
		for b.Loop() {
			if r, err := p.Run(input, plenty); err != nil || r.Code() != 0 {
				b.Fatal(r, err)
			}
		}
		b.ReportMetric(float64(p.Stats().CrossChecks)/float64(b.N), "checks/op")
	})
}

// BenchmarkSpeed is the same for the speed module and a pulse of a vehicle.
func BenchmarkSpeed(b *testing.B) {
	p := load(b, newEngine(b, Config{CrossCheck: CrossCheckNever}), speed.Module())
	inputs := speedInputs(b, rand.New(rand.NewPCG(1, 0)))
	input := inputs[len(inputs)-2] // the last pulse, whole
	for name, x := range executors(p) {
		b.Run("engine="+name, func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				if r, err := x.execute(input, speedFuel); err != nil || r.Outcome != Completed {
					b.Fatal(r, err)
				}
			})
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	module := scan()
	for b.Loop() {
		if _, err := profile.Check(module); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoadWorst loads what the profile admits and compilers like least:
// every function with the most locals and the most blocks that the size allows.
func BenchmarkLoadWorst(b *testing.B) {
	locals := make([]byte, profile.MaxLocals-1)
	for i := range locals {
		locals[i] = w.I64
	}
	// Each block sets a local on one of two ways: a phi for the compiler.
	var body []byte
	for i := range profile.MaxBlocks {
		body = w.Cat(body, w.Get(0), w.Block(0x04, w.Void, w.I64Const(1), w.Set(1+i%(profile.MaxLocals-1))))
	}
	m := w.WithMeasure(locals, body, w.I32Const(8), w.End)
	for len(m.Encode())+len(body)+10 < profile.MaxModuleBytes {
		m.AddFunction(w.TypeMeasure, locals, body, w.I32Const(8), w.End)
	}
	e := newEngine(b, Config{})
	for b.Loop() {
		p := load(b, e, m.Encode())
		if err := p.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

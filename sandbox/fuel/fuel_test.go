package fuel

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

func check(t testing.TB, module []byte) *profile.Module {
	t.Helper()
	m, err := profile.Check(module)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestChargesOfRegions fixes the weights by hand: they are part of lacre/1.
func TestChargesOfRegions(t *testing.T) {
	zero, drop := w.I32Const(0), w.Op(0x1a)
	cases := []struct {
		name   string
		locals []byte
		body   []byte
		want   []uint64
	}{
		// 8 for the call, 1 for the parameter, then the instructions.
		{"constant and end", nil, w.Cat(zero, w.End), []uint64{8 + 1 + 2}},
		{"locals are cleared", []byte{w.I32, w.I64, w.I64}, w.Cat(zero, w.End), []uint64{8 + 4 + 2}},
		{"load and store", nil, w.Cat(zero, zero, w.Store(0x28, 0, 0), w.Store(0x36, 0, 0), zero, w.End), []uint64{9 + 4 + 4 + 4}},
		{"division", nil, w.Cat(zero, zero, w.Op(0x6d), zero, w.Op(0x70), w.End), []uint64{9 + 3 + 32 + 1}},
		{"64-bit division", nil, w.Cat(w.I64Const(1), w.I64Const(1), w.Op(0x7f), w.I64Const(1), w.Op(0x82), w.Op(0xa7), w.End), []uint64{9 + 3 + 32 + 2}},
		{"multiplication is not division", nil, w.Cat(zero, zero, w.Op(0x6c), w.End), []uint64{9 + 4}},
		{"call", nil, w.Cat(w.Call(0), w.End), []uint64{9 + 8 + 1}},
		{"br_table", nil, w.Cat(zero, zero, []byte{0x0e, 0, 0}, w.End), []uint64{9 + 2 + 4 + 1}},
		{"both arms", nil, w.Cat(zero, w.Block(0x04, w.Void, zero, drop, w.Op(0x05), zero, drop), zero, w.End), []uint64{9 + 1 + 1 + 2 + 1 + 2 + 1 + 2}},
		{"loops", nil, w.Cat(
			w.Block(0x03, w.Void, zero, drop, // loop, 2, end
				w.Block(0x03, w.Void, w.Op(0x01)),  // loop, 1, end
				w.Block(0x02, w.Void, zero, drop)), // 4
			w.Block(0x03, w.Void), // loop, end
			zero, w.End), []uint64{9 + 2, 2 + 2 + 4, 3, 2}},
		{"loop in an if", nil, w.Cat(zero, w.Block(0x04, w.Void, w.Block(0x03, w.Void), zero, drop), zero, w.End), []uint64{9 + 1 + 1 + 2 + 1 + 2, 2}},
	}
	for _, c := range cases {
		m := check(t, w.WithMeasure(c.locals, c.body).Encode())
		if got := charges(m, w.Measure); !slices.Equal(got, c.want) {
			t.Errorf("%s: charges %v, want %v", c.name, got, c.want)
		}
	}
}

// golden is the digest of the instrumented form of a module with globals, data,
// a loop and stores. A change of it changes fuel or its bookkeeping: a new
// profile version, unless fuel stays the same.
const golden = "0e8a485a1a4acb1a84c7e6f171fb5f1d1cd8dd638b869339104586ba8c95da69"

func sample() []byte {
	m := w.WithMeasure([]byte{w.I64})
	m.AddGlobal(w.I64, w.I64Const(-1))
	m.AddGlobal(w.I32, w.I32Const(-2))
	m.Globals = append(m.Globals, w.Global{Type: w.I32, Mutable: 0, Init: w.Cat(w.I32Const(5), w.End)})
	m.Data = []w.Data{{Offset: 64, Bytes: []byte("data")}}
	m.Functions[w.Measure].Body = w.Cat(
		w.Block(0x03, w.Void, w.Get(0), w.Get(1), w.Store(0x37, 3, 128), w.Get(0), w.I32Const(1), w.Op(0x6b), w.Tee(0), w.Idx(0x0d, 0)),
		w.I32Const(0), w.I32Const(1), w.Store(0x3a, 0, 0), w.I32Const(8), w.End)
	return m.Encode()
}

func TestInstrumentGolden(t *testing.T) {
	in := Instrument(check(t, sample()))
	if got := sha256.Sum256(in.Binary); hex.EncodeToString(got[:]) != golden {
		t.Errorf("instrumented module has digest %x, want %s", got, golden)
	}
	if again := Instrument(check(t, sample())); !bytes.Equal(again.Binary, in.Binary) {
		t.Error("two instrumentations of one module differ")
	}
	want := []State{{Export: "lacre.global.0", Init: 1<<64 - 1}, {Export: "lacre.global.1", Init: 1<<32 - 2}}
	if !slices.Equal(in.State, want) {
		t.Errorf("state %v, want %v", in.State, want)
	}
}

// FuzzInstrument: every generated module can be instrumented, and charges are
// positive. That the result is valid and equivalent is FuzzEngines' business.
func FuzzInstrument(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("the quick brown fox jumps over the lazy dog"))
	f.Fuzz(func(t *testing.T, seed []byte) {
		m, err := profile.Check(w.Generate(seed))
		if err != nil {
			return
		}
		if in := Instrument(m); len(in.Binary) <= len(m.Bytes())-len("lacre.module")-20 || len(in.State) != 4 {
			t.Fatalf("%d bytes became %d, state %v", len(m.Bytes()), len(in.Binary), in.State)
		}
		for i := range m.Functions() {
			for _, c := range charges(m, i) {
				if c == 0 {
					t.Fatalf("function %d has a free region", i)
				}
			}
		}
	})
}

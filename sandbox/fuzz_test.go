package sandbox

import (
	"context"
	"runtime"
	"testing"

	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// loadLimit bounds what both engines may allocate, all told, to load a module of
// so many bytes. The compiler's share is its work on locals times blocks.
func loadLimit(moduleBytes int) uint64 { return 1<<20 + 12<<10*uint64(moduleBytes) }

// FuzzAdmittedModules alters valid modules; what the profile still admits, wazero
// admits too, with the features of WebAssembly 1.0 alone, and runs it on both
// engines with equal results within the fuel.
func FuzzAdmittedModules(f *testing.F) {
	f.Add([]byte("the quick brown fox"), []byte{}, []byte{})
	for i := range uint8(32) {
		f.Add([]byte("a lorry at ten kilometres per hour"), []byte{1, 0, i % 8, 0, i * 7, i * 13, 2, 0, 3, 0, i, 9}, []byte{i})
	}
	f.Fuzz(func(t *testing.T, seed, edits, input []byte) {
		if len(seed) > 500 || len(edits) > 100 {
			return
		}
		module := w.Mutate(w.Generate(seed), edits)
		m, err := profile.Check(module)
		if err != nil {
			return
		}
		if err := w.Scan(module); err != nil {
			t.Fatalf("admitted, and a second reader says: %v", err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		e := newEngine(t, Config{CrossCheck: CrossCheckNever})
		whole, err := e.interpreter.CompileModule(context.Background(), module)
		if err != nil {
			t.Fatalf("admitted, and wazero says: %v", err)
		}
		if n := len(whole.ImportedFunctions()) + len(whole.ImportedMemories()); n > 0 {
			t.Fatalf("%d imports", n)
		}
		if err := whole.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		compareEngines(t, e, module, input[:min(len(input), int(m.InputCap))])
		runtime.ReadMemStats(&after)
		// Two more than a load, and up to six instances with their memories.
		if got, limit := after.TotalAlloc-before.TotalAlloc, 3*loadLimit(len(module))+8*uint64(m.MemoryBytes); got > limit {
			t.Fatalf("%d bytes allocated for a module of %d, want at most %d", got, len(module), limit)
		}
	})
}

// FuzzCallSequences makes many calls on the instances of one program, each with
// an input and a fuel limit of its own: the engines agree on each, no call sees
// what an earlier one left, and each ends as in a program of its own. The inputs in
// testdata named leaves-* are modules that end well with a global or memory changed:
// without the restoring of either, they fail.
func FuzzCallSequences(f *testing.F) {
	f.Add([]byte("a lorry at ten kilometres per hour"), []byte{4, 255, 1, 2, 3, 4, 0, 0, 8, 30, 1, 1, 1, 1, 1, 1, 1, 1})
	f.Add([]byte{3, 5, 4, 1, 7, 250, 3, 5, 4, 1, 7, 250}, []byte{1, 255, 7, 1, 2, 7, 1, 255, 9})
	f.Fuzz(func(t *testing.T, seed, script []byte) {
		if len(seed) > 1000 || len(script) > 400 {
			return
		}
		module := w.Generate(seed)
		if _, err := profile.Check(module); err != nil {
			return // too large
		}
		e := newEngine(t, Config{CrossCheck: CrossCheckNever, MaxInstances: 1})
		p := load(t, e, module)
		type call struct {
			input []byte
			fuel  uint64
			want  Result
		}
		var calls []call
		for len(script) >= 2 && len(calls) < 12 {
			n := min(int(script[0]), len(script)-2)
			calls = append(calls, call{input: script[2 : 2+n], fuel: 20 * uint64(script[1]) * uint64(script[1])})
			script = script[2+n:]
		}
		for i := range calls {
			c := &calls[i]
			var err error
			if c.want, err = p.authority.execute(c.input, c.fuel); err != nil {
				t.Fatal(err)
			}
			for name, x := range executors(p) {
				for range 2 {
					if got, err := x.execute(c.input, c.fuel); err != nil || !got.Equal(c.want) {
						t.Fatalf("call %d, %s: %v, %v; want %v", i, name, got, err, c.want)
					}
				}
				assertPristine(t, name, x.(*pool))
			}
		}
		for i, c := range calls { // none of the calls after it, nor before it, made a difference
			fresh := load(t, e, module)
			for name, x := range executors(fresh) {
				if got, err := x.execute(c.input, c.fuel); err != nil || !got.Equal(c.want) {
					t.Fatalf("call %d alone, %s: %v, %v; want %v", i, name, got, err, c.want)
				}
			}
			if err := fresh.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLoadAllocationIsBounded: what a module makes the engines allocate is
// bounded by a multiple of its size, hostile modules included.
func TestLoadAllocationIsBounded(t *testing.T) {
	locals := make([]byte, profile.MaxLocals-1)
	for i := range locals {
		locals[i] = w.I64
	}
	var blocks, deep, branches []byte
	for range profile.MaxBlocks {
		blocks = append(blocks, w.Block(0x03, w.Void)...)
	}
	for range profile.MaxNesting - 1 {
		deep = w.Block(0x02, w.Void, deep)
	}
	table := append([]byte{0x0e}, w.U(profile.MaxBranchTable)...)
	table = append(table, make([]byte, profile.MaxBranchTable+1)...)
	for range 200 {
		branches = append(branches, w.Block(0x02, w.Void, w.Get(0), table)...)
	}
	var calls []byte
	hostile := w.Minimal()
	for range 10 {
		hostile.AddFunction(w.TypeVoid, locals, blocks[:len(blocks)*9/10], w.End)
	}
	many := w.Minimal()
	leaf := many.AddFunction(w.TypeVoid, locals, w.End)
	for range 20_000 {
		calls = append(calls, w.Call(leaf)...)
	}
	many.AddFunction(w.TypeVoid, locals, calls, w.End)
	for name, module := range map[string][]byte{
		"locals times blocks": w.WithMeasure(locals, blocks, w.I32Const(8), w.End).Encode(),
		"ten times that":      hostile.Encode(),
		"nesting":             w.WithMeasure(locals, deep, w.I32Const(8), w.End).Encode(),
		"branch tables":       w.WithMeasure(locals, branches, w.I32Const(8), w.End).Encode(),
		"calls":               many.Encode(),
		"generated":           w.Generate(make([]byte, 500)),
	} {
		e := newEngine(t, Config{CrossCheck: CrossCheckNever, MaxInstances: 1})
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := load(t, e, module)
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		runtime.GC()
		runtime.ReadMemStats(&after)
		t.Logf("%s, a module of %d bytes: %d KiB allocated, %d for each byte; %d KiB more in use afterwards",
			name, len(module), allocated>>10, allocated/uint64(len(module)), int64(after.HeapAlloc-before.HeapAlloc)>>10)
		if limit := loadLimit(len(module)); allocated > limit {
			t.Errorf("%s: %d bytes allocated to load a module of %d, want at most %d", name, allocated, len(module), limit)
		}
		if err := p.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

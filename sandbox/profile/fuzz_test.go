package profile

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
)

// allocationLimit bounds what Check may allocate for a module of so many bytes.
func allocationLimit(moduleBytes int) uint64 { return 64<<10 + 64*uint64(moduleBytes) }

// judgeModule is what holds of every sequence of bytes: Check answers with a
// reason that is listed or with a module; it allocates in proportion to what it
// was given; and what it admits, a second reader finds inside the profile.
func judgeModule(t *testing.T, module []byte) *Module {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := Check(module)
	runtime.ReadMemStats(&after)
	if allocated, limit := after.TotalAlloc-before.TotalAlloc, allocationLimit(len(module)); allocated > limit {
		t.Fatalf("%d bytes allocated for a module of %d, want at most %d (answer %v)", allocated, len(module), limit, err)
	}
	if err != nil {
		var refused *Error
		if !errors.As(err, &refused) || !slices.Contains(Reasons(), refused.Reason) || refused.Offset < 0 || refused.Offset > len(module) {
			t.Fatalf("refused with %#v", err)
		}
		return nil
	}
	if err := w.Scan(module); err != nil {
		t.Fatalf("admitted, and a second reader says: %v", err)
	}
	if !bytes.Equal(m.Bytes(), module) {
		t.Fatal("the module checked is not the module given")
	}
	for i := range m.Functions() {
		last, code := OpNop, []byte(nil)
		for in := range m.Instructions(i) {
			last, code = in.Op, append(code, in.Raw...)
		}
		f := m.Functions()[i].code
		if last != OpEnd || !bytes.Equal(code, module[f.start:f.end]) {
			t.Fatalf("function %d ends with %s and has %d bytes of instructions in %d of code", i, last, len(code), f.len())
		}
	}
	if uint64(m.InputPtr)+uint64(m.InputCap) > uint64(m.MemoryBytes) || uint64(m.OutputPtr)+uint64(m.OutputCap) > uint64(m.InputPtr) {
		t.Fatalf("regions: %+v", m)
	}
	if image := m.InitialData(); uint64(len(image)) > uint64(m.InputPtr) {
		t.Fatalf("data up to %d, the input region begins at %d", len(image), m.InputPtr)
	}
	return m
}

// FuzzProfile judges the fuzzer's own bytes.
func FuzzProfile(f *testing.F) {
	for _, c := range accepted {
		f.Add(c.module)
	}
	for _, c := range broken {
		if len(c.module) < 4096 {
			f.Add(c.module)
		}
	}
	f.Fuzz(func(t *testing.T, module []byte) { judgeModule(t, module) })
}

// FuzzProfileSections judges sections of arbitrary content whose sizes are right:
// an id, a length and so many bytes each.
func FuzzProfileSections(f *testing.F) {
	for _, c := range accepted {
		var data []byte
		for _, s := range w.Split(c.module) {
			if len(s.Content) < 256 {
				data = append(append(data, s.ID, byte(len(s.Content))), s.Content...)
			}
		}
		f.Add(data)
	}
	f.Add([]byte{8, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var sections []w.Section
		for len(data) >= 2 {
			n := min(int(data[1]), len(data)-2)
			sections = append(sections, w.Section{ID: data[0] % 14, Content: data[2 : 2+n]})
			data = data[2+n:]
		}
		judgeModule(t, w.Assemble(sections))
	})
}

// FuzzProfileMutations judges valid modules after a few alterations.
func FuzzProfileMutations(f *testing.F) {
	f.Add(uint8(0), []byte{}, []byte{})
	f.Add(uint8(1), []byte{}, []byte{0, 1, 2, 3})
	for i := range uint8(64) {
		f.Add(uint8(200), []byte("the quick brown fox"), []byte{i, i * 7, i * 31, 3, i * 3, 0x0b, 1, 0x20, i, 5})
	}
	f.Fuzz(func(t *testing.T, base uint8, seed, edits []byte) {
		if len(seed) > 1000 || len(edits) > 200 {
			return
		}
		module := w.Generate(seed)
		if int(base) < len(accepted) {
			module = accepted[base].module
		}
		judgeModule(t, w.Mutate(module, edits))
	})
}

// What the generator makes is admitted, unless it is too large for the profile.
func FuzzProfileGenerated(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("the quick brown fox jumps over the lazy dog"))
	f.Add(bytes.Repeat([]byte{3, 5, 4, 1, 7, 250}, 40))
	limits := []Reason{ReasonModuleSize, ReasonBlocks}
	f.Fuzz(func(t *testing.T, seed []byte) {
		if len(seed) > 4000 {
			return
		}
		module := w.Generate(seed)
		if m := judgeModule(t, module); m == nil {
			_, err := Check(module)
			if !slices.ContainsFunc(limits, func(r Reason) bool { return errors.Is(err, r) }) {
				t.Fatalf("a generated module of %d bytes: %v", len(module), err)
			}
		}
	})
}

// Every call of a long chain goes back to its beginning: to say so once must not
// cost a text for each of them.
func TestRecursionIsReportedAtABoundedCost(t *testing.T) {
	m := w.Minimal()
	first := m.AddFunction(w.TypeVoid, nil, w.Call(7), w.End)
	for i := first + 1; i < MaxFunctions-1; i++ {
		m.AddFunction(w.TypeVoid, nil, w.Call(i+1), w.End)
	}
	m.AddFunction(w.TypeVoid, nil, bytes.Repeat(w.Call(first), 30_000), w.End)
	module := m.Encode()
	if judgeModule(t, module) != nil {
		t.Fatal("a recursive module is admitted")
	}
	if _, err := Check(module); !errors.Is(err, ReasonRecursion) {
		t.Errorf("refused with %v", err)
	}
}

// The second reader finds by itself what lies outside the profile, typing apart.
func TestSecondReaderBites(t *testing.T) {
	blind := []Reason{ // what it leaves to wazero, or to the first reader
		ReasonTypeMismatch, ReasonAlignment, ReasonImmutable, ReasonControl, ReasonSignature, ReasonGetter, ReasonABIVersion,
		ReasonInputRegion, ReasonOutputRegion, ReasonIdentity, ReasonBlocks, ReasonOperands, ReasonData, ReasonIndex, ReasonInteger,
		ReasonGlobal,
	}
	for _, c := range accepted {
		if err := w.Scan(c.module); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, c := range broken {
		if !slices.Contains(blind, c.reason) && w.Scan(c.module) == nil {
			t.Errorf("%s: the second reader admits it, want %s", c.name, c.reason)
		}
	}
}

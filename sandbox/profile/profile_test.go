package profile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	w "github.com/lacre-metrology/lacre/sandbox/internal/wasmtest"
)

// body returns the module whose measure is body, for rules about code.
func body(parts ...[]byte) []byte { return w.WithMeasure(nil, parts...).Encode() }

// with returns Minimal after a change.
func with(change func(m *w.Module)) []byte {
	m := w.Minimal()
	change(m)
	return m.Encode()
}

// section returns Minimal with the content of one section replaced, or the
// section inserted in order when it has none.
func section(id byte, content ...[]byte) []byte {
	sections := w.Minimal().Sections()
	at := len(sections) - 1 // before lacre.module
	for i, s := range sections {
		if s.ID == id {
			sections[i].Content = w.Cat(content...)
			return w.Assemble(sections)
		}
		if s.ID > id && i < at {
			at = i
		}
	}
	return w.Assemble(slices.Insert(sections, at, w.Section{ID: id, Content: w.Cat(content...)}))
}

// repeat returns n copies of b.
func repeat(n int, b ...byte) []byte { return bytes.Repeat(b, n) }

// nest returns n blocks inside each other.
func nest(n int) []byte {
	return w.Cat(bytes.Repeat([]byte{0x02, w.Void}, n), bytes.Repeat(w.End, n))
}

var result = w.I32Const(8) // what a measure of no interest returns

// broken has every rule broken, most of them once, some in several ways.
var broken = []struct {
	name   string
	module []byte
	reason Reason
}{
	{"too large", append(w.Minimal().Encode(), make([]byte, MaxModuleBytes)...), ReasonModuleSize},
	{"empty", nil, ReasonMagic},
	{"version 2", append([]byte("\x00asm\x02\x00\x00\x00"), w.Minimal().Encode()[8:]...), ReasonMagic},
	{"cut short", w.Minimal().Encode()[:150], ReasonTruncated},
	{"section beyond the end", w.Cat(w.Minimal().Encode()[:8], []byte{1, 100, 0}), ReasonTruncated},
	{"padded count", section(5, []byte{0x81, 0x00, 1, 1, 1}), ReasonInteger},
	{"limit of six bytes", section(5, []byte{1, 1, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 1}), ReasonInteger},
	{"limit beyond 32 bits", section(5, []byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x1f, 1}), ReasonInteger},
	{"i32.const beyond 32 bits", body([]byte{0x41, 0xff, 0xff, 0xff, 0xff, 0x0f}, w.End), ReasonInteger},
	{"i32.const of six bytes", body([]byte{0x41, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, w.End), ReasonInteger},
	{"i64.const beyond 64 bits", body([]byte{0x42}, repeat(9, 0x80), []byte{0x01}, w.Op(0x1a), result, w.End), ReasonInteger},
	{"bytes after memory", section(5, []byte{1, 1, 1, 1, 0}), ReasonTrailing},
	{"bytes after a body", body(result, w.End, w.Op(0x01)), ReasonTrailing},
	{"sections swapped", swapped(), ReasonSectionOrder},
	{"section twice", doubled(), ReasonSectionOrder},
	{"section after lacre.module", w.Assemble(append(w.Minimal().Sections(), w.Section{ID: 11, Content: []byte{0}})), ReasonSectionOrder},
	{"data count section", section(12, []byte{0}), ReasonSection},
	{"imported function", section(2, []byte{1, 1, 'e', 1, 'f', 0, 0}), ReasonImport},
	{"empty import section", section(2, []byte{0}), ReasonImport},
	{"start of function 0", section(8, []byte{0}), ReasonStart},
	{"element section", section(9, []byte{0}), ReasonElement},
	{"no custom section", w.Assemble(w.Minimal().Sections()[:5]), ReasonCustom},
	{"other custom section", w.Assemble(append(w.Minimal().Sections()[:5], w.Custom("name", nil))), ReasonCustom},
	{"identity without version", with(func(m *w.Module) { m.Identity = "speed" }), ReasonIdentity},
	{"identity with NUL", with(func(m *w.Module) { m.Identity = "speed 1.0.0\x00" }), ReasonIdentity},
	{"identity in capitals", with(func(m *w.Module) { m.Identity = "Speed 1.0.0" }), ReasonIdentity},
	{"version of two parts", with(func(m *w.Module) { m.Identity = "speed 1.0" }), ReasonIdentity},
	{"version with leading zero", with(func(m *w.Module) { m.Identity = "speed 1.00.0" }), ReasonIdentity},
	{"identity too long", with(func(m *w.Module) { m.Identity = strings.Repeat("a", 70) + " 1.0.0" }), ReasonIdentity},
	{"table of two elements", section(4, []byte{1, 0x70, 1, 2, 2}), ReasonTable},
	{"table without maximum", section(4, []byte{1, 0x70, 0, 1}), ReasonTable},
	{"no memory", w.Assemble(slices.Delete(w.Minimal().Sections(), 2, 3)), ReasonMemory},
	{"two memories", section(5, []byte{2, 1, 1, 1, 1, 1, 1}), ReasonMemory},
	{"memory without maximum", section(5, []byte{1, 0, 1}), ReasonMemory},
	{"memory that may grow", with(func(m *w.Module) { m.MemoryMax = 2 }), ReasonMemory},
	{"memory of 65 pages", with(func(m *w.Module) { m.MemoryMin, m.MemoryMax = 65, 65 }), ReasonMemory},
	{"memory of no page", with(func(m *w.Module) { m.MemoryMin, m.MemoryMax = 0, 0 }), ReasonMemory},
	{"two results", with(func(m *w.Module) { m.Types[2].Results = []byte{w.I32, w.I32} }), ReasonType},
	{"not a function type", section(1, []byte{1, 0x5f, 0, 0}), ReasonType},
	{"float parameter", with(func(m *w.Module) { m.Types[2].Params = []byte{w.F32} }), ReasonValueType},
	{"float result", with(func(m *w.Module) { m.Types[2].Results = []byte{w.F64} }), ReasonValueType},
	{"float local", w.WithMeasure([]byte{w.F64}, result, w.End).Encode(), ReasonValueType},
	{"float global", with(func(m *w.Module) { m.AddGlobal(w.F32, []byte{0x43, 0, 0, 0, 0}) }), ReasonValueType},
	{"vector local", w.WithMeasure([]byte{0x7b}, result, w.End).Encode(), ReasonValueType},
	{"block of a type index", body(w.Block(0x02, 0x00), result, w.End), ReasonValueType},
	{"too many types", with(func(m *w.Module) { m.Types = append(m.Types, make([]w.Type, MaxTypes)...) }), ReasonTypeCount},
	{"too many functions", with(func(m *w.Module) {
		for range MaxFunctions {
			m.AddFunction(w.TypeVoid, nil, w.End)
		}
	}), ReasonFunctionCount},
	{"a body too few", withoutLastBody(), ReasonFunctionCount},
	{"no bodies", w.Assemble(slices.Delete(w.Minimal().Sections(), 4, 5)), ReasonFunctionCount},
	{"too many globals", with(func(m *w.Module) {
		for range MaxGlobals + 1 {
			m.AddGlobal(w.I32, w.I32Const(0))
		}
	}), ReasonGlobalCount},
	{"global of another type", with(func(m *w.Module) { m.AddGlobal(w.I32, w.I64Const(0)) }), ReasonGlobal},
	{"global from a global", with(func(m *w.Module) { m.AddGlobal(w.I32, w.GlobalGet(0)) }), ReasonGlobal},
	{"global of two constants", with(func(m *w.Module) { m.AddGlobal(w.I32, w.Cat(w.I32Const(0), w.I32Const(0))) }), ReasonGlobal},
	{"global mutability 2", section(6, []byte{1, w.I32, 2, 0x41, 0, 0x0b}), ReasonGlobal},
	{"too many segments", with(func(m *w.Module) { m.Data = make([]w.Data, MaxDataSegments+1) }), ReasonDataCount},
	{"passive segment", section(11, []byte{1, 1, 0}), ReasonData},
	{"segment in the input", with(func(m *w.Module) { m.Data = []w.Data{{Offset: w.InputPtr - 1, Bytes: []byte{1, 2}}} }), ReasonData},
	{"segment outside memory", with(func(m *w.Module) { m.Data = []w.Data{{Offset: -1, Bytes: []byte{1}}} }), ReasonData},
	{"segments overlap", with(func(m *w.Module) { m.Data = []w.Data{{Offset: 0, Bytes: []byte{1, 2}}, {Offset: 1, Bytes: []byte{1}}} }), ReasonData},
	{"segments descend", with(func(m *w.Module) { m.Data = []w.Data{{Offset: 8, Bytes: []byte{1}}, {Offset: 0, Bytes: []byte{1}}} }), ReasonData},
	{"unknown type", with(func(m *w.Module) { m.AddFunction(9, nil, w.End) }), ReasonIndex},
	{"unknown function", body(w.Call(6), result, w.End), ReasonIndex},
	{"unknown local", body(w.Get(1), w.End), ReasonIndex},
	{"unknown global", body(w.GlobalGet(0), w.End), ReasonIndex},
	{"unknown label", body(w.Idx(0x0c, 1), w.End), ReasonIndex},
	{"export of unknown function", with(func(m *w.Module) { m.Exports[1].Index = 6 }), ReasonIndex},
	{"too many locals", w.WithMeasure(repeat(MaxLocals, w.I32), result, w.End).Encode(), ReasonLocals},
	{"locals by the gigabyte", w.Assemble(hugeLocals()), ReasonLocals},
	{"too many parameters", with(func(m *w.Module) { m.Types[2].Params = repeat(MaxLocals+1, w.I32) }), ReasonLocals},
	{"f64.add", body(w.Op(0xa0), w.End), ReasonOpcode},
	{"f32.const", body([]byte{0x43, 0, 0, 0, 0}, w.End), ReasonOpcode},
	{"f32.load", body(w.Store(0x2a, 0, 0), w.End), ReasonOpcode},
	{"i32.reinterpret_f32", body(w.Op(0xbc), w.End), ReasonOpcode},
	{"i32.trunc_f32_s", body(w.Op(0xa8), w.End), ReasonOpcode},
	{"call_indirect", body([]byte{0x11, 0, 0}, w.End), ReasonOpcode},
	{"memory.size", body([]byte{0x3f, 0}, w.End), ReasonOpcode},
	{"memory.grow", body([]byte{0x40, 0}, w.End), ReasonOpcode},
	{"sign extension", body(w.Op(0xc0), w.End), ReasonOpcode},
	{"typed select", body([]byte{0x1c, 1, w.I32}, w.End), ReasonOpcode},
	{"bulk memory", body([]byte{0xfc, 0x0a, 0, 0}, w.End), ReasonOpcode},
	{"SIMD", body([]byte{0xfd, 0x0c}, w.End), ReasonOpcode},
	{"threads", body([]byte{0xfe, 0x00}, w.End), ReasonOpcode},
	{"tail call", body([]byte{0x12, 0}, w.End), ReasonOpcode},
	{"nested too deep", body(nest(MaxNesting), result, w.End), ReasonNesting},
	{"too many blocks", body(bytes.Repeat(nest(1), MaxBlocks+1), result, w.End), ReasonBlocks},
	{"br_table too long", body(w.Get(0), []byte{0x0e}, w.U(MaxBranchTable+1), make([]byte, MaxBranchTable+2), w.End), ReasonBranchTable},
	{"operands too many", body(bytes.Repeat(result, MaxOperands+1), w.End), ReasonOperands},
	{"operand of another type", body(w.I64Const(0), w.End), ReasonTypeMismatch},
	{"operand missing", body(w.Op(0x6a), w.End), ReasonTypeMismatch},
	{"operand left over", body(result, result, w.End), ReasonTypeMismatch},
	{"result missing", body(w.End), ReasonTypeMismatch},
	{"operand from outside a block", body(result, w.Block(0x02, w.Void, w.Op(0x1a)), result, w.End), ReasonTypeMismatch},
	{"select of two types", body(result, w.I64Const(0), result, w.Op(0x1b), w.Op(0x1a), result, w.End), ReasonTypeMismatch},
	{"call with another type", with(func(m *w.Module) {
		m.Functions[w.Measure].Body = w.Cat(w.I64Const(1), w.Call(m.AddFunction(w.TypeMeasure, nil, result, w.End)), w.End)
	}), ReasonTypeMismatch},
	{"br_table of two types", body(result, w.Block(0x02, w.Void, result, w.Get(0), []byte{0x0e, 1, 0, 1}), w.End), ReasonTypeMismatch},
	{"unreachable code of another type", body(w.Op(0x00), w.I64Const(0), w.End), ReasonTypeMismatch},
	{"unreachable code with a rest", body(w.Op(0x00), result, result, w.End), ReasonTypeMismatch},
	{"alignment", body(w.Get(0), w.Store(0x28, 3, 0), w.End), ReasonAlignment},
	{"alignment overflow", body(w.Get(0), w.Store(0x28, 32, 0), w.End), ReasonAlignment},
	{"constant global set", with(func(m *w.Module) {
		m.AddGlobal(w.I32, result)
		m.Globals[0].Mutable = 0
		m.Functions[w.Measure].Body = w.Cat(result, w.GlobalSet(0), result, w.End)
	}), ReasonImmutable},
	{"else without if", body(w.Block(0x02, w.Void, w.Op(0x05)), result, w.End), ReasonControl},
	{"if without else but a result", body(w.Get(0), w.Block(0x04, w.I32, result), w.End), ReasonControl},
	{"two elses", body(w.Get(0), w.Block(0x04, w.Void, w.Op(0x05), w.Op(0x05)), result, w.End), ReasonControl},
	{"direct recursion", body(w.Get(0), w.Call(w.Measure), w.End), ReasonRecursion},
	{"mutual recursion", mutualRecursion(), ReasonRecursion},
	{"recursion in unreachable code", body(w.Op(0x00), w.Call(w.Measure), w.End), ReasonRecursion},
	{"an eighth export", with(func(m *w.Module) { m.Exports = append(m.Exports, w.Export{Name: "more", Index: 0}) }), ReasonExport},
	{"an export missing", with(func(m *w.Module) { m.Exports = m.Exports[1:] }), ReasonExport},
	{"an export renamed", with(func(m *w.Module) { m.Exports[6].Name = "_start" }), ReasonExport},
	{"an export twice", with(func(m *w.Module) { m.Exports[6] = m.Exports[5] }), ReasonExport},
	{"memory as measure", with(func(m *w.Module) { m.Exports[6].Kind = 2 }), ReasonExport},
	{"measure as memory", with(func(m *w.Module) { m.Exports[0].Kind = 0 }), ReasonExport},
	{"measure without parameter", with(func(m *w.Module) { m.Exports[6].Index = 0 }), ReasonSignature},
	{"getter with parameter", with(func(m *w.Module) { m.Exports[1].Index = w.Measure }), ReasonSignature},
	{"getter that computes", with(func(m *w.Module) { m.Functions[1].Body = w.Cat(result, result, w.Op(0x6a), w.End) }), ReasonGetter},
	{"getter from a global", with(func(m *w.Module) {
		m.AddGlobal(w.I32, result)
		m.Functions[1].Body = w.Cat(w.GlobalGet(0), w.End)
	}), ReasonGetter},
	{"getter with a local", with(func(m *w.Module) { m.Functions[1].Locals = []byte{w.I32} }), ReasonGetter},
	{"ABI version 2", with(func(m *w.Module) { m.SetGetter("abi_version", 2) }), ReasonABIVersion},
	{"input outside memory", with(func(m *w.Module) { m.SetGetter("input_cap", PageBytes-w.InputPtr+1) }), ReasonInputRegion},
	{"input beyond 32 bits", with(func(m *w.Module) { m.SetGetter("input_cap", -1) }), ReasonInputRegion},
	{"input too small", with(func(m *w.Module) { m.SetGetter("input_cap", MinInputBytes-1) }), ReasonInputRegion},
	{"output over input", with(func(m *w.Module) { m.SetGetter("output_ptr", w.InputPtr-w.OutputCap+1) }), ReasonOutputRegion},
	{"output above input", with(func(m *w.Module) { m.SetGetter("output_ptr", w.InputPtr+w.InputCap) }), ReasonOutputRegion},
	{"output too small", with(func(m *w.Module) { m.SetGetter("output_cap", MinOutputBytes-1) }), ReasonOutputRegion},
	{"output too large", with(func(m *w.Module) {
		m.SetGetter("input_ptr", 2*MaxOutputBytes)
		m.SetGetter("output_cap", MaxOutputBytes+1)
	}), ReasonOutputRegion},
}

func swapped() []byte {
	s := w.Minimal().Sections()
	s[2], s[3] = s[3], s[2]
	return w.Assemble(s)
}

func doubled() []byte {
	s := w.Minimal().Sections()
	return w.Assemble(slices.Insert(s, 2, s[2]))
}

func withoutLastBody() []byte {
	m := w.Minimal()
	sections := m.Sections()
	m.Functions = m.Functions[:len(m.Functions)-1]
	sections[4] = m.Sections()[4]
	return w.Assemble(sections)
}

// hugeLocals declares 2^32-1 locals in measure.
func hugeLocals() []w.Section {
	m := w.Minimal()
	m.Functions = m.Functions[:0]
	m.AddFunction(0, nil, nil)
	sections := w.Minimal().Sections()
	getter := w.Vec([]byte{0, 0x41, 0, 0x0b})
	huge := w.Vec(w.Cat([]byte{1}, w.U(0xffffffff), []byte{w.I64}, result, w.End))
	sections[4].Content = w.Cat([]byte{6}, bytes.Repeat(getter, 5), huge)
	return sections
}

func mutualRecursion() []byte {
	m := w.Minimal()
	a := m.AddFunction(w.TypeVoid, nil, w.Call(w.Measure+2), w.End)
	m.AddFunction(w.TypeVoid, nil, w.Call(a), w.End)
	return m.Encode()
}

func TestProfileRefusesEachBrokenRule(t *testing.T) {
	seen := make(map[Reason]bool)
	for _, c := range broken {
		seen[c.reason] = true
		m, err := Check(c.module)
		var e *Error
		if !errors.As(err, &e) || m != nil {
			t.Errorf("%s: Check = %v, %v, want reason %s", c.name, m, err, c.reason)
			continue
		}
		if e.Reason != c.reason || !errors.Is(err, c.reason) {
			t.Errorf("%s: %v, want reason %s", c.name, err, c.reason)
		}
		if e.Have == "" || e.Want == "" || e.Offset > len(c.module) {
			t.Errorf("%s: error does not show both sides: %#v", c.name, e)
		}
	}
	for _, reason := range Reasons() {
		if !seen[reason] {
			t.Errorf("no module breaks rule %s", reason)
		}
	}
}

// TestProfileOpcodes goes through all 256 first bytes: exactly the whitelist
// gets beyond decoding.
func TestProfileOpcodes(t *testing.T) {
	allowed := 0
	for op := range 256 {
		_, err := Check(body(w.Op(byte(op)), repeat(16, 0), result, w.End))
		forbidden := errors.Is(err, ReasonOpcode)
		if forbidden != (Opcode(op).Kind() == Forbidden) {
			t.Errorf("byte 0x%02x (%s): %v", op, Opcode(op), err)
		}
		if !forbidden {
			allowed++
		}
	}
	// 21 for control, calls, variables and constants; 12 loads, 7 stores; 11
	// comparisons and 18 operations for each type; 3 conversions.
	if want := 21 + 12 + 7 + 2*11 + 2*18 + 3; allowed != want {
		t.Errorf("whitelist has %d opcodes, want %d", allowed, want)
	}
}

// accepted holds what looks unusual but is allowed.
var accepted = []struct {
	name   string
	module []byte
}{
	{"minimal", w.Minimal().Encode()},
	{"inert table of wasm-ld", section(4, []byte{1, 0x70, 1, 1, 1})},
	{"padded immediates of wasm-ld", body([]byte{0x41, 0x88, 0x80, 0x80, 0x80, 0x00}, []byte{0x21, 0x80, 0x80, 0x80, 0x80, 0x00}, []byte{0x41, 0xf8, 0xff, 0xff, 0xff, 0x7f}, w.End)},
	{"extreme constants", body(w.I64Const(-1<<63), w.Op(0x1a), w.I64Const(1<<63-1), w.Op(0x1a), w.I32Const(-1<<31), w.End)},
	{"most locals", w.WithMeasure(repeat(MaxLocals-1, w.I64), result, w.End).Encode()},
	{"deepest nesting", body(nest(MaxNesting-1), result, w.End)},
	{"most blocks", body(bytes.Repeat(nest(1), MaxBlocks), result, w.End)},
	{"longest br_table", body(w.I32Const(8), w.Get(0), []byte{0x0e}, w.U(MaxBranchTable), make([]byte, MaxBranchTable+1), w.End)},
	{"most operands", body(bytes.Repeat(result, MaxOperands), repeat(MaxOperands-1, 0x1a), w.End)},
	{"largest memory", with(func(m *w.Module) { m.MemoryMin, m.MemoryMax = MaxMemoryPages, MaxMemoryPages })},
	{"input to the end of memory", with(func(m *w.Module) { m.SetGetter("input_cap", PageBytes-w.InputPtr) })},
	{"output up to the input", with(func(m *w.Module) { m.SetGetter("output_ptr", w.InputPtr-w.OutputCap) })},
	{"data up to the input", with(func(m *w.Module) {
		m.Data = []w.Data{{Offset: 0, Bytes: []byte{1}}, {Offset: 1, Bytes: nil}, {Offset: w.InputPtr - 1, Bytes: []byte{2}}}
	})},
	{"one function for two getters", with(func(m *w.Module) { m.Exports[3].Index = 2 })},
	{"polymorphic unreachable code", body(w.Op(0x00), w.Op(0x1b), w.Op(0x6a), w.Op(0x0f), w.Op(0x1a), w.Block(0x03, w.I32, w.Op(0x00)), w.End)},
	{"return inside a loop", body(w.Block(0x03, w.Void, result, w.Op(0x0f)), w.Op(0x00), w.End)},
	{"br_if keeps its value", body(w.Block(0x02, w.I32, result, w.Get(0), w.Idx(0x0d, 0)), w.End)},
	{"if with else and a result", body(w.Get(0), w.Op(0x04, w.I32), result, w.Op(0x05), w.I32Const(0), w.End, w.End)},
	{"diamond of calls", with(func(m *w.Module) {
		a := m.AddFunction(w.TypeVoid, nil, w.End)
		b := m.AddFunction(w.TypeVoid, nil, w.Call(a), w.Call(a), w.End)
		m.Functions[w.Measure].Body = w.Cat(w.Call(a), w.Call(b), result, w.End)
	})},
}

func TestProfileAccepts(t *testing.T) {
	for _, c := range accepted {
		if _, err := Check(c.module); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestProfileDescribesModule(t *testing.T) {
	b := w.Minimal()
	b.Data = []w.Data{{Offset: 16, Bytes: []byte{1, 2}}, {Offset: 20, Bytes: []byte{3}}}
	module := b.Encode()
	m, err := Check(module)
	if err != nil {
		t.Fatal(err)
	}
	if m.Name != "test" || m.Version != "1.0.0" || m.Digest != sha256.Sum256(module) || m.FunctionCount != 6 || m.MemoryBytes != PageBytes {
		t.Errorf("identity: %+v", m)
	}
	if m.InputPtr != w.InputPtr || m.InputCap != w.InputCap || m.OutputPtr != w.OutputPtr || m.OutputCap != w.OutputCap {
		t.Errorf("layout: %+v", m)
	}
	if want := append(make([]byte, 16), 1, 2, 0, 0, 3); !bytes.Equal(m.InitialData(), want) {
		t.Errorf("InitialData = %x, want %x", m.InitialData(), want)
	}
	module[0] = 1 // the caller's bytes are not the module's
	if !bytes.Equal(m.Bytes()[:4], []byte("\x00asm")) {
		t.Error("Check retained the caller's bytes")
	}
}

// TestProfileAllocationIsBounded gives every module of the tables, hostile ones
// included, one bound: a constant plus a multiple of the module's size.
func TestProfileAllocationIsBounded(t *testing.T) {
	for _, c := range broken {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = Check(c.module)
		runtime.ReadMemStats(&after)
		allocated, limit := after.TotalAlloc-before.TotalAlloc, 64<<10+64*uint64(len(c.module))
		if allocated > limit {
			t.Errorf("%s: %d bytes allocated for a module of %d, want at most %d", c.name, allocated, len(c.module), limit)
		}
	}
}

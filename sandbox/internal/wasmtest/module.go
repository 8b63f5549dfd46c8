// Package wasmtest assembles small WebAssembly modules for tests: by hand, part
// by part, so that a test can break exactly one rule, and at random, so that a
// fuzz target can compare engines.
//
// Source: WebAssembly Core Specification 1.0, chapter 5. The package has its own
// encoder on purpose: it shares no code with the validator that it tests.
package wasmtest

import (
	"slices"

	"github.com/lacre-metrology/lacre/sandbox/internal/leb"
)

// Value types and the empty block type in binary form.
const (
	I32  byte = 0x7f
	I64  byte = 0x7e
	F32  byte = 0x7d
	F64  byte = 0x7c
	Void byte = 0x40
)

// Function is a function of a test module. Body holds the instructions with the
// final end.
type Function struct {
	Type   int // index into Module.Types
	Locals []byte
	Body   []byte
}

// Type is a function type.
type Type struct{ Params, Results []byte }

// Global is a global with its initial value.
type Global struct {
	Type    byte
	Mutable byte
	Init    []byte // constant expression with end
}

// Export is an entry of the export section.
type Export struct {
	Name  string
	Kind  byte
	Index int
}

// Data is an active data segment.
type Data struct {
	Offset int32
	Bytes  []byte
}

// Module is a module under construction. Fields may be changed freely before
// Encode.
type Module struct {
	Types     []Type
	Functions []Function
	MemoryMin uint64
	MemoryMax uint64
	Globals   []Global
	Exports   []Export
	Data      []Data
	Identity  string // content of lacre.module
}

// Section is an encoded section: id and content.
type Section struct {
	ID      byte
	Content []byte
}

// Regions of Minimal.
const (
	OutputPtr = 1024
	OutputCap = 256
	InputPtr  = 4096
	InputCap  = 32768
)

// Indices in Minimal: its types, and the function of measure.
const (
	TypeGetter  = 0 // () -> i32
	TypeMeasure = 1 // (i32) -> i32
	TypeVoid    = 2 // () -> ()
	Measure     = 5
)

// Minimal returns the smallest useful module of profile lacre/1: measure returns
// {code 0, V 0}, which it stores at the output.
func Minimal() *Module {
	return WithMeasure(nil, I32Const(OutputPtr), I64Const(0), Store(0x37, 3, 0), I32Const(8), End)
}

// WithMeasure returns Minimal with another measure.
func WithMeasure(locals []byte, body ...[]byte) *Module {
	m := &Module{
		Types:     []Type{{nil, []byte{I32}}, {[]byte{I32}, []byte{I32}}, {}},
		MemoryMin: 1, MemoryMax: 1,
		Identity: "test 1.0.0",
		Exports:  []Export{{"memory", 2, 0}},
	}
	getters := []struct {
		name  string
		value int32
	}{{"abi_version", 1}, {"input_ptr", InputPtr}, {"input_cap", InputCap}, {"output_ptr", OutputPtr}, {"output_cap", OutputCap}}
	for i, g := range getters {
		m.Functions = append(m.Functions, Function{Type: TypeGetter, Body: Cat(I32Const(g.value), End)})
		m.Exports = append(m.Exports, Export{g.name, 0, i})
	}
	m.Functions = append(m.Functions, Function{Type: TypeMeasure, Locals: locals, Body: Cat(body...)})
	m.Exports = append(m.Exports, Export{"measure", 0, Measure})
	return m
}

// SetGetter changes the constant of the getter with the given export name.
func (m *Module) SetGetter(name string, value int32) {
	for _, e := range m.Exports {
		if e.Name == name {
			m.Functions[e.Index].Body = Cat(I32Const(value), End)
		}
	}
}

// AddFunction appends a function and returns its index.
func (m *Module) AddFunction(typeIndex int, locals []byte, body ...[]byte) int {
	m.Functions = append(m.Functions, Function{Type: typeIndex, Locals: locals, Body: Cat(body...)})
	return len(m.Functions) - 1
}

// AddGlobal appends a mutable global and returns its index.
func (m *Module) AddGlobal(valueType byte, init []byte) int {
	m.Globals = append(m.Globals, Global{Type: valueType, Mutable: 1, Init: Cat(init, End)})
	return len(m.Globals) - 1
}

// Encode assembles the module.
func (m *Module) Encode() []byte { return Assemble(m.Sections()) }

// Sections encodes each section of the module, in order.
func (m *Module) Sections() []Section {
	var sections []Section
	add := func(id byte, count int, items []byte) {
		if count > 0 {
			sections = append(sections, Section{id, Cat(U(uint64(count)), items)})
		}
	}
	var types, functions, globals, exports, codes, data []byte
	for _, t := range m.Types {
		types = append(types, Cat([]byte{0x60}, Vec(t.Params), Vec(t.Results))...)
	}
	for _, f := range m.Functions {
		functions = append(functions, U(uint64(f.Type))...)
		codes = append(codes, Vec(Cat(Locals(f.Locals), f.Body))...)
	}
	for _, g := range m.Globals {
		globals = append(globals, Cat([]byte{g.Type, g.Mutable}, g.Init)...)
	}
	for _, e := range m.Exports {
		exports = append(exports, Cat(Vec([]byte(e.Name)), []byte{e.Kind}, U(uint64(e.Index)))...)
	}
	for _, d := range m.Data {
		data = append(data, Cat([]byte{0}, I32Const(d.Offset), End, Vec(d.Bytes))...)
	}
	add(1, len(m.Types), types)
	add(3, len(m.Functions), functions)
	add(5, 1, Cat([]byte{1}, U(m.MemoryMin), U(m.MemoryMax)))
	add(6, len(m.Globals), globals)
	add(7, len(m.Exports), exports)
	add(10, len(m.Functions), codes)
	add(11, len(m.Data), data)
	return append(sections, Custom("lacre.module", []byte(m.Identity)))
}

// Custom returns a custom section.
func Custom(name string, content []byte) Section {
	return Section{0, Cat(Vec([]byte(name)), content)}
}

// Assemble joins sections to a module.
func Assemble(sections []Section) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		out = append(append(out, s.ID), Vec(s.Content)...)
	}
	return out
}

// Locals encodes local declarations, one group for each run of equal types.
func Locals(types []byte) []byte {
	var groups []byte
	n := 0
	for len(types) > 0 {
		run := 1
		for run < len(types) && types[run] == types[0] {
			run++
		}
		groups = append(append(groups, U(uint64(run))...), types[0])
		types = types[run:]
		n++
	}
	return Cat(U(uint64(n)), groups)
}

// Cat joins parts.
func Cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

// U encodes an unsigned integer.
func U(v uint64) []byte { return leb.AppendUnsigned(nil, v) }

// Vec encodes bytes with their length before them.
func Vec(b []byte) []byte { return Cat(U(uint64(len(b))), b) }

// End is the instruction end.
var End = []byte{0x0b}

// Op encodes an instruction without immediates, or several.
func Op(opcodes ...byte) []byte { return opcodes }

// Idx encodes an instruction with one unsigned immediate.
func Idx(opcode byte, index int) []byte { return Cat([]byte{opcode}, U(uint64(index))) }

// I32Const encodes i32.const.
func I32Const(v int32) []byte { return leb.AppendSigned([]byte{0x41}, int64(v)) }

// I64Const encodes i64.const.
func I64Const(v int64) []byte { return leb.AppendSigned([]byte{0x42}, v) }

// Get encodes local.get.
func Get(local int) []byte { return Idx(0x20, local) }

// Set encodes local.set.
func Set(local int) []byte { return Idx(0x21, local) }

// Tee encodes local.tee.
func Tee(local int) []byte { return Idx(0x22, local) }

// GlobalGet encodes global.get.
func GlobalGet(global int) []byte { return Idx(0x23, global) }

// GlobalSet encodes global.set.
func GlobalSet(global int) []byte { return Idx(0x24, global) }

// Call encodes call.
func Call(function int) []byte { return Idx(0x10, function) }

// Store encodes a load or store with log2 of its alignment and its offset.
func Store(opcode byte, align int, offset uint32) []byte {
	return Cat([]byte{opcode}, U(uint64(align)), U(uint64(offset)))
}

// Block encodes block (0x02), loop (0x03) or if (0x04) around a body.
func Block(opcode, blockType byte, body ...[]byte) []byte {
	return Cat([]byte{opcode, blockType}, Cat(body...), End)
}

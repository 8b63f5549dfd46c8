// Package profile decides whether a WebAssembly module may run as a measuring
// algorithm: profile lacre/1. It parses and validates the binary by itself, so
// that nothing that runs later has to trust an engine's decoder or validator.
//
// Source: architecture.md, "The sandbox", and ABI lacre/1; WebAssembly Core
// Specification 1.0, chapter 5 (binary format), chapter 3 and appendix 7.3
// (validation algorithm).
//
// The profile is a whitelist. A module consists of
//
//   - sections type, function, table, memory, global, export, code, data in
//     this order, each at most once, and one custom section, `lacre.module`, as
//     the last one; nothing else. There is no import, start or element section;
//     they are refused by their id, even when empty;
//   - the table only in the inert form that wasm-ld 19 writes into every MVP
//     module (one funcref table of one element): without element section and
//     call_indirect nothing can reach it;
//   - one memory with minimum = maximum of 1 to 64 pages;
//   - instructions over i32 and i64 only (opcodes.go has the list): no floats,
//     no call_indirect, no memory.size, no memory.grow, nothing after the MVP;
//   - functions that call each other without recursion, direct or mutual;
//   - exactly the seven exports of the ABI; the getters are single constants;
//   - data segments in ascending order, disjoint, below the input region; the
//     output region below the input region; the input region inside memory.
//
// Integers of the module's structure (section sizes, counts, indices, limits)
// must have their shortest LEB128 form. Integers inside code and in data
// offsets may be padded up to the specification's limit of ceil(N/7) bytes,
// because the linker leaves five-byte relocations there. A module's identity is
// the digest of its bytes, so padding never gives two forms one identity.
//
// Invariants:
//   - Check never panics, and allocates in proportion to the module's size:
//     every count is compared with its limit before anything is allocated.
//   - A *Module made by Check holds a private copy of bytes that satisfy the
//     profile.
package profile

import (
	"crypto/sha256"
	"slices"
)

// Version names this profile in approvals and claims.
const Version = "lacre/1"

// Limits of the profile. Each bounds something that a decoder, a compiler or an
// engine would otherwise let a small module inflate.
const (
	MaxModuleBytes  = 64 << 10 // whole module
	PageBytes       = 64 << 10 // of WebAssembly
	MaxMemoryPages  = 64       // 4 MiB: a lorry at 10 km/h and 10 kHz is 342 KiB of samples
	MaxTypes        = 128
	MaxFunctions    = 256 // also bounds the call depth, there being no recursion
	MaxGlobals      = 64
	MaxDataSegments = 64
	MaxLocals       = 256  // of a function, parameters included
	MaxNesting      = 64   // blocks, loops and ifs inside each other, the body included
	MaxBlocks       = 2048 // blocks, loops and ifs of one function: compilers do locals x blocks work
	MaxBranchTable  = 256  // targets of one br_table, the default not counted
	MaxOperands     = 1024 // height of a function's operand stack
	MinInputBytes   = 32   // the input header
	MinOutputBytes  = 8    // code and value count
	MaxOutputBytes  = 8192 // result bytes travel inside a record of 60,000 bytes
)

// Module is a module that satisfies the profile. Only Check makes one.
type Module struct {
	Name          string   // from the custom section, e.g. "speed"
	Version       string   // from the custom section, e.g. "1.0.0"
	Digest        [32]byte // SHA-256 of the module's bytes: the module's identity
	MemoryBytes   uint32   // size of the one memory; it never changes
	InputPtr      uint32   // first byte of the input region
	InputCap      uint32   // bytes of the input region
	OutputPtr     uint32   // first byte of the output region, which ends at or below InputPtr
	OutputCap     uint32   // bytes of the output region
	FunctionCount int      // functions, getters included

	binary    []byte // private copy
	sections  map[byte]span
	types     []FuncType
	functions []Function
	globals   []Global
	exports   map[string]export
	data      []dataSegment
}

// Check validates module against profile lacre/1. The error is a *Error with
// the first rule that the module breaks. module is copied, not retained.
func Check(module []byte) (*Module, error) {
	if len(module) > MaxModuleBytes {
		return nil, &Error{Reason: ReasonModuleSize, Have: sprint("%d bytes", len(module)), Want: sprint("at most %d bytes", MaxModuleBytes)}
	}
	m := &Module{binary: slices.Clone(module), Digest: sha256.Sum256(module)}
	r := &reader{data: m.binary, end: len(m.binary)}
	m.readSections(r)
	for i := range m.functions {
		if r.err == nil {
			validateBody(r, m, &m.functions[i])
		}
	}
	m.checkCallGraph(r)
	m.checkABI(r)
	if r.err != nil {
		return nil, r.err
	}
	m.FunctionCount = len(m.functions)
	return m, nil
}

// Bytes returns the module exactly as it was checked. Read only.
func (m *Module) Bytes() []byte { return m.binary }

// InitialData returns memory as instantiation leaves it, up to the end of the
// last data segment; the rest of memory is zero. Freshly allocated.
func (m *Module) InitialData() []byte {
	if len(m.data) == 0 {
		return nil
	}
	last := m.data[len(m.data)-1]
	image := make([]byte, last.offset+uint32(last.bytes.len()))
	for _, segment := range m.data {
		copy(image[segment.offset:], m.binary[segment.bytes.start:segment.bytes.end])
	}
	return image
}

// Section returns the content of a section, without id and size, nil when the
// module has none. Read only.
func (m *Module) Section(id byte) []byte {
	s, ok := m.sections[id]
	if !ok {
		return nil
	}
	return m.binary[s.start:s.end:s.end]
}

// Functions returns the module's functions in index order. Read only.
func (m *Module) Functions() []Function { return m.functions }

// LocalGroups returns the local declarations of function index: their number
// and their encoding without it. Read only.
func (m *Module) LocalGroups(index int) (int, []byte) {
	f := &m.functions[index]
	return f.groups, m.binary[f.groupBytes.start:f.groupBytes.end]
}

// Types returns the module's function types in index order. Read only.
func (m *Module) Types() []FuncType { return m.types }

// Globals returns the module's globals in index order. Read only.
func (m *Module) Globals() []Global { return m.globals }

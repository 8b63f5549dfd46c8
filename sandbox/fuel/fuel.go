// Package fuel rewrites a module of profile lacre/1 so that it counts what it
// executes, and stops when a limit is reached. Fuel, not time, bounds a call:
// it is the same on every machine and engine, and part of the claim.
//
// Source: architecture.md, "The sandbox", deterministic fuel.
//
// # Charges
//
// The instructions of a function are divided into regions: each instruction
// belongs to the innermost loop around it, else to the function's body; a loop
// includes its own `loop` and `end`. Within a region control only moves
// forward, so one passage executes each of its instructions at most once. The
// weight of the whole region is charged when it is entered: the body's at
// function entry, a loop's at each arrival at its head, the first and every
// branch back. Hence
//
//	fuel used >= total weight of the instructions executed,
//
// and as every weight is at least 1 and covers its instruction's cost, fuel
// bounds time (branches not taken are charged too: a bound, not a profile).
// A function's entry also pays for its frame: callWeight, and 1 for each local,
// which the engine clears.
//
// Weights: 1; load and store 4 (they also pay for tracking, below); div and rem
// 16; br_table 4; call 8. They are part of lacre/1: another value would change
// the fuel in claims.
//
// A call needs exactly the sum of its charges: a limit of n suffices when the
// charges sum to n, n-1 does not. A charge that is not covered leaves the
// counter negative and executes unreachable. While a function runs, a local
// holds the counter, because a global in every iteration costs a tight loop more;
// the global is exact whenever a function is entered or left, and after a trap
// of the module's own says no more than that it is not negative. So a call
// that fails has no fuel of its own: all failures count as the whole limit.
//
// # What is added
//
// Three mutable globals at the end of the global index space, seven locals at the
// end of each function, and exports for these globals and every mutable global of
// the module (names below; they cannot collide with the seven of the ABI). Two of
// the globals are marks: the ends of the highest stores that the call made up to
// the end of the input region and above it. With them, restoring memory costs
// in proportion to what was written. They do not change what the module
// computes. A br_if to a loop becomes a br within an if, which is the same. The
// inert table and the custom section are left out.
//
// Invariants:
//   - Indices of types, functions, globals and locals of the original stay valid.
//   - Only the counter can make the instrumented module behave otherwise than
//     the original, and only by trapping.
//   - Instrument is a pure function of the module. The module's identity stays
//     the digest of the original.
package fuel

import (
	"strconv"

	"github.com/lacre-metrology/lacre/sandbox/internal/leb"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// Weights of instructions and of a function's entry. Part of lacre/1.
const (
	defaultWeight  = 1
	memoryWeight   = 4
	divisionWeight = 16
	tableWeight    = 4
	callWeight     = 8
)

// Names of the added exports.
const (
	// ExportFuel is the i64 counter: set it to the limit before a call; after a
	// call that returned, the remaining fuel; after one that trapped, negative
	// exactly when the limit did not suffice.
	ExportFuel = "lacre.fuel"
	// ExportHighWater is the i32 end of the highest store that ends above input_ptr
	// and not above the input region's end; set it to input_ptr before a call.
	ExportHighWater = "lacre.high_water"
	// ExportTop is the i32 end of the highest store that ends above the input
	// region; set it to the region's end before a call. Such a store begins at most
	// seven bytes below that.
	ExportTop = "lacre.top"
	// exportGlobal precedes the index of an original mutable global.
	exportGlobal = "lacre.global."
)

// State is a mutable global of the original module: what a host sets to Init to
// return an instance to its state after instantiation.
type State struct {
	Export string // name in the instrumented module
	Init   uint64 // an i32 in the lower half, zero-extended
}

// Instrumented is the result of Instrument.
type Instrumented struct {
	Binary []byte  // the instrumented module, no longer of the profile
	State  []State // every mutable global of the original
}

// Instrument adds fuel to a module.
func Instrument(m *profile.Module) Instrumented {
	globals := m.Globals()
	first := uint64(len(globals))
	added := addedGlobals{fuel: first, highWater: first + 1, top: first + 2, inputEnd: m.InputPtr + m.InputCap}
	var out Instrumented
	exports := exportEntry(nil, ExportFuel, added.fuel)
	exports = exportEntry(exports, ExportHighWater, added.highWater)
	exports = exportEntry(exports, ExportTop, added.top)
	for i, g := range globals {
		if !g.Mutable {
			continue
		}
		s := State{Export: exportGlobal + strconv.Itoa(i), Init: uint64(g.Init)}
		if g.Type == profile.I32 {
			s.Init = uint64(uint32(g.Init))
		}
		out.State = append(out.State, s)
		exports = exportEntry(exports, s.Export, uint64(i))
	}

	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, id := range []byte{profile.SectionType, profile.SectionFunction, profile.SectionMemory} {
		b = section(b, id, m.Section(id))
	}
	b = section(b, profile.SectionGlobal, extended(m.Section(profile.SectionGlobal), addedCount, added.entries(m)))
	b = section(b, profile.SectionExport, extended(m.Section(profile.SectionExport), addedCount+len(out.State), exports))
	b = section(b, profile.SectionCode, code(m, added))
	out.Binary = section(b, profile.SectionData, m.Section(profile.SectionData))
	return out
}

// addedCount is the number of globals that Instrument appends.
const addedCount = 3

// addedGlobals are their indices, and where the input region ends.
type addedGlobals struct {
	fuel, highWater, top uint64
	inputEnd             uint32
}

// origin is where ends of stores are counted from while a function runs.
func (a addedGlobals) origin() uint64 { return uint64(a.inputEnd) + 1 }

// entries encodes them: (mut i64) 0, (mut i32) input_ptr and (mut i32) the
// region's end.
func (a addedGlobals) entries(m *profile.Module) []byte {
	b := []byte{byte(profile.I64), 1, byte(profile.OpI64Const), 0, byte(profile.OpEnd)}
	for _, mark := range []uint32{m.InputPtr, a.inputEnd} {
		b = leb.AppendSigned(append(b, byte(profile.I32), 1, byte(profile.OpI32Const)), int64(int32(mark)))
		b = append(b, byte(profile.OpEnd))
	}
	return b
}

func exportEntry(b []byte, name string, global uint64) []byte {
	const kindGlobal = 3
	b = leb.AppendUnsigned(b, uint64(len(name)))
	return leb.AppendUnsigned(append(append(b, name...), kindGlobal), global)
}

// section appends a section unless its content is empty.
func section(b []byte, id byte, content []byte) []byte {
	if len(content) == 0 {
		return b
	}
	return append(leb.AppendUnsigned(append(b, id), uint64(len(content))), content...)
}

// extended appends n entries to a section that starts with its count (absent: 0).
func extended(content []byte, n int, entries []byte) []byte {
	count, skip := uint64(0), 0
	for ; skip < len(content); skip++ {
		count |= uint64(content[skip]&0x7f) << (7 * skip)
		if content[skip]&0x80 == 0 {
			skip++
			break
		}
	}
	b := leb.AppendUnsigned(nil, count+uint64(n))
	return append(append(b, content[skip:]...), entries...)
}

// weight is what one execution of an instruction costs.
func weight(op profile.Opcode) uint64 {
	switch op.Kind() {
	case profile.Load, profile.Store:
		return memoryWeight
	case profile.Call:
		return callWeight
	}
	switch {
	case op == profile.OpBrTable:
		return tableWeight
	case op.Divides():
		return divisionWeight
	}
	return defaultWeight
}

// charges returns the weight of each region of a function: first the body with
// the function's entry, then its loops in the order in which they open.
func charges(m *profile.Module, index int) []uint64 {
	regions := []uint64{callWeight + uint64(len(m.Functions()[index].Locals))}
	open := []int{0} // region of each open block, innermost last
	for in := range m.Instructions(index) {
		switch in.Op {
		case profile.OpLoop:
			open = append(open, len(regions))
			regions = append(regions, 0)
		case profile.OpBlock, profile.OpIf:
			open = append(open, open[len(open)-1])
		}
		regions[open[len(open)-1]] += weight(in.Op)
		if in.Op == profile.OpEnd {
			open = open[:len(open)-1]
		}
	}
	return regions
}

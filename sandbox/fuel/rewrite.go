package fuel

import (
	"github.com/lacre-metrology/lacre/sandbox/internal/leb"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// Opcodes of the added code that the profile's table does not name.
const (
	opSelect = 0x1b
	opI32LeS = 0x4c
	opI32LeU = 0x4d
	opI32Add = 0x6a
	opI64LtS = 0x53
	opI64Sub = 0x7d
)

// rewriter writes one function's instrumented body.
type rewriter struct {
	out     []byte
	globals addedGlobals
	stores  bool // whether the function has a store
	// Locals added to the function: temporaries for a store's address, its end and
	// its value, and the marks and the counter while the function runs.
	address, end, highWater, top, value32, value64, fuel uint64
}

// code returns the content of the code section, every function instrumented.
func code(m *profile.Module, globals addedGlobals) []byte {
	functions := m.Functions()
	section := leb.AppendUnsigned(nil, uint64(len(functions)))
	for i, f := range functions {
		locals := uint64(len(f.Locals))
		w := &rewriter{
			globals: globals, stores: stores(m, i),
			address: locals, end: locals + 1, highWater: locals + 2, top: locals + 3, value32: locals + 4,
			value64: locals + 5, fuel: locals + 6,
		}
		groups, declared := m.LocalGroups(i)
		w.out = leb.AppendUnsigned(w.out, uint64(groups+2))
		w.out = append(w.out, declared...)
		w.op(5, byte(profile.I32), 2, byte(profile.I64))
		w.body(m, i)
		section = leb.AppendUnsigned(section, uint64(len(w.out)))
		section = append(section, w.out...)
	}
	return section
}

// stores tells whether a function has a store.
func stores(m *profile.Module, index int) bool {
	for in := range m.Instructions(index) {
		if in.Op.Kind() == profile.Store {
			return true
		}
	}
	return false
}

// body writes
//
//	fuel = global - charge; check
//	marks = globals
//	block (result) original instructions end
//	globals = fuel, marks
//	end
//
// The block takes the place of the function's own label, so that every branch
// out of the function arrives where counter and marks are saved, without a change
// of any label. They are saved also before a return and around calls. The counter
// is charged after each loop instruction: a branch back to the loop arrives there.
func (w *rewriter) body(m *profile.Module, index int) {
	regions := charges(m, index)
	var open []bool // blocks, innermost last: whether it is a loop
	w.index(profile.OpGlobalGet, w.globals.fuel)
	w.charge(regions[0])
	w.loadMarks()
	w.op(byte(profile.OpBlock), byte(m.Functions()[index].Type.Result))
	loops := 0
	for in := range m.Instructions(index) {
		switch {
		case in.Op.Kind() == profile.Store:
			w.track(in)
		case in.Op == profile.OpCall || in.Op == profile.OpReturn:
			w.save()
			w.saveMarks()
		case in.Op == profile.OpBrIf && int(in.Value) < len(open) && open[len(open)-1-int(in.Value)]:
			w.branchBack(uint64(in.Value))
			continue
		}
		w.op(in.Raw...)
		switch in.Op {
		case profile.OpBlock, profile.OpIf:
			open = append(open, false)
		case profile.OpEnd:
			open = open[:max(0, len(open)-1)] // the last one ends the function
		case profile.OpCall:
			w.index(profile.OpGlobalGet, w.globals.fuel)
			w.index(profile.OpLocalSet, w.fuel)
			w.loadMarks()
		case profile.OpLoop:
			open = append(open, true)
			loops++
			w.index(profile.OpLocalGet, w.fuel)
			w.charge(regions[loops])
		}
	}
	w.save()
	w.saveMarks()
	w.op(byte(profile.OpEnd))
}

// branchBack writes a br_if to a loop, whose label has no values:
//
//	if br label + 1 end
//
// The compiler of wazero v1.12.0 splits the edge of a br_if whose target has other
// ways in, and then no longer sees that the condition is the comparison before it.
func (w *rewriter) branchBack(label uint64) {
	w.op(byte(profile.OpIf), byte(profile.NoType))
	w.index(profile.OpBr, label+1)
	w.op(byte(profile.OpEnd))
}

// save puts the counter where the caller, the callee or the host finds it.
func (w *rewriter) save() {
	w.index(profile.OpLocalGet, w.fuel)
	w.index(profile.OpGlobalSet, w.globals.fuel)
}

// charge subtracts cost from the counter on the operand stack, and traps, with
// the negative counter saved, when it was not covered. Before a charge the
// counter is never negative, and a cost is far below 2^62, so the subtraction
// cannot wrap.
func (w *rewriter) charge(cost uint64) {
	w.constant(profile.OpI64Const, int64(cost))
	w.op(opI64Sub)
	w.index(profile.OpLocalTee, w.fuel)
	w.constant(profile.OpI64Const, 0)
	w.op(opI64LtS, byte(profile.OpIf), byte(profile.NoType))
	w.save()
	w.op(byte(profile.OpUnreachable), byte(profile.OpEnd))
}

// track raises the marks to the end of the store that follows. The operands are
// saved in temporaries and put back.
//
// In locals a mark, and the store's end, is counted from the first byte that ends
// a store above the input region: there ends are 0 or more, and up to the region's
// end they are negative, which unsigned is more than any above. So two selects do
// it, without the branches that would cost more than the store:
//
//	end = address + offset + width - (inputEnd + 1)
//	highWater = highWater if end <= highWater, unsigned, else end
//	top = top if end <= top, signed, else end
//
// highWater begins at or above input_ptr, so it takes ends up to the region's end
// alone; top begins at -1 or above, so it takes the others. Memory has at most 4 MiB:
// when the 32-bit sum leaves what is said here, the store lies outside memory and
// traps, and the marks of an instance that trapped are never read.
func (w *rewriter) track(store profile.Instruction) {
	reach := uint64(store.Value) + uint64(store.Op.Width())
	value := w.value32
	if store.Op.Operands()[1] == profile.I64 {
		value = w.value64
	}
	w.index(profile.OpLocalSet, value)
	w.index(profile.OpLocalSet, w.address)
	w.index(profile.OpLocalGet, w.highWater)
	w.index(profile.OpLocalGet, w.address)
	w.add(reach - w.globals.origin())
	w.index(profile.OpLocalTee, w.end)
	w.keep(w.highWater, opI32LeU)
	w.index(profile.OpLocalGet, w.top)
	w.index(profile.OpLocalGet, w.end)
	w.keep(w.top, opI32LeS)
	w.index(profile.OpLocalGet, w.address)
	w.index(profile.OpLocalGet, value)
}

// keep has a mark and the store's end on the operand stack, and gives the mark
// the end unless end compares to it as said.
func (w *rewriter) keep(mark uint64, compare byte) {
	w.index(profile.OpLocalGet, w.end)
	w.index(profile.OpLocalGet, mark)
	w.op(compare, opSelect)
	w.index(profile.OpLocalSet, mark)
}

// loadMarks takes the marks from where the caller, the callee or the host left
// them; saveMarks puts them back. A function without a store leaves them there.
func (w *rewriter) loadMarks() {
	if !w.stores {
		return
	}
	w.move(profile.OpGlobalGet, w.globals.highWater, -w.globals.origin(), profile.OpLocalSet, w.highWater)
	w.move(profile.OpGlobalGet, w.globals.top, -w.globals.origin(), profile.OpLocalSet, w.top)
}

func (w *rewriter) saveMarks() {
	if !w.stores {
		return
	}
	w.move(profile.OpLocalGet, w.highWater, w.globals.origin(), profile.OpGlobalSet, w.globals.highWater)
	w.move(profile.OpLocalGet, w.top, w.globals.origin(), profile.OpGlobalSet, w.globals.top)
}

// move copies a mark and counts it from elsewhere.
func (w *rewriter) move(get profile.Opcode, from, shift uint64, set profile.Opcode, to uint64) {
	w.index(get, from)
	w.add(shift)
	w.index(set, to)
}

// add adds to the i32 on the operand stack, modulo 2^32.
func (w *rewriter) add(n uint64) {
	w.constant(profile.OpI32Const, int64(int32(uint32(n))))
	w.op(opI32Add)
}

func (w *rewriter) op(bytes ...byte) { w.out = append(w.out, bytes...) }

func (w *rewriter) index(op profile.Opcode, index uint64) {
	w.out = leb.AppendUnsigned(append(w.out, byte(op)), index)
}

func (w *rewriter) constant(op profile.Opcode, value int64) {
	w.out = leb.AppendSigned(append(w.out, byte(op)), value)
}

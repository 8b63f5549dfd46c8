package fuel

import (
	"github.com/lacre-metrology/lacre/sandbox/internal/leb"
	"github.com/lacre-metrology/lacre/sandbox/profile"
)

// Opcodes of the added code that the profile's table does not name.
const (
	opI32Add = 0x6a
	opI32GtU = 0x4b
	opI64LtS = 0x53
	opI64Sub = 0x7d
)

// rewriter writes one function's instrumented body.
type rewriter struct {
	out     []byte
	globals addedGlobals
	// Locals added to the function: temporaries for a store's address and value,
	// and the counter while the function runs.
	address, value32, value64, fuel uint64
}

// code returns the content of the code section, every function instrumented.
func code(m *profile.Module, globals addedGlobals) []byte {
	functions := m.Functions()
	section := leb.AppendUnsigned(nil, uint64(len(functions)))
	for i, f := range functions {
		locals := uint64(len(f.Locals))
		w := &rewriter{globals: globals, address: locals, value32: locals + 1, value64: locals + 2, fuel: locals + 3}
		groups, declared := m.LocalGroups(i)
		w.out = leb.AppendUnsigned(w.out, uint64(groups+2))
		w.out = append(w.out, declared...)
		w.op(2, byte(profile.I32), 2, byte(profile.I64))
		w.body(m, i)
		section = leb.AppendUnsigned(section, uint64(len(w.out)))
		section = append(section, w.out...)
	}
	return section
}

// body writes
//
//	fuel = global - charge; check
//	block (result) original instructions end
//	global = fuel
//	end
//
// The block takes the place of the function's own label, so that every branch
// out of the function arrives where the counter is saved, without a change of
// any label. The counter is saved also before a return and around calls. It is
// charged after each loop instruction: a branch back to the loop arrives there.
func (w *rewriter) body(m *profile.Module, index int) {
	regions := charges(m, index)
	w.index(profile.OpGlobalGet, w.globals.fuel)
	w.charge(regions[0])
	w.op(byte(profile.OpBlock), byte(m.Functions()[index].Type.Result))
	loops := 0
	for in := range m.Instructions(index) {
		switch {
		case in.Op.Kind() == profile.Store:
			w.track(in)
		case in.Op == profile.OpCall || in.Op == profile.OpReturn:
			w.save()
		}
		w.op(in.Raw...)
		switch in.Op {
		case profile.OpCall:
			w.index(profile.OpGlobalGet, w.globals.fuel)
			w.index(profile.OpLocalSet, w.fuel)
		case profile.OpLoop:
			loops++
			w.index(profile.OpLocalGet, w.fuel)
			w.charge(regions[loops])
		}
	}
	w.save()
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

// track raises the mark of the store that follows to its end: that of stores up
// to the input region's end, or that of stores above it. The operands are saved
// in temporaries and put back.
//
//	end = address + offset + width
//	if end > highWater { if end > inputEnd { if end > top { top = end } } else { highWater = end } }
//
// When the 32-bit sum wraps, the store lies outside memory and traps, and the
// mark of an instance that trapped is never read.
func (w *rewriter) track(store profile.Instruction) {
	reach := uint64(store.Value) + uint64(store.Op.Width())
	value := w.value32
	if store.Op.Operands()[1] == profile.I64 {
		value = w.value64
	}
	w.index(profile.OpLocalSet, value)
	w.index(profile.OpLocalTee, w.address)
	w.end(reach)
	w.index(profile.OpGlobalGet, w.globals.highWater)
	w.op(opI32GtU, byte(profile.OpIf), byte(profile.NoType))
	w.index(profile.OpLocalGet, w.address)
	w.end(reach)
	w.constant(profile.OpI32Const, int64(int32(w.globals.inputEnd)))
	w.op(opI32GtU, byte(profile.OpIf), byte(profile.NoType))
	w.index(profile.OpLocalGet, w.address)
	w.end(reach)
	w.index(profile.OpGlobalGet, w.globals.top)
	w.op(opI32GtU, byte(profile.OpIf), byte(profile.NoType))
	w.raise(w.globals.top, reach)
	w.op(byte(profile.OpEnd), byte(profile.OpElse))
	w.raise(w.globals.highWater, reach)
	w.op(byte(profile.OpEnd), byte(profile.OpEnd))
	w.index(profile.OpLocalGet, w.address)
	w.index(profile.OpLocalGet, value)
}

// raise sets a mark to the end of the store.
func (w *rewriter) raise(mark, reach uint64) {
	w.index(profile.OpLocalGet, w.address)
	w.end(reach)
	w.index(profile.OpGlobalSet, mark)
}

// end adds reach to the address on the operand stack.
func (w *rewriter) end(reach uint64) {
	w.constant(profile.OpI32Const, int64(int32(uint32(reach))))
	w.op(opI32Add)
}

func (w *rewriter) op(bytes ...byte) { w.out = append(w.out, bytes...) }

func (w *rewriter) index(op profile.Opcode, index uint64) {
	w.out = leb.AppendUnsigned(append(w.out, byte(op)), index)
}

func (w *rewriter) constant(op profile.Opcode, value int64) {
	w.out = leb.AppendSigned(append(w.out, byte(op)), value)
}

package profile

import "iter"

// Instruction is one decoded instruction.
type Instruction struct {
	Op  Opcode
	Raw []byte // opcode and immediates as they stand in the module; read only

	// Value is the immediate: label, function, local or global index, constant
	// (sign-extended), or the static offset of a load or store.
	Value int64
	// Block is the result type of block, loop and if.
	Block ValueType
	// Targets are the labels of br_table, the default last. Valid until the
	// next instruction is decoded.
	Targets []uint32

	align  uint32 // log2 of a load's or store's alignment hint
	offset int    // of the opcode in the module
}

// instruction decodes the next instruction into in, reusing its Targets. It
// checks encoding and whitelist; meaning is the validator's business.
func (r *reader) instruction(in *Instruction) {
	start := r.pos
	*in = Instruction{Op: Opcode(r.byte()), Targets: in.Targets[:0], Block: NoType, offset: start}
	switch in.Op.Kind() {
	case Forbidden:
		r.fail(ReasonOpcode, start, in.Op.String(), "an instruction of the whitelist")
	case Load, Store:
		in.align = r.paddedU32()
		in.Value = int64(r.paddedU32())
	case Call, Variable:
		in.Value = int64(r.paddedU32())
	case Constant:
		if in.Op == OpI32Const {
			in.Value = int64(r.s32())
		} else {
			in.Value = r.s64()
		}
	case Control:
		switch in.Op {
		case OpBlock, OpLoop, OpIf:
			if in.Block = ValueType(r.byte()); r.err == nil && in.Block != NoType && in.Block != I32 && in.Block != I64 {
				r.fail(ReasonValueType, start, "block with "+in.Block.String(), "nothing, i32 or i64")
			}
		case OpBr, OpBrIf:
			in.Value = int64(r.paddedU32())
		case OpBrTable:
			for n := r.count(MaxBranchTable, ReasonBranchTable) + 1; n > 0 && r.err == nil; n-- {
				in.Targets = append(in.Targets, r.paddedU32())
			}
		}
	}
	in.Raw = r.data[start:r.pos]
}

// Instructions yields the instructions of function index, its final end
// included. An instruction's slices are valid until the next one.
func (m *Module) Instructions(index int) iter.Seq[Instruction] {
	return func(yield func(Instruction) bool) {
		code := m.functions[index].code
		r := &reader{data: m.binary, pos: code.start, end: code.end}
		var in Instruction
		for r.more() {
			if r.instruction(&in); !yield(in) {
				return
			}
		}
	}
}

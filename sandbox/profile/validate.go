package profile

// unknown is the type of a value that only unreachable code could have pushed.
const unknown ValueType = 0

// frame is one open block, loop, if or else (or the function's body, as a
// block) of the validation algorithm.
type frame struct {
	op          Opcode
	result      ValueType // type of the value that end leaves, NoType for none
	height      int       // operands below the frame's own
	unreachable bool      // after an unconditional branch: operands come from nowhere
}

// labelType is what a branch to the frame carries: loops of the MVP take
// nothing at their head.
func (f frame) labelType() ValueType {
	if f.op == OpLoop {
		return NoType
	}
	return f.result
}

// validator is the validation algorithm of the Core Specification 1.0, appendix
// 7.3, for one function. The stack of operands holds I32, I64, or unknown for a
// value in unreachable code.
type validator struct {
	r        *reader
	m        *Module
	f        *Function
	operands []ValueType
	frames   []frame
	blocks   int
	at       int // offset of the current instruction
}

// validateBody validates f and fills f.calls. The first failure sticks to r.
func validateBody(r *reader, m *Module, f *Function) {
	r.pos, r.end = f.code.start, f.code.end
	v := &validator{r: r, m: m, f: f}
	v.frames = append(v.frames, frame{op: OpBlock, result: f.Type.Result})
	var in Instruction
	for r.err == nil && len(v.frames) > 0 {
		r.instruction(&in)
		if r.err == nil {
			v.at = in.offset
			v.instruction(&in)
		}
	}
	if r.more() {
		r.fail(ReasonTrailing, r.pos, sprint("%d bytes after the function's end", r.end-r.pos), "none")
	}
	r.end = len(r.data)
}

func (v *validator) fail(reason Reason, have, want string) { v.r.fail(reason, v.at, have, want) }

func (v *validator) instruction(in *Instruction) {
	switch in.Op.Kind() {
	case Control:
		v.control(in)
	case Call:
		v.call(in)
	case Variable:
		v.variable(in)
	case Parametric:
		if in.Op == OpSelect {
			v.pop(I32)
			v.selectEither()
		} else {
			v.popAny()
		}
	case Load, Store:
		if in.align > 3 || 1<<in.align > in.Op.Width() {
			v.fail(ReasonAlignment, sprint("alignment 2^%d", in.align), sprint("at most the %d bytes accessed", in.Op.Width()))
		}
		v.simple(in.Op)
	default: // Constant, Numeric
		v.simple(in.Op)
	}
}

// selectEither pops the two choices of a select and pushes their common type.
func (v *validator) selectEither() {
	second, first := v.popAny(), v.popAny()
	if first != second && first != unknown && second != unknown {
		v.fail(ReasonTypeMismatch, "select between "+first.String()+" and "+second.String(), "one type")
	}
	if first == unknown {
		first = second
	}
	v.pushAny(first)
}

// simple pops an opcode's operands and pushes its result.
func (v *validator) simple(op Opcode) {
	operands := op.Operands()
	for i := len(operands) - 1; i >= 0; i-- {
		v.pop(operands[i])
	}
	v.push(op.Result())
}

func (v *validator) control(in *Instruction) {
	switch in.Op {
	case OpUnreachable:
		v.setUnreachable()
	case OpNop:
	case OpIf:
		v.pop(I32)
		v.open(in)
	case OpBlock, OpLoop:
		v.open(in)
	case OpElse:
		v.otherwise()
	case OpEnd:
		v.close()
	case OpBr:
		v.pop(v.label(uint32(in.Value)))
		v.setUnreachable()
	case OpBrIf:
		v.pop(I32)
		t := v.label(uint32(in.Value))
		v.pop(t)
		v.push(t)
	case OpBrTable:
		v.branchTable(in.Targets)
	case OpReturn:
		v.pop(v.f.Type.Result)
		v.setUnreachable()
	}
}

// open starts a block, loop or if.
func (v *validator) open(in *Instruction) {
	if v.blocks++; v.blocks > MaxBlocks {
		v.fail(ReasonBlocks, sprint("%d blocks in a function", v.blocks), sprint("at most %d", MaxBlocks))
	}
	if len(v.frames) >= MaxNesting {
		v.fail(ReasonNesting, sprint("%d levels", len(v.frames)+1), sprint("at most %d", MaxNesting))
	}
	v.frames = append(v.frames, frame{op: in.Op, result: in.Block, height: len(v.operands)})
}

// closeFrame checks the frame's result and height and removes it.
func (v *validator) closeFrame() frame {
	f := v.frames[len(v.frames)-1]
	v.pop(f.result)
	if v.r.err == nil && len(v.operands) != f.height {
		v.fail(ReasonTypeMismatch, sprint("%d operands too many at the end of a block", len(v.operands)-f.height), "none")
	}
	v.frames = v.frames[:len(v.frames)-1]
	return f
}

func (v *validator) otherwise() {
	if top := v.frames[len(v.frames)-1]; top.op != OpIf {
		v.fail(ReasonControl, "else in "+top.op.String(), "else in if")
		return
	}
	f := v.closeFrame()
	v.frames = append(v.frames, frame{op: OpElse, result: f.result, height: len(v.operands)})
}

func (v *validator) close() {
	f := v.closeFrame()
	if f.op == OpIf && f.result != NoType {
		v.fail(ReasonControl, "if without else that results in "+f.result.String(), "an else")
	}
	if len(v.frames) > 0 {
		v.push(f.result)
	}
}

// label returns what a branch to depth carries.
func (v *validator) label(depth uint32) ValueType {
	if int64(depth) >= int64(len(v.frames)) {
		v.fail(ReasonIndex, sprint("label %d", depth), sprint("one of %d labels", len(v.frames)))
		return NoType
	}
	return v.frames[len(v.frames)-1-int(depth)].labelType()
}

func (v *validator) branchTable(targets []uint32) {
	v.pop(I32)
	want := v.label(targets[len(targets)-1])
	for _, target := range targets {
		if t := v.label(target); v.r.err == nil && t != want {
			v.fail(ReasonTypeMismatch, sprint("label %d with %s", target, t), want.String()+", as the default")
		}
	}
	v.pop(want)
	v.setUnreachable()
}

func (v *validator) call(in *Instruction) {
	index := uint32(in.Value)
	if int64(index) >= int64(len(v.m.functions)) {
		v.fail(ReasonIndex, sprint("function %d", index), sprint("one of %d functions", len(v.m.functions)))
		return
	}
	v.f.calls = append(v.f.calls, index)
	callee := v.m.functions[index].Type
	for i := len(callee.Params) - 1; i >= 0; i-- {
		v.pop(callee.Params[i])
	}
	v.push(callee.Result)
}

func (v *validator) variable(in *Instruction) {
	index := uint32(in.Value)
	var t ValueType
	switch in.Op {
	case OpLocalGet, OpLocalSet, OpLocalTee:
		if int64(index) >= int64(len(v.f.Locals)) {
			v.fail(ReasonIndex, sprint("local %d", index), sprint("one of %d locals", len(v.f.Locals)))
			return
		}
		t = v.f.Locals[index]
	default:
		if int64(index) >= int64(len(v.m.globals)) {
			v.fail(ReasonIndex, sprint("global %d", index), sprint("one of %d globals", len(v.m.globals)))
			return
		}
		t = v.m.globals[index].Type
		if in.Op == OpGlobalSet && !v.m.globals[index].Mutable {
			v.fail(ReasonImmutable, sprint("global.set %d", index), "a mutable global")
		}
	}
	switch in.Op {
	case OpLocalGet, OpGlobalGet:
		v.push(t)
	case OpLocalSet, OpGlobalSet:
		v.pop(t)
	case OpLocalTee:
		v.pop(t)
		v.push(t)
	}
}

// push pushes a value of type t, or nothing for NoType.
func (v *validator) push(t ValueType) {
	if t != NoType {
		v.pushAny(t)
	}
}

// pushAny pushes a value whose type may be unknown.
func (v *validator) pushAny(t ValueType) {
	if len(v.operands) >= MaxOperands {
		v.fail(ReasonOperands, sprint("%d operands", len(v.operands)+1), sprint("at most %d", MaxOperands))
		return
	}
	v.operands = append(v.operands, t)
}

// popAny pops a value of any type. Below an unreachable frame's operands there
// are as many unknown values as anyone asks for.
func (v *validator) popAny() ValueType {
	top := v.frames[len(v.frames)-1]
	if len(v.operands) == top.height {
		if !top.unreachable {
			v.fail(ReasonTypeMismatch, "no operand", "one for the instruction")
		}
		return unknown
	}
	t := v.operands[len(v.operands)-1]
	v.operands = v.operands[:len(v.operands)-1]
	return t
}

// pop pops a value of type want, or nothing for NoType.
func (v *validator) pop(want ValueType) {
	if want == NoType {
		return
	}
	if t := v.popAny(); t != want && t != unknown {
		v.fail(ReasonTypeMismatch, "operand of type "+t.String(), want.String())
	}
}

// setUnreachable marks the rest of the frame as never executed.
func (v *validator) setUnreachable() {
	top := &v.frames[len(v.frames)-1]
	if v.r.err == nil {
		v.operands = v.operands[:top.height]
	}
	top.unreachable = true
}

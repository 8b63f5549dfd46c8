package profile

// ValueType is a value type in its binary form.
type ValueType byte

// The value types of the profile. NoType, the empty block type, stands for no
// value at all.
const (
	I32    ValueType = 0x7f
	I64    ValueType = 0x7e
	NoType ValueType = 0x40
)

// String returns the type's name in the text format.
func (t ValueType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case NoType:
		return "nothing"
	default:
		return sprint("type 0x%02x", byte(t))
	}
}

// Opcode is the one byte of an instruction of the profile.
type Opcode byte

// Opcodes that the validator or the instrumenter treat one by one; the others
// are in the table only.
const (
	OpUnreachable Opcode = 0x00
	OpNop         Opcode = 0x01
	OpBlock       Opcode = 0x02
	OpLoop        Opcode = 0x03
	OpIf          Opcode = 0x04
	OpElse        Opcode = 0x05
	OpEnd         Opcode = 0x0b
	OpBr          Opcode = 0x0c
	OpBrIf        Opcode = 0x0d
	OpBrTable     Opcode = 0x0e
	OpReturn      Opcode = 0x0f
	OpCall        Opcode = 0x10
	OpDrop        Opcode = 0x1a
	OpSelect      Opcode = 0x1b
	OpLocalGet    Opcode = 0x20
	OpLocalSet    Opcode = 0x21
	OpLocalTee    Opcode = 0x22
	OpGlobalGet   Opcode = 0x23
	OpGlobalSet   Opcode = 0x24
	OpI32Const    Opcode = 0x41
	OpI64Const    Opcode = 0x42
)

// Kind groups the opcodes by how they are decoded, checked and charged.
type Kind uint8

// Kinds of opcodes; Forbidden is every byte outside the whitelist.
const (
	Forbidden  Kind = iota
	Control         // blocks, branches, return, unreachable, nop
	Call            // call
	Parametric      // drop, select
	Variable        // local.* and global.*
	Constant        // i32.const, i64.const
	Load            // loads of any width
	Store           // stores of any width
	Numeric         // comparison, arithmetic, conversion
)

// opInfo is one row of the whitelist. pops lists the operands, the deepest
// first; push is NoType for no result. Both are empty for the kinds that the
// validator treats one by one.
type opInfo struct {
	name  string
	kind  Kind
	pops  []ValueType
	push  ValueType
	width uint32 // bytes accessed by a load or store
}

// Kind returns the opcode's kind, Forbidden outside the whitelist.
func (op Opcode) Kind() Kind { return opcodes[op].kind }

// Width returns the bytes that a load or store accesses, otherwise 0.
func (op Opcode) Width() uint32 { return opcodes[op].width }

// Operands returns the operand types of a numeric, load or store opcode, the
// deepest first. Read only.
func (op Opcode) Operands() []ValueType { return opcodes[op].pops }

// Result returns the result type of a numeric or load opcode, otherwise NoType.
func (op Opcode) Result() ValueType {
	if opcodes[op].push == 0 {
		return NoType
	}
	return opcodes[op].push
}

// Divides reports whether the opcode is a division or remainder.
func (op Opcode) Divides() bool {
	return 0x6d <= op && op <= 0x70 || 0x7f <= op && op <= 0x82
}

// String returns the name in the text format.
func (op Opcode) String() string {
	if name := opcodes[op].name; name != "" {
		return name
	}
	return sprint("opcode 0x%02x", byte(op))
}

var (
	one32 = []ValueType{I32}
	two32 = []ValueType{I32, I32}
	one64 = []ValueType{I64}
	two64 = []ValueType{I64, I64}
)

// opcodes is the whitelist: the integer part of WebAssembly 1.0 (Core
// Specification 1.0, section 5.4), which is what clang emits with -mcpu=mvp for
// C without floating point, less call_indirect, memory.size and memory.grow.
var opcodes = [256]opInfo{
	OpUnreachable: {name: "unreachable", kind: Control},
	OpNop:         {name: "nop", kind: Control},
	OpBlock:       {name: "block", kind: Control},
	OpLoop:        {name: "loop", kind: Control},
	OpIf:          {name: "if", kind: Control},
	OpElse:        {name: "else", kind: Control},
	OpEnd:         {name: "end", kind: Control},
	OpBr:          {name: "br", kind: Control},
	OpBrIf:        {name: "br_if", kind: Control},
	OpBrTable:     {name: "br_table", kind: Control},
	OpReturn:      {name: "return", kind: Control},
	OpCall:        {name: "call", kind: Call},
	OpDrop:        {name: "drop", kind: Parametric},
	OpSelect:      {name: "select", kind: Parametric},
	OpLocalGet:    {name: "local.get", kind: Variable},
	OpLocalSet:    {name: "local.set", kind: Variable},
	OpLocalTee:    {name: "local.tee", kind: Variable},
	OpGlobalGet:   {name: "global.get", kind: Variable},
	OpGlobalSet:   {name: "global.set", kind: Variable},
	OpI32Const:    {name: "i32.const", kind: Constant, push: I32},
	OpI64Const:    {name: "i64.const", kind: Constant, push: I64},

	0x28: {name: "i32.load", kind: Load, pops: one32, push: I32, width: 4},
	0x29: {name: "i64.load", kind: Load, pops: one32, push: I64, width: 8},
	0x2c: {name: "i32.load8_s", kind: Load, pops: one32, push: I32, width: 1},
	0x2d: {name: "i32.load8_u", kind: Load, pops: one32, push: I32, width: 1},
	0x2e: {name: "i32.load16_s", kind: Load, pops: one32, push: I32, width: 2},
	0x2f: {name: "i32.load16_u", kind: Load, pops: one32, push: I32, width: 2},
	0x30: {name: "i64.load8_s", kind: Load, pops: one32, push: I64, width: 1},
	0x31: {name: "i64.load8_u", kind: Load, pops: one32, push: I64, width: 1},
	0x32: {name: "i64.load16_s", kind: Load, pops: one32, push: I64, width: 2},
	0x33: {name: "i64.load16_u", kind: Load, pops: one32, push: I64, width: 2},
	0x34: {name: "i64.load32_s", kind: Load, pops: one32, push: I64, width: 4},
	0x35: {name: "i64.load32_u", kind: Load, pops: one32, push: I64, width: 4},
	0x36: {name: "i32.store", kind: Store, pops: []ValueType{I32, I32}, width: 4},
	0x37: {name: "i64.store", kind: Store, pops: []ValueType{I32, I64}, width: 8},
	0x3a: {name: "i32.store8", kind: Store, pops: []ValueType{I32, I32}, width: 1},
	0x3b: {name: "i32.store16", kind: Store, pops: []ValueType{I32, I32}, width: 2},
	0x3c: {name: "i64.store8", kind: Store, pops: []ValueType{I32, I64}, width: 1},
	0x3d: {name: "i64.store16", kind: Store, pops: []ValueType{I32, I64}, width: 2},
	0x3e: {name: "i64.store32", kind: Store, pops: []ValueType{I32, I64}, width: 4},
	0x45: {name: "i32.eqz", kind: Numeric, pops: one32, push: I32},
	0x46: {name: "i32.eq", kind: Numeric, pops: two32, push: I32},
	0x47: {name: "i32.ne", kind: Numeric, pops: two32, push: I32},
	0x48: {name: "i32.lt_s", kind: Numeric, pops: two32, push: I32},
	0x49: {name: "i32.lt_u", kind: Numeric, pops: two32, push: I32},
	0x4a: {name: "i32.gt_s", kind: Numeric, pops: two32, push: I32},
	0x4b: {name: "i32.gt_u", kind: Numeric, pops: two32, push: I32},
	0x4c: {name: "i32.le_s", kind: Numeric, pops: two32, push: I32},
	0x4d: {name: "i32.le_u", kind: Numeric, pops: two32, push: I32},
	0x4e: {name: "i32.ge_s", kind: Numeric, pops: two32, push: I32},
	0x4f: {name: "i32.ge_u", kind: Numeric, pops: two32, push: I32},
	0x50: {name: "i64.eqz", kind: Numeric, pops: one64, push: I32},
	0x51: {name: "i64.eq", kind: Numeric, pops: two64, push: I32},
	0x52: {name: "i64.ne", kind: Numeric, pops: two64, push: I32},
	0x53: {name: "i64.lt_s", kind: Numeric, pops: two64, push: I32},
	0x54: {name: "i64.lt_u", kind: Numeric, pops: two64, push: I32},
	0x55: {name: "i64.gt_s", kind: Numeric, pops: two64, push: I32},
	0x56: {name: "i64.gt_u", kind: Numeric, pops: two64, push: I32},
	0x57: {name: "i64.le_s", kind: Numeric, pops: two64, push: I32},
	0x58: {name: "i64.le_u", kind: Numeric, pops: two64, push: I32},
	0x59: {name: "i64.ge_s", kind: Numeric, pops: two64, push: I32},
	0x5a: {name: "i64.ge_u", kind: Numeric, pops: two64, push: I32},
	0x67: {name: "i32.clz", kind: Numeric, pops: one32, push: I32},
	0x68: {name: "i32.ctz", kind: Numeric, pops: one32, push: I32},
	0x69: {name: "i32.popcnt", kind: Numeric, pops: one32, push: I32},
	0x6a: {name: "i32.add", kind: Numeric, pops: two32, push: I32},
	0x6b: {name: "i32.sub", kind: Numeric, pops: two32, push: I32},
	0x6c: {name: "i32.mul", kind: Numeric, pops: two32, push: I32},
	0x6d: {name: "i32.div_s", kind: Numeric, pops: two32, push: I32},
	0x6e: {name: "i32.div_u", kind: Numeric, pops: two32, push: I32},
	0x6f: {name: "i32.rem_s", kind: Numeric, pops: two32, push: I32},
	0x70: {name: "i32.rem_u", kind: Numeric, pops: two32, push: I32},
	0x71: {name: "i32.and", kind: Numeric, pops: two32, push: I32},
	0x72: {name: "i32.or", kind: Numeric, pops: two32, push: I32},
	0x73: {name: "i32.xor", kind: Numeric, pops: two32, push: I32},
	0x74: {name: "i32.shl", kind: Numeric, pops: two32, push: I32},
	0x75: {name: "i32.shr_s", kind: Numeric, pops: two32, push: I32},
	0x76: {name: "i32.shr_u", kind: Numeric, pops: two32, push: I32},
	0x77: {name: "i32.rotl", kind: Numeric, pops: two32, push: I32},
	0x78: {name: "i32.rotr", kind: Numeric, pops: two32, push: I32},
	0x79: {name: "i64.clz", kind: Numeric, pops: one64, push: I64},
	0x7a: {name: "i64.ctz", kind: Numeric, pops: one64, push: I64},
	0x7b: {name: "i64.popcnt", kind: Numeric, pops: one64, push: I64},
	0x7c: {name: "i64.add", kind: Numeric, pops: two64, push: I64},
	0x7d: {name: "i64.sub", kind: Numeric, pops: two64, push: I64},
	0x7e: {name: "i64.mul", kind: Numeric, pops: two64, push: I64},
	0x7f: {name: "i64.div_s", kind: Numeric, pops: two64, push: I64},
	0x80: {name: "i64.div_u", kind: Numeric, pops: two64, push: I64},
	0x81: {name: "i64.rem_s", kind: Numeric, pops: two64, push: I64},
	0x82: {name: "i64.rem_u", kind: Numeric, pops: two64, push: I64},
	0x83: {name: "i64.and", kind: Numeric, pops: two64, push: I64},
	0x84: {name: "i64.or", kind: Numeric, pops: two64, push: I64},
	0x85: {name: "i64.xor", kind: Numeric, pops: two64, push: I64},
	0x86: {name: "i64.shl", kind: Numeric, pops: two64, push: I64},
	0x87: {name: "i64.shr_s", kind: Numeric, pops: two64, push: I64},
	0x88: {name: "i64.shr_u", kind: Numeric, pops: two64, push: I64},
	0x89: {name: "i64.rotl", kind: Numeric, pops: two64, push: I64},
	0x8a: {name: "i64.rotr", kind: Numeric, pops: two64, push: I64},
	0xa7: {name: "i32.wrap_i64", kind: Numeric, pops: one64, push: I32},
	0xac: {name: "i64.extend_i32_s", kind: Numeric, pops: one32, push: I64},
	0xad: {name: "i64.extend_i32_u", kind: Numeric, pops: one32, push: I64},
}

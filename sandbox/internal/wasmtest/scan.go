package wasmtest

import (
	"errors"
	"fmt"
)

// Scan reads a module a second time and says what in it lies outside profile
// lacre/1: sections, opcodes, value types, limits, exports, recursion. It is
// written from the architecture's page and the specification and shares nothing
// with package profile, so that a hole of the one does not hide in the other. It
// does not type the operand stack; wazero does that.
//
// What Scan admits is not thereby valid. What package profile admits, Scan must
// admit.
func Scan(module []byte) error {
	const magic = "\x00asm\x01\x00\x00\x00"
	if len(module) > 64<<10 || len(module) < len(magic) || string(module[:len(magic)]) != magic {
		return fmt.Errorf("%d bytes, or another magic number", len(module))
	}
	s := &scan{b: module[len(magic):]}
	order := []int{1, 3, 4, 5, 6, 7, 10, 11, 0}
	for len(s.b) > 0 && s.err == nil {
		id := int(s.byte())
		for len(order) > 0 && order[0] != id {
			order = order[1:]
		}
		if len(order) == 0 {
			return fmt.Errorf("section %d is not of the profile, or out of order", id)
		}
		order = order[1:]
		rest := s.take(s.unsigned())
		inner := *s
		inner.b, inner.calls = rest, nil
		inner.section(id)
		if inner.err != nil {
			return fmt.Errorf("section %d: %w", id, inner.err)
		}
		if len(inner.b) > 0 {
			return fmt.Errorf("section %d: %d bytes too many", id, len(inner.b))
		}
		inner.b = s.b
		*s = inner
	}
	switch {
	case s.err != nil:
		return s.err
	case s.memory == 0:
		return errors.New("no memory")
	case len(order) > 0: // lacre.module is the last of the order
		return errors.New("no custom section")
	case s.functions != s.coded:
		return fmt.Errorf("%d functions, %d bodies", s.functions, s.coded)
	}
	return nil
}

// scan reads b from its start; its first failure sticks.
type scan struct {
	b         []byte
	err       error
	params    []int // of each type
	takes     []int // parameters of each function
	functions int
	coded     int    // bodies
	memory    uint64 // bytes
	calls     []int  // of the body that is read
}

func (s *scan) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

func (s *scan) byte() byte {
	b := s.take(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (s *scan) take(n uint64) []byte {
	if s.err != nil || n > uint64(len(s.b)) {
		s.fail("%d bytes wanted, %d left", n, len(s.b))
		s.b = nil
		return nil
	}
	out := s.b[:n]
	s.b = s.b[n:]
	return out
}

// integer reads LEB128 of at most max bytes and returns its raw bits.
func (s *scan) integer(most int) uint64 {
	var v uint64
	for i := range most {
		c := s.byte()
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v
		}
	}
	s.fail("an integer of more than %d bytes", most)
	return 0
}

func (s *scan) unsigned() uint64 { return s.integer(5) }

func (s *scan) atMost(what string, limit uint64) int {
	n := s.unsigned()
	if n > limit {
		s.fail("%d %s, at most %d", n, what, limit)
		return 0
	}
	return int(n)
}

func (s *scan) valueType() {
	if t := s.byte(); t != 0x7f && t != 0x7e {
		s.fail("value type %#x", t)
	}
}

func (s *scan) section(id int) {
	switch id {
	case 0:
		if name := s.take(s.unsigned()); string(name) != "lacre.module" {
			s.fail("custom section %q", name)
		}
		s.take(uint64(len(s.b)))
	case 1:
		for range s.atMost("types", 128) {
			if form := s.byte(); form != 0x60 {
				s.fail("type of form %#x", form)
			}
			n := s.atMost("parameters", 256)
			for range n {
				s.valueType()
			}
			s.params = append(s.params, n)
			for range s.atMost("results", 1) {
				s.valueType()
			}
		}
	case 3:
		s.functions = s.atMost("functions", 256)
		for range s.functions {
			t := s.unsigned()
			if t >= uint64(len(s.params)) {
				s.fail("type %d of %d", t, len(s.params))
				return
			}
			s.takes = append(s.takes, s.params[t])
		}
	case 4:
		if got := s.take(5); s.err == nil && string(got) != "\x01\x70\x01\x01\x01" && string(got) != "\x01\x70\x01\x00\x00" {
			s.fail("table %x", got)
		}
	case 5:
		count, flags, least, most := s.byte(), s.byte(), s.unsigned(), s.unsigned()
		if count != 1 || flags != 1 || least != most || least < 1 || most > 64 {
			s.fail("%d memories, flags %d, %d to %d pages", count, flags, least, most)
		}
		s.memory = most << 16
	case 6:
		for range s.atMost("globals", 64) {
			s.valueType()
			if mutable := s.byte(); mutable > 1 {
				s.fail("mutability %d", mutable)
			}
			s.constant()
		}
	case 7:
		s.exports()
	case 10:
		s.bodies()
	case 11:
		for range s.atMost("data segments", 64) {
			if flags := s.unsigned(); flags != 0 {
				s.fail("data segment of flags %d", flags)
			}
			at := uint64(uint32(s.constant()))
			if n := uint64(len(s.take(s.unsigned()))); at+n > s.memory {
				s.fail("data up to %d in memory of %d", at+n, s.memory)
			}
		}
	}
}

// constant reads a constant expression and returns its raw value.
func (s *scan) constant() uint64 {
	var v uint64
	switch op := s.byte(); op {
	case 0x41:
		v = s.integer(5)
	case 0x42:
		v = s.integer(10)
	default:
		s.fail("constant expression of opcode %#x", op)
	}
	if end := s.byte(); end != 0x0b {
		s.fail("constant expression goes on with %#x", end)
	}
	return v
}

func (s *scan) exports() {
	want := map[string]byte{"memory": 2, "abi_version": 0, "input_ptr": 0, "input_cap": 0, "output_ptr": 0, "output_cap": 0, "measure": 0}
	for range s.atMost("exports", 7) {
		name := string(s.take(s.unsigned()))
		kind, index := s.byte(), s.unsigned()
		if known, ok := want[name]; !ok || known != kind || kind == 0 && index >= uint64(s.functions) {
			s.fail("export %q of kind %d, index %d", name, kind, index)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		s.fail("exports %v are missing", want)
	}
}

// bodies reads the code section; functions may call each other in one order only.
func (s *scan) bodies() {
	if n := s.atMost("bodies", 256); n != s.functions {
		s.fail("%d bodies for %d functions", n, s.functions)
		return
	}
	s.coded = s.functions
	calls := make([][]int, s.functions)
	for i := range calls {
		body := &scan{b: s.take(s.unsigned()), functions: s.functions}
		if s.err != nil {
			return
		}
		body.body(uint64(s.takes[i]))
		if body.err != nil {
			s.fail("function %d: %w", i, body.err)
			return
		}
		calls[i] = body.calls
	}
	// Leaves go first, then whoever calls only what has gone: what stays is recursive.
	gone := make([]bool, len(calls))
	for more := true; more; {
		more = false
		for i, callees := range calls {
			ends := true
			for _, c := range callees {
				ends = ends && gone[c]
			}
			more = more || ends && !gone[i]
			gone[i] = ends
		}
	}
	for i := range gone {
		if !gone[i] {
			s.fail("function %d can reach itself", i)
		}
	}
}

// body reads a function's locals and code; its parameters count as locals.
func (s *scan) body(total uint64) {
	for range s.atMost("groups of locals", 256) {
		n := s.unsigned()
		s.valueType()
		if total += n; total > 256 {
			s.fail("%d locals", total)
		}
	}
	seen := make(map[int]bool)
	for depth := 1; depth > 0 && s.err == nil; {
		op := s.byte()
		if !whitelisted(op) {
			s.fail("opcode %#x", op)
		}
		depth += s.immediates(op, seen)
		if depth > 64 {
			s.fail("%d levels", depth)
		}
	}
	if len(s.b) > 0 {
		s.fail("%d bytes after the end", len(s.b))
	}
}

// immediates reads what follows an opcode of the whitelist and returns how the
// depth of blocks changes.
func (s *scan) immediates(op byte, seen map[int]bool) int {
	switch {
	case op >= 0x02 && op <= 0x04:
		if t := s.byte(); t != 0x40 && t != 0x7f && t != 0x7e {
			s.fail("block type %#x", t)
		}
		return 1
	case op == 0x0b:
		return -1
	case op == 0x0e:
		for range s.atMost("targets", 256) + 1 {
			s.unsigned()
		}
	case op == 0x10:
		callee := s.unsigned()
		if callee >= uint64(s.functions) {
			s.fail("call of function %d of %d", callee, s.functions)
			return 0
		}
		if !seen[int(callee)] {
			seen[int(callee)] = true
			s.calls = append(s.calls, int(callee))
		}
	case op == 0x0c, op == 0x0d, op >= 0x20 && op <= 0x24:
		s.unsigned()
	case op >= 0x28 && op <= 0x3e:
		s.unsigned()
		s.unsigned()
	case op == 0x41:
		s.integer(5)
	case op == 0x42:
		s.integer(10)
	}
	return 0
}

// whitelisted: the integer instructions of WebAssembly 1.0, by the ranges of the
// specification's table of opcodes (appendix A.5), less call_indirect,
// memory.size and memory.grow.
func whitelisted(op byte) bool {
	for _, r := range [][2]byte{
		{0x00, 0x05}, {0x0b, 0x10}, {0x1a, 0x1b}, {0x20, 0x24}, // control, parametric, variable
		{0x28, 0x29}, {0x2c, 0x37}, {0x3a, 0x3e}, {0x41, 0x42}, // memory, constants
		{0x45, 0x5a}, {0x67, 0x8a}, {0xa7, 0xa7}, {0xac, 0xad}, // comparison, arithmetic, conversion
	} {
		if op >= r[0] && op <= r[1] {
			return true
		}
	}
	return false
}

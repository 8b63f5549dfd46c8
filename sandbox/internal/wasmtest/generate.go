package wasmtest

// Generate builds a module from arbitrary bytes: always valid for profile
// lacre/1 unless the bytes are so many that a limit is passed. It uses every kind
// of instruction, may trap, may run for ever (fuel ends it), and writes what it
// computed to the output.
func Generate(data []byte) []byte {
	g := &generator{data: data}
	m := WithMeasure(nil)
	m.Types = append(m.Types,
		Type{[]byte{I32, I64}, []byte{I64}}, // 3: helpers
	)
	m.AddGlobal(I32, I32Const(int32(g.next())<<20))
	m.AddGlobal(I64, I64Const(-int64(g.next())))
	m.AddGlobal(I32, I32Const(0))
	m.AddGlobal(I64, I64Const(1<<40))
	m.Data = []Data{{16, []byte("lacre")}, {300, []byte{g.next(), g.next(), 0xff, 0x80}}}
	for range int(g.next() % 4) {
		g.enter(1, 1)
		g.result = I64
		body := Cat(Get(0), Set(g.base32), Get(1), Set(g.base64), g.statements(3), g.expression(I64, 3), End)
		m.AddFunction(3, generatedLocals, body)
		g.helpers++
	}
	g.enter(1, 0)
	g.result = I32
	body := Cat(Get(0), Set(g.base32), g.statements(5))
	for len(g.data) > 0 {
		body = append(body, g.statements(5)...)
	}
	m.Functions[Measure].Locals = generatedLocals
	m.Functions[Measure].Body = Cat(body, g.report())
	return m.Encode()
}

// generatedLocals are the declared locals of each generated function: four i32
// and three i64.
var generatedLocals = []byte{I32, I32, I32, I32, I64, I64, I64}

// generator turns bytes into code. Its choices fall back to the simplest when
// the bytes are used up.
type generator struct {
	data    []byte
	helpers int    // helper functions that may be called: those before this one
	base32  int    // first i32 local
	count32 int    // number of i32 locals
	base64  int    // first i64 local
	result  byte   // result type of the function
	labels  []byte // open labels, innermost last: the type that a branch carries
}

func (g *generator) next() byte {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return b
}

// enter starts a function with the given numbers of i32 and i64 parameters.
func (g *generator) enter(params32, params64 int) {
	g.base32, g.count32, g.base64 = params32+params64, 4, params32+params64+4
	g.labels = nil
}

func (g *generator) local(t byte) int {
	if t == I32 {
		return g.base32 + int(g.next())%g.count32
	}
	return g.base64 + int(g.next())%3
}

// global returns a global of type t: 0 and 2 are i32, 1 and 3 are i64.
func (g *generator) global(t byte) int {
	index := int(g.next()%2) * 2
	if t == I64 {
		index++
	}
	return index
}

func (g *generator) statements(depth int) []byte {
	var out []byte
	for range 1 + int(g.next()%4) {
		out = append(out, g.statement(depth)...)
	}
	return out
}

// within generates statements inside a label that carries nothing.
func (g *generator) within(depth int) []byte {
	g.labels = append(g.labels, Void)
	out := g.statements(depth - 1)
	g.labels = g.labels[:len(g.labels)-1]
	return out
}

func (g *generator) statement(depth int) []byte {
	if depth <= 0 || len(g.data) == 0 {
		t := g.valueType()
		return Cat(g.expression(t, 1), Set(g.local(t)))
	}
	t := g.valueType()
	switch g.next() % 12 {
	case 0:
		return Cat(g.expression(t, depth), GlobalSet(g.global(t)))
	case 1, 2:
		return g.store(t, depth)
	case 3:
		return Cat(g.expression(I32, depth), Block(0x04, Void, g.within(depth), Op(0x05), g.within(depth)))
	case 4, 5: // a loop over a counter, which its body may change: perhaps for ever
		counter := g.local(I32)
		return Cat(I32Const(int32(g.next()%32)), Set(counter),
			Block(0x03, Void, g.within(depth), Get(counter), I32Const(1), Op(0x6b), Tee(counter), Idx(0x0d, 0)))
	case 6: // br_if and br_table to labels that carry nothing
		g.labels = append(g.labels, Void)
		inner := g.within(depth)
		g.labels = g.labels[:len(g.labels)-1]
		return Block(0x02, Void, Block(0x02, Void, inner, g.expression(I32, depth-1), Idx(0x0d, int(g.next()%2)),
			g.expression(I32, depth-1), []byte{0x0e, 2, 0, 1, g.next() % 2}))
	case 7:
		if g.helpers > 0 {
			return Cat(g.call(depth), Op(0x1a))
		}
	case 8: // a trap or a branch out, seldom taken, with unreachable code after it
		condition := Cat(g.expression(I32, depth), I32Const(int32(g.next())), Op(0x46))
		if target := g.target(); target >= 0 {
			return Cat(condition, Block(0x04, Void, Idx(0x0c, target+1), Op(0x6a, 0x1a)))
		}
		return Cat(condition, Block(0x04, Void, Op(0x00), g.expression(t, 1), Op(0x1a)))
	case 9: // leave the function early, by return or by a branch to its label
		exit := Op(0x0f)
		if g.next()%2 == 0 {
			exit = Idx(0x0c, len(g.labels)+1)
		}
		value := I32Const(8)
		if g.result == I64 {
			value = g.expression(I64, 1)
		}
		condition := Cat(g.expression(I32, depth), I32Const(int32(g.next()%8)), Op(0x46))
		return Cat(condition, Block(0x04, Void, value, exit))
	}
	return Cat(g.expression(t, depth), Set(g.local(t)))
}

// target returns the depth of an open label that carries nothing, or -1.
func (g *generator) target() int {
	if len(g.labels) == 0 {
		return -1
	}
	depth := int(g.next()) % len(g.labels)
	if g.labels[len(g.labels)-1-depth] != Void {
		return -1
	}
	return depth
}

func (g *generator) valueType() byte {
	if g.next()%2 == 0 {
		return I32
	}
	return I64
}

// address generates an address that lies in memory, seldom not.
func (g *generator) address(depth int) []byte {
	if g.next()%16 == 0 {
		return g.expression(I32, depth)
	}
	return Cat(g.expression(I32, depth), I32Const(0x7fff), Op(0x71))
}

func (g *generator) offset() uint32 {
	b := uint32(g.next())
	if b%32 == 1 {
		return 0xffffff00 + b
	}
	return b * 100
}

func (g *generator) store(t byte, depth int) []byte {
	ops := []byte{0x36, 0x3a, 0x3b}
	if t == I64 {
		ops = []byte{0x37, 0x3c, 0x3d, 0x3e}
	}
	op := ops[int(g.next())%len(ops)]
	return Cat(g.address(depth-1), g.expression(t, depth-1), Store(op, 0, g.offset()))
}

func (g *generator) call(depth int) []byte {
	callee := Measure + 1 + int(g.next())%g.helpers
	return Cat(g.expression(I32, depth-1), g.expression(I64, depth-1), Call(callee))
}

var interesting = []int64{0, 1, -1, 2, 31, 32, 63, 64, 0x7fff, 0x8000, 0xff, 1<<31 - 1, -1 << 31, 1<<32 - 1, 1<<63 - 1, -1 << 63}

func (g *generator) constant(t byte) []byte {
	v := int64(int8(g.next()))
	if v&1 == 1 {
		v = interesting[int(uint8(v)>>1)%len(interesting)]
	}
	if t == I32 {
		return I32Const(int32(v))
	}
	return I64Const(v)
}

func (g *generator) expression(t byte, depth int) []byte {
	if depth <= 0 || len(g.data) == 0 {
		if g.next()%2 == 0 {
			return Get(g.local(t))
		}
		return g.constant(t)
	}
	choice := g.next() % 16
	switch {
	case choice < 6:
		return g.binary(t, depth)
	case choice < 8:
		return g.unary(t, depth)
	case choice < 10:
		return g.load(t, depth)
	case choice == 10:
		return Cat(g.expression(t, depth-1), g.expression(t, depth-1), g.expression(I32, depth-1), Op(0x1b))
	case choice == 11:
		g.labels = append(g.labels, t)
		yes, no := g.expression(t, depth-1), g.expression(t, depth-1)
		g.labels = g.labels[:len(g.labels)-1]
		return Cat(g.expression(I32, depth-1), []byte{0x04, t}, yes, Op(0x05), no, End)
	case choice == 12: // a block left with its value
		g.labels = append(g.labels, t)
		body := Cat(g.expression(t, depth-1), g.expression(I32, depth-1), Idx(0x0d, 0), Op(0x1a), g.expression(t, depth-1))
		g.labels = g.labels[:len(g.labels)-1]
		return Block(0x02, t, body)
	case choice == 13:
		return GlobalGet(g.global(t))
	case choice == 14:
		return Cat(g.expression(t, depth-1), Tee(g.local(t)))
	case g.helpers > 0 && t == I64:
		return g.call(depth)
	}
	return g.constant(t)
}

func (g *generator) binary(t byte, depth int) []byte {
	b := g.next()
	operands := t
	var op byte
	switch {
	case t == I32 && b%3 == 0: // comparison of either type
		operands, op = g.valueType(), 0x46+b/3%10
		if operands == I64 {
			op += 0x51 - 0x46
		}
	case t == I32:
		op = 0x6a + b/3%15
	default:
		op = 0x7c + b/3%15
	}
	return Cat(g.expression(operands, depth-1), g.expression(operands, depth-1), Op(op))
}

func (g *generator) unary(t byte, depth int) []byte {
	b := g.next()
	switch {
	case t == I32 && b%4 == 3:
		return Cat(g.expression(I64, depth-1), Op([]byte{0xa7, 0x50}[b/4%2])) // wrap, eqz
	case t == I32:
		return Cat(g.expression(I32, depth-1), Op([]byte{0x67, 0x68, 0x69, 0x45}[b/4%4]))
	case b%4 == 3:
		return Cat(g.expression(I32, depth-1), Op(0xac+b/4%2))
	default:
		return Cat(g.expression(I64, depth-1), Op(0x79+b/4%3))
	}
}

func (g *generator) load(t byte, depth int) []byte {
	ops := []byte{0x28, 0x2c, 0x2d, 0x2e, 0x2f}
	if t == I64 {
		ops = []byte{0x29, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35}
	}
	op := ops[int(g.next())%len(ops)]
	return Cat(g.address(depth-1), Store(op, 0, g.offset()))
}

// report writes code 0, all locals and all globals to the output and returns
// its length: 4 i32 and 3 i64 locals, 4 globals.
func (g *generator) report() []byte {
	out := Cat(I32Const(OutputPtr), I64Const(11<<32), Store(0x37, 0, 0))
	offset := uint32(8)
	put := func(value []byte) {
		out = Cat(out, I32Const(OutputPtr), value, Store(0x37, 0, offset))
		offset += 8
	}
	for i := range 4 {
		put(Cat(Get(g.base32+i), Op(0xad)))
	}
	for i := range 3 {
		put(Get(g.base64 + i))
	}
	put(Cat(GlobalGet(0), Op(0xad)))
	put(GlobalGet(1))
	put(Cat(GlobalGet(2), Op(0xad)))
	put(GlobalGet(3))
	return Cat(out, I32Const(int32(offset)), End)
}

package profile

// Section ids of WebAssembly 1.0 (Core Specification 1.0, 5.5.2).
const (
	SectionCustom   byte = 0
	SectionType     byte = 1
	SectionImport   byte = 2
	SectionFunction byte = 3
	SectionTable    byte = 4
	SectionMemory   byte = 5
	SectionGlobal   byte = 6
	SectionExport   byte = 7
	SectionStart    byte = 8
	SectionElement  byte = 9
	SectionCode     byte = 10
	SectionData     byte = 11
)

// FuncType is a function type: parameters and at most one result.
type FuncType struct {
	Params []ValueType
	Result ValueType // NoType for none
}

// Function is a function of the module.
type Function struct {
	Type       FuncType
	Locals     []ValueType // parameters first, then the declared locals
	groups     int         // number of local declarations
	groupBytes span        // the declarations, without their count
	code       span        // instructions, the final end included
	calls      []uint32    // called functions, filled by the validator
}

// Global is a global of the module. Its initial value is a constant.
type Global struct {
	Type    ValueType
	Mutable bool
	Init    int64 // sign-extended
}

type dataSegment struct {
	offset uint32 // in memory
	bytes  span   // in the module
	at     int    // offset of the segment in the module
}

// readSections splits the module into sections and reads each.
func (m *Module) readSections(r *reader) {
	const magic = "\x00asm\x01\x00\x00\x00"
	if len(r.data) < len(magic) || string(r.data[:len(magic)]) != magic {
		r.fail(ReasonMagic, 0, sprint("%q", r.data[:min(len(r.data), len(magic))]), sprint("%q", magic))
		return
	}
	r.pos = len(magic)
	m.sections = make(map[byte]span)
	whole, last := r.end, byte(0)
	for r.more() {
		at := r.pos
		id := r.byte()
		checkSectionID(r, id, at)
		if _, ended := m.sections[SectionCustom]; ended || (id != SectionCustom && id <= last) {
			r.fail(ReasonSectionOrder, at, sprint("section %d after section %d", id, last),
				"ascending sections, each at most once, lacre.module last")
		}
		content := r.take(r.u32())
		if r.err != nil {
			return
		}
		m.sections[id], last = content, id
		r.pos, r.end = content.start, content.end
		m.readSection(r, id)
		if r.more() {
			r.fail(ReasonTrailing, r.pos, sprint("%d bytes after the content of section %d", r.end-r.pos, id), "none")
		}
		r.end = whole
	}
	m.checkPresent(r)
}

// checkSectionID refuses sections by their id alone: a start section of function
// 0 can look like an empty section of another kind.
func checkSectionID(r *reader, id byte, at int) {
	switch id {
	case SectionImport:
		r.fail(ReasonImport, at, "an import section", "none")
	case SectionStart:
		r.fail(ReasonStart, at, "a start section", "none")
	case SectionElement:
		r.fail(ReasonElement, at, "an element section", "none")
	default:
		if id > SectionData {
			r.fail(ReasonSection, at, sprint("section %d", id), "sections of WebAssembly 1.0")
		}
	}
}

func (m *Module) readSection(r *reader, id byte) {
	switch id {
	case SectionCustom:
		m.readIdentity(r)
	case SectionType:
		m.readTypes(r)
	case SectionFunction:
		m.readFunctions(r)
	case SectionTable:
		readTable(r)
	case SectionMemory:
		m.readMemory(r)
	case SectionGlobal:
		m.readGlobals(r)
	case SectionExport:
		m.readExports(r)
	case SectionCode:
		m.readBodies(r)
	case SectionData:
		m.readData(r)
	}
}

// checkPresent requires the sections that every module of the ABI has.
func (m *Module) checkPresent(r *reader) {
	if _, ok := m.sections[SectionMemory]; !ok {
		r.fail(ReasonMemory, r.end, "no memory", "one memory")
	}
	if _, ok := m.sections[SectionCode]; !ok && len(m.functions) > 0 {
		r.fail(ReasonFunctionCount, r.end, sprint("%d functions and no bodies", len(m.functions)), "a body for each function")
	}
	if _, ok := m.sections[SectionCustom]; !ok {
		r.fail(ReasonCustom, r.end, "no custom section", "the custom section "+identitySection)
	}
}

func (r *reader) valueType() ValueType {
	at := r.pos
	t := ValueType(r.byte())
	if r.err == nil && t != I32 && t != I64 {
		r.fail(ReasonValueType, at, t.String(), "i32 or i64")
	}
	return t
}

func (m *Module) readTypes(r *reader) {
	for n := r.count(MaxTypes, ReasonTypeCount); n > 0 && r.err == nil; n-- {
		at := r.pos
		if form := r.byte(); r.err == nil && form != 0x60 {
			r.fail(ReasonType, at, sprint("form 0x%02x", form), "a function type, 0x60")
		}
		t := FuncType{Result: NoType}
		for p := r.count(MaxLocals, ReasonLocals); p > 0 && r.err == nil; p-- {
			t.Params = append(t.Params, r.valueType())
		}
		switch results := r.u32(); {
		case results == 1:
			t.Result = r.valueType()
		case results > 1:
			r.fail(ReasonType, at, sprint("%d results", results), "at most one")
		}
		m.types = append(m.types, t)
	}
}

func (m *Module) readFunctions(r *reader) {
	for n := r.count(MaxFunctions, ReasonFunctionCount); n > 0 && r.err == nil; n-- {
		at := r.pos
		index := r.u32()
		if int64(index) >= int64(len(m.types)) {
			r.fail(ReasonIndex, at, sprint("type %d", index), sprint("one of %d types", len(m.types)))
			return
		}
		m.functions = append(m.functions, Function{Type: m.types[index]})
	}
}

// readTable admits the inert table that wasm-ld 19 writes for MVP objects: one
// funcref table with minimum = maximum <= 1. Nothing can fill or read it.
func readTable(r *reader) {
	at := r.pos
	if count, element, flags := r.u32(), r.byte(), r.byte(); r.err == nil && (count != 1 || element != 0x70 || flags != 1) {
		r.fail(ReasonTable, at, sprint("%d tables, the first of type 0x%02x with flags %d", count, element, flags), "one funcref table with a maximum")
	}
	if minimum, maximum := r.u32(), r.u32(); r.err == nil && (minimum != maximum || maximum > 1) {
		r.fail(ReasonTable, at, sprint("%d to %d elements", minimum, maximum), "minimum = maximum of at most 1")
	}
}

func (m *Module) readMemory(r *reader) {
	at := r.pos
	count, flags := r.u32(), r.byte()
	if r.err == nil && (count != 1 || flags != 1) {
		r.fail(ReasonMemory, at, sprint("%d memories, the first with flags %d", count, flags), "one memory with a maximum")
	}
	minimum, maximum := r.u32(), r.u32()
	if r.err == nil && (minimum != maximum || maximum < 1 || maximum > MaxMemoryPages) {
		r.fail(ReasonMemory, at, sprint("%d to %d pages", minimum, maximum), sprint("minimum = maximum of 1 to %d pages", MaxMemoryPages))
		return
	}
	m.MemoryBytes = maximum * PageBytes
}

// constant reads a constant expression: one constant of type t and end.
func (r *reader) constant(t ValueType, reason Reason) int64 {
	var in Instruction
	at := r.pos
	r.instruction(&in)
	if r.err == nil && (in.Op.Kind() != Constant || in.Op.Result() != t) {
		r.fail(reason, at, in.Op.String(), t.String()+".const")
	}
	at = r.pos
	if end := r.byte(); r.err == nil && Opcode(end) != OpEnd {
		r.fail(reason, at, Opcode(end).String(), "end after one constant")
	}
	return in.Value
}

func (m *Module) readGlobals(r *reader) {
	for n := r.count(MaxGlobals, ReasonGlobalCount); n > 0 && r.err == nil; n-- {
		g := Global{Type: r.valueType()}
		at := r.pos
		mutable := r.byte()
		if r.err == nil && mutable > 1 {
			r.fail(ReasonGlobal, at, sprint("mutability %d", mutable), "0 or 1")
		}
		g.Mutable = mutable == 1
		g.Init = r.constant(g.Type, ReasonGlobal)
		m.globals = append(m.globals, g)
	}
}

// readBodies reads the local declarations of each function and notes where its
// code lies; the code itself is validated once everything it may name is known.
func (m *Module) readBodies(r *reader) {
	at := r.pos
	if n := r.count(MaxFunctions, ReasonFunctionCount); r.err == nil && n != len(m.functions) {
		r.fail(ReasonFunctionCount, at, sprint("%d bodies", n), sprint("%d, one for each function", len(m.functions)))
	}
	for i := 0; i < len(m.functions) && r.err == nil; i++ {
		body := r.take(r.u32())
		section := r.end
		r.pos, r.end = body.start, body.end
		if r.err == nil {
			m.functions[i].readLocals(r)
		}
		m.functions[i].code = span{r.pos, body.end}
		r.pos, r.end = body.end, section
	}
}

func (f *Function) readLocals(r *reader) {
	f.groups = r.count(MaxLocals, ReasonLocals)
	f.groupBytes.start = r.pos
	total := uint64(len(f.Type.Params))
	f.Locals = append(f.Locals, f.Type.Params...)
	for i := 0; i < f.groups && r.err == nil; i++ {
		at := r.pos
		n := r.u32()
		t := r.valueType()
		if total += uint64(n); r.err == nil && total > MaxLocals {
			r.fail(ReasonLocals, at, sprint("%d locals", total), sprint("at most %d", MaxLocals))
			return
		}
		for ; n > 0 && r.err == nil; n-- {
			f.Locals = append(f.Locals, t)
		}
	}
	f.groupBytes.end = r.pos
}

func (m *Module) readData(r *reader) {
	for n := r.count(MaxDataSegments, ReasonDataCount); n > 0 && r.err == nil; n-- {
		at := r.pos
		if flags := r.u32(); r.err == nil && flags != 0 {
			r.fail(ReasonData, at, sprint("flags %d", flags), "an active segment of memory 0")
		}
		offset := uint32(r.constant(I32, ReasonData))
		m.data = append(m.data, dataSegment{offset: offset, bytes: r.take(r.u32()), at: at})
	}
}

package profile

import "strings"

// Names of the exports of ABI lacre/1.
const (
	ExportMemory     = "memory"
	ExportABIVersion = "abi_version"
	ExportInputPtr   = "input_ptr"
	ExportInputCap   = "input_cap"
	ExportOutputPtr  = "output_ptr"
	ExportOutputCap  = "output_cap"
	ExportMeasure    = "measure"
)

const (
	abiVersion      = 1
	identitySection = "lacre.module"
	kindFunction    = 0 // export kinds of Core Specification 1.0, 5.5.10
	kindMemory      = 2
	maxNameBytes    = 64 // of an export, of the custom section, of its content
)

var abiExports = []string{
	ExportMemory, ExportABIVersion, ExportInputPtr, ExportInputCap, ExportOutputPtr, ExportOutputCap, ExportMeasure,
}

type export struct {
	kind  byte
	index uint32
	at    int
}

func (m *Module) readExports(r *reader) {
	m.exports = make(map[string]export, len(abiExports))
	for n := r.count(len(abiExports), ReasonExport); n > 0 && r.err == nil; n-- {
		at := r.pos
		name := r.text(uint32(r.count(maxNameBytes, ReasonExport)))
		e := export{kind: r.byte(), index: r.u32(), at: at}
		if _, twice := m.exports[name]; twice {
			r.fail(ReasonExport, at, sprint("a second %q", name), "each export once")
		}
		m.exports[name] = e
	}
}

// checkABI judges exports, getters, regions and data segments.
func (m *Module) checkABI(r *reader) {
	if r.err != nil {
		return
	}
	for _, name := range abiExports {
		e, ok := m.exports[name]
		switch {
		case !ok: // together with the limit of readExports: exactly these
			r.fail(ReasonExport, len(r.data), "no export "+name, strings.Join(abiExports, ", "))
		case name == ExportMemory:
			if e.kind != kindMemory || e.index != 0 {
				r.fail(ReasonExport, e.at, sprint("kind %d index %d as %s", e.kind, e.index, name), "memory 0")
			}
		case e.kind != kindFunction:
			r.fail(ReasonExport, e.at, sprint("kind %d as %s", e.kind, name), "a function")
		case int64(e.index) >= int64(len(m.functions)):
			r.fail(ReasonIndex, e.at, sprint("function %d", e.index), sprint("one of %d functions", len(m.functions)))
		case name == ExportMeasure:
			m.checkSignature(r, e, name, "(i32) -> i32")
		default:
			m.checkSignature(r, e, name, "() -> i32")
		}
	}
	version := m.getter(r, ExportABIVersion)
	m.InputPtr, m.InputCap = m.getter(r, ExportInputPtr), m.getter(r, ExportInputCap)
	m.OutputPtr, m.OutputCap = m.getter(r, ExportOutputPtr), m.getter(r, ExportOutputCap)
	if r.err == nil && version != abiVersion {
		r.fail(ReasonABIVersion, m.exports[ExportABIVersion].at, sprint("abi_version %d", version), sprint("%d", abiVersion))
	}
	m.checkRegions(r)
	m.checkData(r)
}

func (m *Module) checkSignature(r *reader, e export, name, want string) {
	t := m.functions[e.index].Type
	if have := t.String(); have != want {
		r.fail(ReasonSignature, e.at, name+" "+have, want)
	}
}

// String shows the type in the form "(i32, i64) -> i32".
func (t FuncType) String() string {
	params := make([]string, len(t.Params))
	for i, p := range t.Params {
		params[i] = p.String()
	}
	return "(" + strings.Join(params, ", ") + ") -> " + t.Result.String()
}

// getter returns the constant of a getter, whose body must be that constant
// alone: its value is then known without running anything.
func (m *Module) getter(r *reader, name string) uint32 {
	if r.err != nil {
		return 0
	}
	index := int(m.exports[name].index)
	f := m.functions[index]
	var value int64
	n, constant := 0, false
	for in := range m.Instructions(index) {
		if n == 0 {
			value, constant = in.Value, in.Op == OpI32Const
		}
		n++
	}
	if n != 2 || !constant || len(f.Locals) != 0 {
		r.fail(ReasonGetter, f.code.start, sprint("%s with %d instructions and %d locals", name, n, len(f.Locals)), "one i32.const")
	}
	return uint32(value)
}

// checkRegions places output below input and both inside memory. The input lies
// above everything else that the profile can see, so that an engine restores
// memory at a cost proportional to the vector.
func (m *Module) checkRegions(r *reader) {
	memory := uint64(m.MemoryBytes)
	inputEnd := uint64(m.InputPtr) + uint64(m.InputCap)
	outputEnd := uint64(m.OutputPtr) + uint64(m.OutputCap)
	if r.err == nil && (m.InputCap < MinInputBytes || inputEnd > memory) {
		r.fail(ReasonInputRegion, m.exports[ExportInputCap].at, sprint("input %d to %d", m.InputPtr, inputEnd),
			sprint("at least %d bytes, up to %d", MinInputBytes, memory))
	}
	if r.err == nil && (m.OutputCap < MinOutputBytes || m.OutputCap > MaxOutputBytes || outputEnd > uint64(m.InputPtr)) {
		r.fail(ReasonOutputRegion, m.exports[ExportOutputCap].at, sprint("output %d to %d", m.OutputPtr, outputEnd),
			sprint("%d to %d bytes, up to the input at %d", MinOutputBytes, MaxOutputBytes, m.InputPtr))
	}
}

// checkData requires ascending, disjoint segments below the input region.
func (m *Module) checkData(r *reader) {
	floor := uint64(0)
	for _, segment := range m.data {
		end := uint64(segment.offset) + uint64(segment.bytes.len())
		if r.err == nil && (uint64(segment.offset) < floor || end > uint64(m.InputPtr)) {
			r.fail(ReasonData, segment.at, sprint("a segment %d to %d", segment.offset, end),
				sprint("from %d, up to the input at %d", floor, m.InputPtr))
		}
		floor = end
	}
}

// readIdentity reads the custom section lacre.module: "speed 1.0.0".
func (m *Module) readIdentity(r *reader) {
	at := r.pos
	if name := r.text(uint32(r.count(maxNameBytes, ReasonCustom))); r.err == nil && name != identitySection {
		r.fail(ReasonCustom, at, sprint("custom section %q", name), "only "+identitySection)
	}
	at = r.pos
	if r.end-r.pos > maxNameBytes {
		r.fail(ReasonIdentity, at, sprint("%d bytes", r.end-r.pos), sprint("at most %d", maxNameBytes))
	}
	text := r.text(uint32(r.end - r.pos))
	var found bool
	m.Name, m.Version, found = strings.Cut(text, " ")
	if r.err == nil && (!found || !validName(m.Name) || !validVersion(m.Version)) {
		r.fail(ReasonIdentity, at, sprint("%q", text), `a name of a-z, 0-9, - from a letter, a space, a version such as 1.0.0`)
	}
}

func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// validVersion admits three decimal numbers of at most five digits, without
// leading zeros.
func validVersion(s string) bool {
	parts := strings.Split(s, ".")
	for _, part := range parts {
		if part == "" || len(part) > 5 || (part[0] == '0' && part != "0") || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return len(parts) == 3
}

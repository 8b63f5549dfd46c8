package wasmtest

import "slices"

// Mutate returns a module altered as data says, a few bytes of data for each
// alteration: bits, bytes, ranges, integers, whole sections, and instructions.
// The sizes of sections and function bodies are put right afterwards, so that
// what is altered is met where it stands and not as a wrong length; only
// alterations of the assembled bytes may break a length. module is not changed.
func Mutate(module, data []byte) []byte {
	m := &mutation{data: data, sections: Split(module)}
	for steps := 0; len(m.data) > 0 && steps < 16; steps++ {
		switch m.next() % 8 {
		case 0:
			m.section()
		case 1, 2, 3:
			m.instruction()
		case 4:
			m.count()
		default:
			m.content()
		}
	}
	out := Assemble(m.sections)
	if m.raw > 0 { // decided above, done last: bits of the bytes as they are
		for range m.raw {
			if at := m.place(len(out)); at < len(out) {
				out[at] ^= 1 << (m.next() % 8)
			}
		}
	}
	return out
}

// Split takes a module apart into its sections; what cannot be read is dropped.
func Split(module []byte) []Section {
	var sections []Section
	if len(module) < 8 {
		return nil
	}
	s := &scan{b: module[8:]}
	for len(s.b) > 0 {
		id := s.byte()
		content := s.take(s.unsigned())
		if s.err != nil {
			break
		}
		sections = append(sections, Section{id, slices.Clone(content)})
	}
	return sections
}

type mutation struct {
	data     []byte
	sections []Section
	raw      int // bits to flip in the assembled bytes
}

func (m *mutation) next() byte {
	if len(m.data) == 0 {
		return 0
	}
	b := m.data[0]
	m.data = m.data[1:]
	return b
}

// place is an offset below n, or 0.
func (m *mutation) place(n int) int {
	if n == 0 {
		return 0
	}
	return (int(m.next())<<8 | int(m.next())) % n
}

// integers lie at the limits of the profile and of the encoding.
var integers = []uint64{0, 1, 2, 7, 8, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1024, 2048, 1<<16 - 1, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1<<64 - 1}

// integer is LEB128, sometimes padded.
func (m *mutation) integer() []byte {
	choice := m.next()
	b := U(integers[int(choice)%len(integers)])
	if choice >= 192 { // longer than it need be
		b[len(b)-1] |= 0x80
		b = append(b, make([]byte, choice%4+1)...)
		for i := range b[:len(b)-1] {
			b[i] |= 0x80
		}
	}
	return b
}

// fresh is a few bytes of data.
func (m *mutation) fresh() []byte {
	n := min(int(m.next()%8), len(m.data))
	out := slices.Clone(m.data[:n])
	m.data = m.data[n:]
	return out
}

// section drops, doubles, moves, renames or adds one.
func (m *mutation) section() {
	if len(m.sections) == 0 {
		return
	}
	i, j := int(m.next())%len(m.sections), int(m.next())%len(m.sections)
	switch m.next() % 6 {
	case 0:
		m.sections = slices.Delete(m.sections, i, i+1)
	case 1:
		m.sections = slices.Insert(m.sections, j, m.sections[i])
	case 2:
		m.sections[i], m.sections[j] = m.sections[j], m.sections[i]
	case 3:
		m.sections[i].ID = m.next() % 14
	case 4:
		m.sections = slices.Insert(m.sections, i, Section{m.next() % 14, m.fresh()})
	case 5:
		m.raw++
	}
}

// count writes an integer over the number of items that a section starts with.
func (m *mutation) count() {
	if len(m.sections) == 0 {
		return
	}
	s := &m.sections[int(m.next())%len(m.sections)]
	rest := &scan{b: s.Content}
	rest.unsigned()
	s.Content = Cat(m.integer(), rest.b)
}

// content alters bytes of one section.
func (m *mutation) content() {
	if len(m.sections) == 0 {
		return
	}
	s := &m.sections[int(m.next())%len(m.sections)]
	kind, at := m.next(), m.place(len(s.Content))
	s.Content = m.alter(s.Content, kind, at)
}

// alter returns b with something else at an offset.
func (m *mutation) alter(b []byte, kind byte, at int) []byte {
	b = slices.Clone(b)
	if at >= len(b) {
		return append(b, m.fresh()...)
	}
	switch kind % 6 {
	case 0:
		b[at] ^= 1 << (m.next() % 8)
	case 1:
		b[at] = m.next()
	case 2:
		b = slices.Insert(b, at, m.fresh()...)
	case 3:
		b = slices.Delete(b, at, min(len(b), at+1+int(m.next()%8)))
	case 4:
		from := m.place(len(b))
		b = slices.Insert(b, at, b[from:min(len(b), from+1+int(m.next()%64))]...)
	case 5:
		rest := &scan{b: b[at:]}
		rest.integer(10)
		b = Cat(b[:at], m.integer(), rest.b)
	}
	return b
}

// instruction alters the code of one function, whole instructions mostly.
func (m *mutation) instruction() {
	code := slices.IndexFunc(m.sections, func(s Section) bool { return s.ID == 10 })
	if code < 0 {
		return
	}
	s := &scan{b: m.sections[code].Content}
	var bodies [][]byte
	for range s.unsigned() {
		body := s.take(s.unsigned())
		if s.err != nil {
			break
		}
		bodies = append(bodies, body)
	}
	if len(bodies) == 0 {
		return
	}
	i := len(bodies) - 1 - int(m.next())%len(bodies) // most code is in the last ones
	bodies[i] = m.body(bodies[i])
	out := U(uint64(len(bodies)))
	for _, b := range bodies {
		out = append(out, Vec(b)...)
	}
	m.sections[code].Content = out
}

// body alters one function body: its locals, or an instruction.
func (m *mutation) body(body []byte) []byte {
	s := &scan{b: body, functions: 1 << 32}
	for range s.unsigned() {
		s.unsigned()
		if s.byte(); s.err != nil {
			return m.alter(body, m.next(), m.place(len(body)))
		}
	}
	locals := body[:len(body)-len(s.b)]
	starts := []int{len(locals)}
	for s.err == nil && len(s.b) > 0 {
		s.immediates(s.byte(), make(map[int]bool))
		starts = append(starts, len(body)-len(s.b))
	}
	kind, k := m.next(), m.place(len(starts))
	at, until := starts[k], len(body)
	if k+1 < len(starts) {
		until = starts[k+1]
	}
	switch kind % 8 {
	case 0: // another opcode with the same immediates
		if at < len(body) {
			body = slices.Clone(body)
			body[at] = m.next()
		}
	case 1:
		body = slices.Delete(slices.Clone(body), at, until)
	case 2: // twice
		body = slices.Insert(slices.Clone(body), at, body[at:until]...)
	case 3: // another place's
		k = m.place(len(starts) - 1)
		body = slices.Insert(slices.Clone(body), at, body[starts[k]:starts[min(k+1, len(starts)-1)]]...)
	case 4:
		body = slices.Insert(slices.Clone(body), at, Cat([]byte{m.next()}, m.integer())...)
	case 5: // another immediate
		if at+1 < until {
			body = Cat(body[:at+1], m.integer(), body[until:])
		}
	case 6:
		body = Cat(U(1), m.integer(), []byte{[]byte{I32, I64, F32, Void}[m.next()%4]}, body[len(locals):])
	default:
		body = m.alter(body, m.next(), at)
	}
	return body
}

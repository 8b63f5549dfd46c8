package profile

// span is a range of bytes [start, end) of the module.
type span struct{ start, end int }

func (s span) len() int { return s.end - s.start }

// reader reads the module's bytes up to end. Its first failure sticks: from
// then on every read returns zero and more reports false, so that loops stop.
type reader struct {
	data []byte
	pos  int
	end  int // exclusive; the current section or body
	err  *Error
}

// more reports whether bytes remain and nothing failed.
func (r *reader) more() bool { return r.err == nil && r.pos < r.end }

// fail records the first failure, at offset.
func (r *reader) fail(reason Reason, offset int, have, want string) {
	if r.err == nil {
		r.err = &Error{Reason: reason, Offset: offset, Have: have, Want: want}
	}
}

func (r *reader) byte() byte {
	if r.err != nil {
		return 0
	}
	if r.pos >= r.end {
		r.fail(ReasonTruncated, r.pos, "the end of the content", "one more byte")
		return 0
	}
	b := r.data[r.pos]
	r.pos++
	return b
}

// take returns the next n bytes as a span.
func (r *reader) take(n uint32) span {
	if r.err != nil {
		return span{}
	}
	if uint64(n) > uint64(r.end-r.pos) {
		r.fail(ReasonTruncated, r.pos, sprint("%d bytes", r.end-r.pos), sprint("%d bytes", n))
		return span{}
	}
	s := span{r.pos, r.pos + int(n)}
	r.pos = s.end
	return s
}

// text returns the next n bytes as a string; n is checked against what is left.
func (r *reader) text(n uint32) string {
	s := r.take(n)
	return string(r.data[s.start:s.end])
}

// u32 reads an unsigned integer of the structure: shortest form only.
func (r *reader) u32() uint32 {
	start := r.pos
	v := r.paddedU32()
	if r.err == nil && r.pos-start > 1 && r.data[r.pos-1] == 0 {
		r.fail(ReasonInteger, start, "a padded integer", "its shortest form")
	}
	return v
}

// paddedU32 reads an unsigned immediate of code: at most five bytes.
func (r *reader) paddedU32() uint32 {
	start := r.pos
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			if v > 0xffffffff {
				r.fail(ReasonInteger, start, sprint("%d", v), "an unsigned 32-bit integer")
				return 0
			}
			return uint32(v)
		}
	}
	r.fail(ReasonInteger, start, "more than 5 bytes", "at most 5 bytes")
	return 0
}

// s32 and s64 read signed immediates of code, padded forms allowed.
func (r *reader) s32() int32 { return int32(r.signed(32)) }
func (r *reader) s64() int64 { return r.signed(64) }

// signed reads a signed integer of the given width in at most ceil(width/7)
// bytes; the unused bits of the last possible byte must repeat the sign
// (Core Specification 1.0, 5.2.2).
func (r *reader) signed(width uint) int64 {
	start := r.pos
	var v int64
	for shift := uint(0); shift < width; shift += 7 {
		b := r.byte()
		v |= int64(b&0x7f) << shift
		if b&0x80 != 0 {
			continue
		}
		if left := width - shift; left < 7 {
			// Bits left-1.. of the byte are the sign bit and its copies.
			if high := int8(b<<1) >> left; high != 0 && high != -1 {
				r.fail(ReasonInteger, start, "bits beyond the width", sprint("a signed %d-bit integer", width))
				return 0
			}
		}
		if shift+7 < 64 && b&0x40 != 0 {
			v |= -1 << (shift + 7)
		}
		return v
	}
	r.fail(ReasonInteger, start, "too many bytes", sprint("a signed %d-bit integer", width))
	return 0
}

// count reads a vector's length and compares it with its limit, before anything
// is allocated for it.
func (r *reader) count(limit int, reason Reason) int {
	start := r.pos
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(limit) {
		r.fail(reason, start, sprint("%d", n), sprint("at most %d", limit))
		return 0
	}
	return int(n)
}

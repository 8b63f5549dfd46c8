// Package leb appends LEB128 integers, the integer form of the WebAssembly
// binary format (WebAssembly Core Specification 1.0, section 5.2.2), in their
// shortest encoding. Reading belongs to package profile, which has rules.
package leb

// AppendUnsigned appends the shortest unsigned encoding of v.
func AppendUnsigned(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// AppendSigned appends the shortest signed encoding of v.
func AppendSigned(dst []byte, v int64) []byte {
	for {
		b := byte(v & 0x7f)
		v >>= 7 // arithmetic shift: keeps the sign
		if (v == 0 && b&0x40 == 0) || (v == -1 && b&0x40 != 0) {
			return append(dst, b)
		}
		dst = append(dst, b|0x80)
	}
}

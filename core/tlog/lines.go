package tlog

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"sync"

	"github.com/lacre-metrology/lacre/core/signature"
)

// Bounds on what is parsed. They are part of the format: writers keep them.
const (
	// MaxNameSize bounds an origin or a key name in bytes.
	MaxNameSize = 200
	// MaxTreeSize is the largest tree size; signed 64-bit readers exist.
	MaxTreeSize = 1<<63 - 1
)

// validName says whether a name can stand in a checkpoint, a signature line and
// a policy alike, without Unicode tables.
func validName(name string) bool {
	if name == "" || len(name) > MaxNameSize {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '+' {
			return false
		}
	}
	return true
}

// parseDecimal reads ASCII decimal digits without sign or leading zeroes, at
// most MaxTreeSize (also the largest time stamp, 2^63-1).
func parseDecimal(s string) (uint64, bool) {
	if s == "" || len(s) > 19 || (s[0] == '0' && s != "0") || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}

// strict wants the spare bits to be zero.
var strict = base64.StdEncoding.Strict()

// decodeBase64 accepts only the encoding that encodeBase64 writes: the decoder
// checks padding and spare bits, and skips line breaks, which it must not.
func decodeBase64[T string | []byte](text T) ([]byte, bool) {
	s := []byte(text) // no copy of bytes
	if breaksLine(s) {
		return nil, false
	}
	b := make([]byte, strict.DecodedLen(len(s)))
	n, err := strict.Decode(b, s)
	return b[:n], err == nil
}

// decodeExactly is decodeBase64 of exactly as many bytes as dst has.
func decodeExactly[T string | []byte](dst []byte, s T) bool {
	var room [(maxExactly + 2) / 3 * 4]byte
	if len(dst) > maxExactly || len(s) != base64.StdEncoding.EncodedLen(len(dst)) {
		return false
	}
	in := room[:copy(room[:], s)]
	if breaksLine(in) {
		return false
	}
	var out [maxExactly + 2]byte // the decoder counts on whole groups of three
	n, err := strict.Decode(out[:], in)
	return err == nil && n == len(dst) && copy(dst, out[:n]) == n
}

// breaksLine says whether base64's decoder would skip a byte of s.
func breaksLine(s []byte) bool { return bytes.IndexByte(s, '\n') >= 0 || bytes.IndexByte(s, '\r') >= 0 }

// maxExactly is the longest that decodeExactly reads: key ID, time stamp and signature.
const maxExactly = 4 + 8 + signature.Size

func encodeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// splitLines splits text of newline-terminated lines; false when the last line
// is not terminated or text is empty.
func splitLines(text string) ([]string, bool) {
	if !strings.HasSuffix(text, "\n") {
		return nil, false
	}
	return strings.Split(text[:len(text)-1], "\n"), true
}

// scratch holds the buffers in which a parser writes again what it read, to see that it was the canonical form.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// isWrittenAs says whether write appends exactly these bytes to a buffer, of which it keeps nothing.
func isWrittenAs(text []byte, write func([]byte) []byte) bool {
	b, _ := scratch.Get().(*[]byte) // nothing else is in it
	defer scratch.Put(b)
	*b = write((*b)[:0])
	return bytes.Equal(*b, text)
}

package tlog

import (
	"encoding/base64"
	"strconv"
	"strings"

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
func decodeBase64(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := strict.DecodeString(s)
	return b, err == nil
}

// decodeExactly is decodeBase64 of exactly as many bytes as dst has.
func decodeExactly(dst []byte, s string) bool {
	var room [(maxExactly + 2) / 3 * 4]byte
	if len(dst) > maxExactly || len(s) != base64.StdEncoding.EncodedLen(len(dst)) || strings.ContainsAny(s, "\r\n") {
		return false
	}
	var out [maxExactly + 2]byte // the decoder counts on whole groups of three
	n, err := strict.Decode(out[:], room[:copy(room[:], s)])
	return err == nil && n == len(dst) && copy(dst, out[:n]) == n
}

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

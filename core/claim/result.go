package claim

import (
	"encoding/binary"

	"github.com/lacre-metrology/lacre/core/reason"
)

// The result codes that every algorithm shares; 1 to 99 are the algorithm's own refusals.
const (
	CodeValid           = 0
	CodeExecutionFailed = 100 // trap, exhausted fuel or malformed output: one code for all
)

// MaxValues bounds a result.
const MaxValues = 64

// Result is a module's output: a code, and values in the order of the approved schema.
type Result struct {
	Code   uint32
	Values []int64
}

// ParseResult reads exact output bytes: u32 code, u32 count, i64 values, all
// little-endian. A code above 100, or 100 with values, is Malformed.
func ParseResult(b []byte) (Result, error) {
	if len(b) < 8 || len(b) > 8+8*MaxValues {
		return Result{}, reason.New(reason.Malformed, "result has %d bytes, want 8 to %d", len(b), 8+8*MaxValues)
	}
	r := Result{Code: binary.LittleEndian.Uint32(b)}
	count := binary.LittleEndian.Uint32(b[4:])
	if uint64(len(b)) != 8+8*uint64(count) {
		return Result{}, reason.New(reason.Malformed, "result of %d values has %d bytes", count, len(b))
	}
	if r.Code > CodeExecutionFailed || r.Code == CodeExecutionFailed && count != 0 {
		return Result{}, reason.New(reason.Malformed, "result code %d with %d values", r.Code, count)
	}
	r.Values = make([]int64, count)
	for i := range r.Values {
		r.Values[i] = int64(binary.LittleEndian.Uint64(b[8+8*i:]))
	}
	return r, nil
}

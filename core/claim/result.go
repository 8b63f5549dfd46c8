package claim

import (
	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/reason"
)

// MaxValues bounds a result.
const MaxValues = 64

// ParseResult reads a claim's exact result bytes (module ABI lacre/1). The
// error is a *reason.Error: Malformed.
func ParseResult(b []byte) (abi.Output, error) {
	if len(b) > abi.OutputSize(MaxValues) {
		return abi.Output{}, reason.New(reason.Malformed, "result has %d bytes, at most %d", len(b), abi.OutputSize(MaxValues))
	}
	out, err := abi.DecodeOutput(b)
	if err != nil {
		return abi.Output{}, reason.New(reason.Malformed, "%v", err)
	}
	return out, nil
}

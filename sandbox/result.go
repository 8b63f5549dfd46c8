package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	outputHeaderBytes = 8  // u32 code, u32 value count
	maxAlgorithmCode  = 99 // codes above are the sandbox's or reserved
)

// Result is what one call of measure produced.
type Result struct {
	// Output holds the result bytes of ABI lacre/1: u32 code, u32 V, V x i64,
	// little endian. Owned by the caller.
	Output []byte
	// FuelUsed is the fuel that the call consumed, at most the limit. Every
	// failure (code 100) counts as the whole limit. Part of the claim.
	FuelUsed uint64
	// Outcome explains a code 100. It is diagnostic and not part of the claim.
	Outcome Outcome
}

// Code returns the result code, the first four bytes of Output.
func (r Result) Code() uint32 { return binary.LittleEndian.Uint32(r.Output) }

// Refused reports whether the result is anything but a valid measurement.
func (r Result) Refused() bool { return r.Code() != 0 }

// Equal reports whether both results agree in all that a claim would carry,
// and in the outcome.
func (r Result) Equal(other Result) bool {
	return r.Outcome == other.Outcome && r.FuelUsed == other.FuelUsed && bytes.Equal(r.Output, other.Output)
}

// String shows outcome, fuel and result bytes.
func (r Result) String() string {
	return fmt.Sprintf("%s fuel %d output %x", r.Outcome, r.FuelUsed, r.Output)
}

// failed builds the one result of every failure: {code 100, V 0}, all fuel used.
func failed(outcome Outcome, fuelLimit uint64) Result {
	output := make([]byte, outputHeaderBytes)
	binary.LittleEndian.PutUint32(output, CodeExecutionFailed)
	return Result{Output: output, FuelUsed: fuelLimit, Outcome: outcome}
}

// judge builds the result of a call that returned. region is the whole output
// region, length what measure returned, fuelLeft what remains of the limit. The
// output is copied.
func judge(region []byte, length uint32, fuelLimit, fuelLeft uint64) Result {
	if length < outputHeaderBytes || uint64(length) > uint64(len(region)) {
		return failed(MalformedOutput, fuelLimit)
	}
	code := binary.LittleEndian.Uint32(region)
	values := binary.LittleEndian.Uint32(region[4:])
	if code > maxAlgorithmCode || uint64(length) != outputHeaderBytes+8*uint64(values) {
		return failed(MalformedOutput, fuelLimit)
	}
	return Result{Output: bytes.Clone(region[:length]), FuelUsed: fuelLimit - fuelLeft, Outcome: Completed}
}

// Package sandbox runs an approved measuring algorithm, a WebAssembly module
// of the profile lacre/1, so that every organisation obtains the same result
// bytes and the same fuel from the same module, input and fuel limit.
//
// Source: architecture.md, "The sandbox"; module ABI lacre/1. The profile is
// checked by package profile, fuel is added by package fuel; the engine is
// wazero, used with the WebAssembly 1.0 features only.
//
// Invariants:
//   - A Result is a function of (module bytes, input, fuel limit) alone. No
//     clock, load, pool size or earlier call takes part in it.
//   - The interpreter is the authority: where it and the compiler differ, the
//     interpreter's result is returned and the program stays on it.
//   - An instance that serves a call is pristine: its memory and all mutable
//     globals are as after instantiation. After a trap it is never used again.
//   - An infrastructure failure is an error, never a result: an endorser that
//     cannot compute abstains.
package sandbox

import (
	"errors"
)

// MaxFuel is the largest fuel limit that a call accepts. It leaves the signed
// counter inside the instrumented module far from overflow.
const MaxFuel = 1 << 62

// CodeExecutionFailed is the result code for every way in which a module can
// fail to produce a result (ABI lacre/1): trap, fuel exhausted, malformed
// output, a code above 99, an input beyond the module's capacity.
const CodeExecutionFailed = 100

// Errors of Load and Run. They mean that no result exists (abstain), never
// that the module failed.
var (
	// ErrClosed is returned by Load and Run after Close.
	ErrClosed = errors.New("sandbox: closed")
	// ErrFuelLimit is returned by Run for a fuel limit above MaxFuel.
	ErrFuelLimit = errors.New("sandbox: fuel limit out of range")
	// ErrEngine is returned when the engine fails to compile or instantiate a
	// module that the profile accepts.
	ErrEngine = errors.New("sandbox: engine failure")
)

// Outcome says how a call ended. Only Completed carries the module's own
// result bytes; all others carry {code 100, V 0}.
type Outcome uint8

// Outcomes of a call.
const (
	// Completed: measure returned well-formed result bytes.
	Completed Outcome = iota
	// Trapped: the module executed a WebAssembly trap.
	Trapped
	// OutOfFuel: the fuel limit did not suffice.
	OutOfFuel
	// MalformedOutput: the returned length, value count or code break the ABI.
	MalformedOutput
	// InputTooLarge: the input exceeds the module's input capacity; it was not run.
	InputTooLarge
)

// String returns the outcome in snake case, as used in logs and metrics.
func (o Outcome) String() string {
	switch o {
	case Completed:
		return "completed"
	case Trapped:
		return "trapped"
	case OutOfFuel:
		return "out_of_fuel"
	case MalformedOutput:
		return "malformed_output"
	case InputTooLarge:
		return "input_too_large"
	default:
		return "unknown"
	}
}

// Package profile decides whether a WebAssembly module may run as a measuring algorithm (profile lacre/1).
package profile

// Module describes a module that satisfies the profile.
type Module struct {
	Name, Version               string   // from the custom section lacre.module
	Digest                      [32]byte // SHA-256 of the module's bytes: its identity
	MemoryBytes                 uint32   // size of the one memory, constant
	InputPtr, InputCap          uint32   // bytes; the input region
	OutputPtr, OutputCap        uint32   // bytes; the output region, below the input
	FunctionCount, MeasureIndex uint32
}

// Check validates a module.
func Check(module []byte) (*Module, error) { return nil, nil }

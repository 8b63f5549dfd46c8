// Package abi is the one encoding of what a Lacre module reads and writes: the
// byte layout `lacre/1` between the host and a measuring module.
//
// Source: docs/architecture.md, "The sandbox" (fixed little-endian structs, LR
// parameters in the input header, samples last).
//
// Invariants:
//   - One input has one encoding: EncodeInput and DecodeInput are inverse, and
//     DecodeInput accepts nothing that EncodeInput would not write. The SHA-256
//     of exactly these bytes stands in the claim.
//   - One output has one encoding likewise; result bytes go verbatim into the
//     claim and into the record.
//   - Pure: no clock, no I/O, no state, no floats.
//
// Input, little endian:
//
//	 0  u32 ABI version = 1
//	 4  u32 header bytes = 32 + 8*P
//	 8  u32 channels N >= 2
//	12  u32 samples per channel S >= 1
//	16  u64 sample rate, millihertz, > 0
//	24  u32 parameter count P
//	28  u32 reserved = 0
//	32  i64 parameters[P]
//	..  i16 samples[N][S], channel after channel
//
// Output, little endian:
//
//	0  u32 code (0 VALID, 1..99 refusals of the schema, 100 EXECUTION_FAILED)
//	4  u32 value count V
//	8  i64 values[V]
package abi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the only ABI version there is, at offset 0 of every input and the
// constant that a module's abi_version() returns.
const Version = 1

// Result codes that do not belong to a schema.
const (
	// CodeValid marks a measured value.
	CodeValid uint32 = 0
	// MaxRefusalCode is the largest code that a module may define or return.
	MaxRefusalCode uint32 = 99
	// CodeExecutionFailed is written by the sandbox alone, for a trap, exhausted
	// fuel or a malformed output; such a result has no values.
	CodeExecutionFailed uint32 = 100
)

// Limits of the encoding, in units of the field; they bound what a decoder
// allocates, not what a schema allows.
const (
	fixedHeaderBytes  = 32
	outputHeaderBytes = 8
	maxChannels       = 1 << 10
	maxParameters     = 1 << 10
	maxValues         = 1 << 10
	maxSampleBytes    = 1 << 26
)

// ErrMalformed is wrapped by every error of this package.
var ErrMalformed = errors.New("abi: malformed")

// Input is what one measurement is computed from.
type Input struct {
	// SampleRateMillihertz is the sample rate of every channel, in mHz.
	SampleRateMillihertz uint64
	// Parameters are the legally relevant parameters of the meter's
	// registration, in the order and the units of the approved schema.
	Parameters []int64
	// Samples is planar, [channel][sample], in ADC counts; at least two
	// channels, all of one length.
	Samples [][]int16
}

// InputSize returns the encoded length in bytes of an input with the given
// number of parameters, channels and samples per channel.
func InputSize(parameters, channels, samplesPerChannel int) int {
	return fixedHeaderBytes + 8*parameters + 2*channels*samplesPerChannel
}

// OutputSize returns the encoded length in bytes of an output of v values.
func OutputSize(v int) int { return outputHeaderBytes + 8*v }

// EncodeInput returns the exact input bytes of in; the error wraps ErrMalformed.
func EncodeInput(in Input) ([]byte, error) {
	samples := 0
	if len(in.Samples) > 0 {
		samples = len(in.Samples[0])
	}
	if err := checkShape(uint64(len(in.Samples)), uint64(samples), uint64(len(in.Parameters)), in.SampleRateMillihertz); err != nil {
		return nil, err
	}
	out := make([]byte, 0, InputSize(len(in.Parameters), len(in.Samples), samples))
	out = binary.LittleEndian.AppendUint32(out, Version)
	out = binary.LittleEndian.AppendUint32(out, uint32(fixedHeaderBytes+8*len(in.Parameters)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(in.Samples)))
	out = binary.LittleEndian.AppendUint32(out, uint32(samples))
	out = binary.LittleEndian.AppendUint64(out, in.SampleRateMillihertz)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(in.Parameters)))
	out = binary.LittleEndian.AppendUint32(out, 0)
	for _, p := range in.Parameters {
		out = binary.LittleEndian.AppendUint64(out, uint64(p))
	}
	for c, channel := range in.Samples {
		if len(channel) != samples {
			return nil, fmt.Errorf("channel %d has %d samples, channel 0 has %d: %w", c, len(channel), samples, ErrMalformed)
		}
		at := len(out)
		out = out[:at+2*samples]
		putSamples(out[at:], channel)
	}
	return out, nil
}

// putSamples writes samples in two bytes each, four at a time: most of an input is samples.
func putSamples(to []byte, from []int16) {
	for len(from) >= 4 && len(to) >= 8 {
		binary.LittleEndian.PutUint64(to, uint64(uint16(from[0]))|uint64(uint16(from[1]))<<16|
			uint64(uint16(from[2]))<<32|uint64(uint16(from[3]))<<48)
		from, to = from[4:], to[8:]
	}
	for i, v := range from {
		binary.LittleEndian.PutUint16(to[2*i:], uint16(v))
	}
}

// DecodeInput is the inverse of EncodeInput; the error wraps ErrMalformed. The
// result shares no memory with b.
func DecodeInput(b []byte) (Input, error) {
	if len(b) < fixedHeaderBytes {
		return Input{}, fmt.Errorf("input has %d bytes, its header alone %d: %w", len(b), fixedHeaderBytes, ErrMalformed)
	}
	u32 := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(b[at:])) }
	header, channels, samples, parameters := u32(4), u32(8), u32(12), u32(24)
	rate := binary.LittleEndian.Uint64(b[16:])
	if u32(0) != Version || u32(28) != 0 {
		return Input{}, fmt.Errorf("input says version %d and reserved %d, want %d and 0: %w", u32(0), u32(28), Version, ErrMalformed)
	}
	if err := checkShape(channels, samples, parameters, rate); err != nil {
		return Input{}, err
	}
	if header != fixedHeaderBytes+8*parameters {
		return Input{}, fmt.Errorf("input says header of %d bytes with %d parameters: %w", header, parameters, ErrMalformed)
	}
	if want := header + 2*channels*samples; uint64(len(b)) != want {
		return Input{}, fmt.Errorf("input has %d bytes, its header promises %d: %w", len(b), want, ErrMalformed)
	}
	in := Input{
		SampleRateMillihertz: rate,
		Parameters:           make([]int64, parameters),
		Samples:              make([][]int16, channels),
	}
	for i := range in.Parameters {
		in.Parameters[i] = int64(binary.LittleEndian.Uint64(b[fixedHeaderBytes+8*i:]))
	}
	at := int(header)
	for c := range in.Samples {
		in.Samples[c] = make([]int16, samples)
		for i := range in.Samples[c] {
			in.Samples[c][i] = int16(binary.LittleEndian.Uint16(b[at:]))
			at += 2
		}
	}
	return in, nil
}

func checkShape(channels, samples, parameters, rate uint64) error {
	switch {
	case channels < 2 || channels > maxChannels:
		return fmt.Errorf("input has %d channels, want 2 to %d: %w", channels, maxChannels, ErrMalformed)
	case samples < 1 || samples > maxSampleBytes/2/channels:
		return fmt.Errorf("input has %d samples in each of %d channels, want 1 sample to %d bytes: %w", samples, channels, maxSampleBytes, ErrMalformed)
	case parameters > maxParameters:
		return fmt.Errorf("input has %d parameters, at most %d: %w", parameters, maxParameters, ErrMalformed)
	case rate == 0:
		return fmt.Errorf("input has sample rate 0 mHz: %w", ErrMalformed)
	}
	return nil
}

// Output is a result: a code, and values in the order of the approved schema.
type Output struct {
	// Code is CodeValid, a refusal of the schema, or CodeExecutionFailed.
	Code uint32
	// Values have the units and scales of the schema; after a refusal they are
	// diagnostics, 0 where undetermined.
	Values []int64
}

// ExecutionFailed is the result that the sandbox writes when a module trapped,
// ran out of fuel or answered with a malformed output.
func ExecutionFailed() Output { return Output{Code: CodeExecutionFailed} }

// EncodeOutput returns the result bytes of out; the error wraps ErrMalformed.
func EncodeOutput(out Output) ([]byte, error) {
	if err := checkOutput(out.Code, uint64(len(out.Values))); err != nil {
		return nil, err
	}
	b := make([]byte, 0, OutputSize(len(out.Values)))
	b = binary.LittleEndian.AppendUint32(b, out.Code)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(out.Values)))
	for _, v := range out.Values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b, nil
}

// DecodeOutput is the inverse of EncodeOutput; the error wraps ErrMalformed. It
// accepts EXECUTION_FAILED, which a module must not write itself: the sandbox
// checks that with the code above MaxRefusalCode.
func DecodeOutput(b []byte) (Output, error) {
	if len(b) < outputHeaderBytes {
		return Output{}, fmt.Errorf("output has %d bytes, its header alone %d: %w", len(b), outputHeaderBytes, ErrMalformed)
	}
	code, count := binary.LittleEndian.Uint32(b), uint64(binary.LittleEndian.Uint32(b[4:]))
	if err := checkOutput(code, count); err != nil {
		return Output{}, err
	}
	if want := outputHeaderBytes + 8*count; uint64(len(b)) != want {
		return Output{}, fmt.Errorf("output has %d bytes, its header promises %d: %w", len(b), want, ErrMalformed)
	}
	out := Output{Code: code, Values: make([]int64, count)}
	for i := range out.Values {
		out.Values[i] = int64(binary.LittleEndian.Uint64(b[outputHeaderBytes+8*i:]))
	}
	return out, nil
}

func checkOutput(code uint32, values uint64) error {
	switch {
	case code > CodeExecutionFailed:
		return fmt.Errorf("output has code %d, the largest is %d: %w", code, CodeExecutionFailed, ErrMalformed)
	case code == CodeExecutionFailed && values != 0:
		return fmt.Errorf("output EXECUTION_FAILED has %d values, want none: %w", values, ErrMalformed)
	case values > maxValues:
		return fmt.Errorf("output has %d values, at most %d: %w", values, maxValues, ErrMalformed)
	}
	return nil
}

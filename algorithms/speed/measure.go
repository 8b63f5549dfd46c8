// Package speed is the legally relevant software of a speed meter with N >= 2
// channels: the module in C (c/speed.c, compiled to speed.wasm) and its twin in
// Go, written for reading. Both give the same bytes for every input.
//
// Source: docs/metrology.md, "The signal and the algorithm" (quiet lead-in,
// hysteresis threshold relative to each channel's own peak, interpolated edges,
// correlation with a sub-sample peak, fusion or refusal); combination of
// uncertainties after JCGM 100:2008 (GUM), 5.1.2 and 6.2.1. The search for
// crosstalk is derived in crosstalk.go.
//
// Invariants:
//   - Integers only, rounding toward zero, no overflow for any input: the result
//     is bit-identical everywhere. Times are in samples, Q16 (1/65536 sample);
//     levels are in counts, Q8, above the channel's own baseline.
//   - The front gives a speed, the rear gives one, and the shape gives one. They
//     become one value only if front and rear agree within the maximum permissible
//     error (3 km/h, 3 % above 100 km/h) and 8 %, if their mean agrees with the
//     shape to 1.5 % and a tenth of a sample, and if at most 1 % of crosstalk is
//     found between neighbours; otherwise the module refuses. It rather refuses a
//     right value than states a wrong one.
//   - Every output has all values; after a refusal those not determined are 0.
//   - Anything malformed is the code MALFORMED_INPUT, never a panic.
//
// A recording begins and ends in quiet for at least a sixteenth of its length;
// a vehicle gives a positive signal.
//
// Known hole: what shifts front, rear and shape alike does not show in the
// signals: a wrong registered spacing or sample rate, another vehicle's weak
// signal merged with the first, a coupling between channels that is not a share of
// the neighbour's signal. Verification of the installed instrument and the picture
// of the pass have to close it.
package speed

import "encoding/binary"

// Sizes in bytes, samples and channels.
const (
	headerBytes   = 32 + 8*ParameterCount
	outputBytes   = 8 + 8*ValueCount
	capacityBytes = headerBytes + 512*1024
	maxChannels   = 16
	minSamples    = 64
)

// channel is what the passes over one channel's samples find.
type channel struct {
	samples   []byte // 16-bit little endian
	base      int64  // baseline, Q8 counts
	drift     int64  // of the baseline from lead-in to lead-out, Q8 counts, or 0
	noise     int64  // standard deviation of the lead-in, Q8 counts, at least that of rounding
	peak      int64  // Q8 counts above base
	quiet     int64  // level that only a vehicle exceeds, Q8 counts above base
	low, high int64  // smallest and largest sample, counts
	on, off   int64  // raw crossings, sample index
	first     int64  // first and last sample that is not quiet, index
	last      int64
	pulses    int64 // how often the rising threshold was crossed
	flat      int64 // longest run at the very top, samples
	rise      edge  // at the rising threshold
	fall      edge  // at the falling threshold
}

// edge is where a moving mean crosses a level.
type edge struct {
	at       int64 // Q16 samples, or -1: nowhere
	variance int64 // of at, from noise, (samples/4096)^2
}

func (c *channel) at(i int64) int64 {
	return int64(int16(binary.LittleEndian.Uint16(c.samples[2*i:])))
}

// Measure is the module's measure(): exact input bytes (package abi) to result
// bytes. It neither keeps nor changes input.
func Measure(input []byte) []byte {
	m := measurement{length: int64(len(input))}
	code := m.run(input)
	out := make([]byte, outputBytes)
	binary.LittleEndian.PutUint32(out, code)
	binary.LittleEndian.PutUint32(out[4:], ValueCount)
	for i, v := range m.value {
		binary.LittleEndian.PutUint64(out[8+8*i:], uint64(v))
	}
	return out
}

// measurement is the state of one call.
type measurement struct {
	length    int64 // of the input, bytes
	n         int64 // samples in each channel
	channels  int64
	rate      int64 // sample rate, mHz
	half      int64 // the moving mean is over 2*half+1 samples
	parameter [ParameterCount]int64
	channel   [maxChannels]channel
	unlike    bool // a channel is weaker than 5/8 of the strongest
	// unlikeness is 1 less the correlation coefficient at its peak, ppm.
	unlikeness int64
	// tilt is by how much the channels' gains differ more at the vehicle's front
	// than at its rear, permille.
	tilt  int64
	value [ValueCount]int64
}

func (m *measurement) run(input []byte) uint32 {
	if !m.parse(input) {
		return MalformedInput
	}
	if code := m.survey(); code != Valid {
		return code
	}
	if code := m.edges(); code != Valid {
		return code
	}
	return m.fuse()
}

// parse reads and checks the header. The bounds keep all later arithmetic
// within 64 bits.
func (m *measurement) parse(input []byte) bool {
	if len(input) < headerBytes || len(input) > capacityBytes {
		return false
	}
	word := func(at int) int64 { return int64(binary.LittleEndian.Uint32(input[at:])) }
	m.channels, m.n = word(8), word(12)
	m.rate = int64(binary.LittleEndian.Uint64(input[16:]))
	if word(0) != 1 || word(4) != headerBytes || word(24) != ParameterCount || word(28) != 0 ||
		m.channels < 2 || m.channels > maxChannels || m.n < minSamples ||
		m.length != headerBytes+2*m.channels*m.n {
		return false
	}
	for i := range m.parameter {
		m.parameter[i] = int64(binary.LittleEndian.Uint64(input[32+8*i:]))
	}
	for c := range m.channels {
		m.channel[c].samples = input[headerBytes+2*c*m.n : headerBytes+2*(c+1)*m.n]
	}
	p := &m.parameter
	within := func(x, low, high int64) bool { return x >= low && x <= high }
	return within(m.rate, 50_000, 100_000_000) &&
		within(p[ParameterSpacingMicrometres], 100_000, 20_000_000) &&
		within(p[ParameterSpacingUncertaintyMicrometres], 0, p[ParameterSpacingMicrometres]/10) &&
		within(p[ParameterLoopLengthMicrometres], 100_000, 20_000_000) &&
		within(p[ParameterRisePermille], 100, 900) &&
		within(p[ParameterFallPermille], 100, p[ParameterRisePermille]) &&
		within(p[ParameterMinSignalToNoise], 1000, 1_000_000) &&
		within(p[ParameterMinSpeed], 100, 200_000) &&
		within(p[ParameterMaxSpeed], p[ParameterMinSpeed], 200_000)
}

package speed

import (
	"bytes"
	_ "embed"
)

// wasm is the committed build of c/speed.c; c/verify.sh rebuilds and compares it.
//
//go:embed speed.wasm
var wasm []byte

// Module returns a copy of the approved artefact: WebAssembly of profile
// lacre/1. Its SHA-256 is what a type approval names.
func Module() []byte { return bytes.Clone(wasm) }

// Name and ModuleVersion stand in the custom section `lacre.module`.
const (
	Name          = "speed"
	ModuleVersion = "1.2.0"
)

// Field is a parameter or a value of a schema: a whole number of Unit times ten
// to the power of Scale.
type Field struct {
	Name        string
	Unit        string
	Scale       int
	Description string
}

// Refusal is a code with which the module refuses to state a value.
type Refusal struct {
	Code        uint32
	Name        string
	Description string
}

// Definition is what an approval says of the module's inputs and outputs.
type Definition struct {
	Name       string
	Version    string
	Parameters []Field
	Values     []Field
	Refusals   []Refusal
}

// Indices of the parameters, in the order of Schema().Parameters.
const (
	ParameterSpacingMicrometres = iota
	ParameterSpacingUncertaintyMicrometres
	ParameterLoopLengthMicrometres
	ParameterRisePermille
	ParameterFallPermille
	ParameterMinSignalToNoise
	ParameterMinSpeed
	ParameterMaxSpeed
	ParameterCount
)

// Indices of the values, in the order of Schema().Values.
const (
	ValueSpeed = iota
	ValueSpeedUncertainty
	ValueSpeedLeading
	ValueSpeedTrailing
	ValueSpeedCorrelation
	ValueOnTimeFirst
	ValueOnTimeLast
	ValueLength
	ValueLengthUncertainty
	ValueDirection
	ValueSignalToNoise
	ValueCorrelation
	ValuePeakFirst
	ValuePeakLast
	ValueCount
)

// Result codes of the module; 0 is a measured value.
const (
	Valid uint32 = iota
	MalformedInput
	Saturation
	Clipping
	MissingEdge
	TwoVehicles
	LaneChange
	Reversal
	LowSNR
	DeadChannel
	OutOfRange
	SpeedsDisagree
	NoVehicle
)

// Schema returns the module's parameters, values and refusals; the caller owns
// the result.
func Schema() Definition {
	return Definition{
		Name:    Name,
		Version: ModuleVersion,
		Parameters: []Field{
			{"channel_spacing", "um", 0, "leading edge to leading edge of adjacent channels, 100 mm to 20 m"},
			{"channel_spacing_expanded_uncertainty", "um", 0, "k = 2, at most a tenth of the spacing"},
			{"effective_loop_length", "um", 0, "subtracted from the distance covered during the on-time, 100 mm to 20 m"},
			{"threshold_rise", "permille", 0, "of each channel's own peak, 100 to 900"},
			{"threshold_fall", "permille", 0, "of each channel's own peak, 100 to threshold_rise"},
			{"min_signal_to_noise", "1", -2, "peak over standard deviation of the lead-in, 10 to 10000"},
			{"min_speed", "mm/s", 0, "slower is refused, at least 100"},
			{"max_speed", "mm/s", 0, "faster is refused, at most 200000"},
		},
		Values: []Field{
			{"speed", "km/h", -3, "the measured value"},
			{"speed_expanded_uncertainty", "km/h", -3, "k = 2"},
			{"speed_leading", "km/h", -3, "from the leading edges alone"},
			{"speed_trailing", "km/h", -3, "from the trailing edges alone"},
			{"speed_correlation", "km/h", -3, "from the cross-correlation of the first and the last channel"},
			{"on_time_first", "us", 0, "leading to trailing edge on the first channel"},
			{"on_time_last", "us", 0, "leading to trailing edge on the last channel"},
			{"length", "mm", 0, "of the vehicle, magnetic"},
			{"length_expanded_uncertainty", "mm", 0, "k = 2"},
			{"direction", "1", 0, "+1 from the first to the last channel, -1 the other way"},
			{"signal_to_noise", "1", -2, "the worst channel's peak over its lead-in's standard deviation"},
			{"correlation", "1", -3, "coefficient at the best lag"},
			{"peak_first", "count", 0, "of the first channel, above its baseline"},
			{"peak_last", "count", 0, "of the last channel, above its baseline"},
		},
		Refusals: []Refusal{
			{MalformedInput, "MALFORMED_INPUT", "header, sizes or parameters are not what the schema says"},
			{Saturation, "SATURATION", "a sample lies at the end of the converter's range"},
			{Clipping, "CLIPPING", "a channel's top is flat: the amplifier limits"},
			{MissingEdge, "MISSING_EDGE", "a channel does not begin and end in quiet"},
			{TwoVehicles, "TWO_VEHICLES", "more than one vehicle in the recording"},
			{LaneChange, "LANE_CHANGE", "channels saw the vehicle with unlike strength or shape"},
			{Reversal, "REVERSAL", "front and rear crossed in opposite directions"},
			{LowSNR, "LOW_SNR", "signal too weak for the noise"},
			{DeadChannel, "DEAD_CHANNEL", "one channel saw the vehicle, another did not"},
			{OutOfRange, "OUT_OF_RANGE", "speed outside the registered range"},
			{SpeedsDisagree, "SPEEDS_DISAGREE", "leading, trailing and correlation speeds differ too much"},
			{NoVehicle, "NO_VEHICLE", "no channel saw a vehicle"},
		},
	}
}

// DefaultParameters returns LR parameters, in schema order, for loops of 2 m at
// the given spacing (mm): its expanded uncertainty 6 mm, thresholds 25 % and
// 15 %, at which such a loop is effectively 1.25 m long, a signal to noise ratio
// of 40, speeds from 5 to 300 km/h.
func DefaultParameters(spacingMillimetres int64) []int64 {
	p := make([]int64, ParameterCount)
	p[ParameterSpacingMicrometres] = spacingMillimetres * 1000
	p[ParameterSpacingUncertaintyMicrometres] = 6000
	p[ParameterLoopLengthMicrometres] = 1250000
	p[ParameterRisePermille] = 250
	p[ParameterFallPermille] = 150
	p[ParameterMinSignalToNoise] = 4000
	p[ParameterMinSpeed] = 1389
	p[ParameterMaxSpeed] = 83333
	return p
}

package claim

import (
	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/vector"
)

// Input builds the exact input bytes of the module for a sample: its decoded
// raw vector under the meter's parameters in force at the capture, never under
// what the sample says. Endorsers, receipts and auditors all call this one.
// Errors are *reason.Error: DigestMismatch, WrongChannelCount, WrongSampleRate
// or Malformed.
func Input(p *Parameters, s *sample.Sample, rawVector []byte) ([]byte, error) {
	if got := sample.DigestRaw(rawVector); got != s.RawDigest {
		return nil, reason.New(reason.DigestMismatch, "raw vector has digest %s, the header names %s", got.Short(), s.RawDigest.Short())
	}
	if s.Channels != p.Channels {
		return nil, reason.New(reason.WrongChannelCount, "sample has %d channels, meter %s is registered with %d", s.Channels, s.MeterID, p.Channels)
	}
	if s.SampleRateMillihertz != p.SampleRateMillihertz {
		return nil, reason.New(reason.WrongSampleRate, "sample has %d mHz, meter %s is registered with %d mHz", s.SampleRateMillihertz, s.MeterID, p.SampleRateMillihertz)
	}
	channels, err := vector.Decode(s.Encoding, s.Channels, s.SamplesPerChannel, rawVector)
	if err != nil {
		return nil, err
	}
	input, err := abi.EncodeInput(abi.Input{
		SampleRateMillihertz: p.SampleRateMillihertz,
		Parameters:           p.Values,
		Samples:              channels,
	})
	if err != nil {
		return nil, reason.New(reason.Malformed, "%v", err)
	}
	return input, nil
}

// InputDigest is the digest of the exact input bytes, as a claim names it.
func InputDigest(input []byte) digest.Digest { return digest.Of(digest.ClaimInput, input) }

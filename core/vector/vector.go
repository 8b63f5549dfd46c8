// Package vector reads and writes raw vectors: the samples of one capture, as
// the bytes whose digest a sample header names.
//
// Source: architecture, "Storage" and "Speed" (a smooth 16-bit signal needs
// about a third). The compact form uses fixed polynomial predictors and Rice
// codes as lossless audio coders do (RFC 9639, sections 9.2.5 and 9.2.7, is the
// public description of the ideas); the format is our own.
//
// A vector has C channels (1 to 16) of N samples each (1 to 131,072), all
// signed 16-bit. C and N are not in the bytes: they come from the header.
//
// # ENCODING_INT16
//
// Channel after channel, each sample as two bytes, little-endian, two's
// complement: exactly 2*C*N bytes.
//
// # ENCODING_RICE
//
// One string of bits, the most significant bit of a byte first. Channels follow
// one another without alignment; after the last one, zero bits fill the last
// byte. Nothing follows. A channel is:
//
//	16 bits   x[0], two's complement
//	blocks    of the residuals of x[1] .. x[N-1], 64 in each but the last,
//	          which has what is left; none when N is 1
//
// A block is:
//
//	2 bits    order p of the predictor, 0 to 3
//	4 bits    k, 0 to 14: each residual follows as a Rice code with parameter k;
//	          15: each sample follows itself, 16 bits, two's complement; p is 0
//
// The predictors carry over from block to block. Let v be the sample before, d
// the difference v minus the one before it, and e the difference d minus the d
// before it; at x[1] v is x[0], and d and e are 0. (So the signal is taken to
// have been constant before the first sample.) Then
//
//	prediction = 0, v, v+d or v+d+e    for p = 0, 1, 2 or 3
//	residual r = x - prediction
//	u          = 2r for r >= 0, -2r-1 for r < 0    (always below 2^19)
//
// The Rice code of u with q = u >> k is, for q < 24, q zero bits, a one bit and
// the k low bits of u; for larger q the escape: 24 zero bits and u in 19 bits.
//
// Invariants:
//   - Decode(enc, C, N, Encode(enc, x)) is x.
//   - Decode is strict: no trailing byte, no set padding bit, no escape where
//     a short code does, no sample outside 16 bits. It allocates 2*C*N bytes,
//     and only after it has seen that b is long enough to hold them.
//   - A vector may have several encodings (orders and parameters are the
//     encoder's choice). Nobody re-encodes: the digest covers the bytes.
package vector

import (
	"encoding/binary"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Encode writes samples, one slice for each channel, all of one length. Errors
// are *reason.Error: Malformed for a shape that no header can have, TooLarge
// when the result exceeds record.MaxRawVectorBytes.
func Encode(enc recordv1.Encoding, samples [][]int16) ([]byte, error) {
	n := 0
	if len(samples) > 0 {
		n = len(samples[0])
	}
	if err := checkShape(uint64(len(samples)), uint64(n)); err != nil {
		return nil, err
	}
	for i, channel := range samples {
		if len(channel) != n {
			return nil, reason.New(reason.Malformed, "channel %d has %d samples, channel 0 has %d", i, len(channel), n)
		}
	}
	var b []byte
	switch enc {
	case recordv1.Encoding_ENCODING_INT16:
		b = encodeInt16(samples, n)
	case recordv1.Encoding_ENCODING_RICE:
		b = encodeRice(samples, n)
	default:
		return nil, unknownEncoding(enc)
	}
	if len(b) > record.MaxRawVectorBytes {
		return nil, reason.New(reason.TooLarge, "raw vector has %d bytes, the limit is %d", len(b), record.MaxRawVectorBytes)
	}
	return b, nil
}

// Decode reads a vector of the header's shape: channels slices of
// samplesPerChannel samples. The slices share one array. Errors are
// *reason.Error: TooLarge above record.MaxRawVectorBytes, NotCanonical for a
// vector that is written in a forbidden way, Malformed for everything else.
func Decode(enc recordv1.Encoding, channels, samplesPerChannel uint32, b []byte) ([][]int16, error) {
	if len(b) > record.MaxRawVectorBytes {
		return nil, reason.New(reason.TooLarge, "raw vector has %d bytes, the limit is %d", len(b), record.MaxRawVectorBytes)
	}
	if err := checkShape(uint64(channels), uint64(samplesPerChannel)); err != nil {
		return nil, err
	}
	switch enc {
	case recordv1.Encoding_ENCODING_INT16:
		return decodeInt16(int(channels), int(samplesPerChannel), b)
	case recordv1.Encoding_ENCODING_RICE:
		return decodeRice(int(channels), int(samplesPerChannel), b)
	}
	return nil, unknownEncoding(enc)
}

func unknownEncoding(enc recordv1.Encoding) error {
	return reason.New(reason.Malformed, "encoding %d is not known", enc)
}

// checkShape leaves the lower bound on channels to the header: a codec has no
// opinion on how many a meter needs.
func checkShape(channels, samplesPerChannel uint64) error {
	if channels == 0 || channels > sample.MaxChannels {
		return reason.New(reason.Malformed, "%d channels, want 1 to %d", channels, sample.MaxChannels)
	}
	if samplesPerChannel == 0 || samplesPerChannel > sample.MaxSamplesPerChannel {
		return reason.New(reason.Malformed, "%d samples per channel, want 1 to %d", samplesPerChannel, sample.MaxSamplesPerChannel)
	}
	return nil
}

// newSamples is the shape of a decoded vector over one array.
func newSamples(channels, n int) [][]int16 {
	all := make([]int16, channels*n)
	samples := make([][]int16, channels)
	for i := range samples {
		samples[i] = all[i*n : (i+1)*n : (i+1)*n]
	}
	return samples
}

func encodeInt16(samples [][]int16, n int) []byte {
	b := make([]byte, 0, 2*len(samples)*n)
	for _, channel := range samples {
		for _, x := range channel {
			b = binary.LittleEndian.AppendUint16(b, uint16(x))
		}
	}
	return b
}

func decodeInt16(channels, n int, b []byte) ([][]int16, error) {
	if want := 2 * channels * n; len(b) != want {
		return nil, reason.New(reason.Malformed, "raw vector has %d bytes, %d channels of %d samples have %d", len(b), channels, n, want)
	}
	samples := newSamples(channels, n)
	for _, channel := range samples {
		for i := range channel {
			channel[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
		}
		b = b[2*n:]
	}
	return samples, nil
}

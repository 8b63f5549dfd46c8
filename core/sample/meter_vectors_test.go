package sample_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// piece is a piece of evidence.
type piece struct {
	Digest    string `json:"digest"`
	Size      uint64 `json:"size"`
	MediaType string `json:"media_type"`
}

// meterVectors is testdata/meter.json: what firmware is given, and the exact
// bytes that it makes of it. All byte strings are in hexadecimal.
type meterVectors struct {
	NetworkID            string        `json:"network_id"`
	MeterID              string        `json:"meter_id"`
	FirstCounter         uint64        `json:"first_counter"`
	Channels             uint32        `json:"channels"`
	SampleRateMillihertz uint64        `json:"sample_rate_millihertz"`
	Seed                 string        `json:"seed"`       // of the Ed25519 key (RFC 8032)
	PublicKey            string        `json:"public_key"` // tagged
	Samples              []meterSample `json:"samples"`    // one chain
}

type meterSample struct {
	Name string `json:"name"`

	CapturedAtUnixNano int64   `json:"captured_at_unix_nano"` // given, as all up to Values
	ClockSync          int32   `json:"clock_sync"`
	KnownHeight        uint64  `json:"known_height"`
	KnownBlock         string  `json:"known_block"`
	Encoding           int32   `json:"encoding"`
	Evidence           []piece `json:"evidence"`
	StatusFlags        uint32  `json:"status_flags"`
	Values             string  `json:"values"` // [channel][sample], as JSON

	RawVector string `json:"raw_vector"` // made, as all below
	RawDigest string `json:"raw_digest"`
	Counter   uint64 `json:"counter"`
	Previous  string `json:"previous"`
	Header    string `json:"header"`
	Signed    string `json:"signed"` // the PAE
	Digest    string `json:"digest"`
	Signature string `json:"signature"`
}

// pulse is a smooth bump of n samples in two channels, in whole numbers.
func pulse(n, height int) [][]int16 {
	channels := make([][]int16, 2)
	for c := range channels {
		for i := range n {
			d := i - n/2 - 5*c
			channels[c] = append(channels[c], int16(height*max(0, n*n/9-d*d)/(n*n/9)-3*(i%4)))
		}
	}
	return channels
}

// A meter's whole chain, byte for byte: firmware makes the same from
// docs/formats.md alone.
func TestMeterVectors(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(seed)
	public, err := signature.KeyOf(signature.Ed25519ZIP215, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	network := digest.Of(digest.Statement, []byte("a genesis configuration"))
	v := meterVectors{
		NetworkID: network.String(), MeterID: "m-1.example", FirstCounter: 41, Channels: 2, SampleRateMillihertz: 2_000_000,
		Seed: hex.EncodeToString(seed), PublicKey: hex.EncodeToString(public.Bytes()),
	}
	counter, previous := v.FirstCounter, digest.Zero
	for i, c := range []struct {
		name     string
		values   [][]int16
		encoding recordv1.Encoding
		change   func(h *sample.Header)
	}{
		{"the first: no previous, no height, int16", [][]int16{{1, -2, 300}, {-32768, 32767, 0}}, recordv1.Encoding_ENCODING_INT16,
			func(h *sample.Header) { h.KnownHeight = 0 }},
		{"a pulse, Rice", pulse(300, 9000), recordv1.Encoding_ENCODING_RICE, func(*sample.Header) {}},
		{"holdover, evidence, status flags", pulse(64, 500), recordv1.Encoding_ENCODING_RICE, func(h *sample.Header) {
			h.ClockSync, h.StatusFlags = recordv1.ClockSync_CLOCK_SYNC_HOLDOVER, 0x8001
			h.Evidence = []sample.Evidence{
				{Digest: digest.Of(digest.Evidence, []byte("plate")), Size: 5, MediaType: "image/jpeg"},
				{Digest: digest.Of(digest.Evidence, []byte("scene")), Size: 70_000, MediaType: "image/png"},
			}
		}},
		{"noise: verbatim blocks and escapes", noise(130), recordv1.Encoding_ENCODING_RICE,
			func(h *sample.Header) { h.ClockSync = recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED }},
		{"one sample in each channel", [][]int16{{-1}, {1}}, recordv1.Encoding_ENCODING_RICE, func(*sample.Header) {}},
	} {
		raw, err := vector.Encode(c.encoding, c.values)
		if err != nil {
			t.Fatal(err)
		}
		h := &sample.Header{
			NetworkID: network, MeterID: v.MeterID, Counter: counter, Previous: previous,
			CapturedAtUnixNano: 1_767_225_600_000_000_000 + int64(i)*1_234_567_890, ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED,
			KnownHeight: 128 + uint64(i)*100_000, KnownBlock: digest.Of(digest.BlockHeader, []byte(c.name)),
			Channels: 2, SamplesPerChannel: uint32(len(c.values[0])), SampleRateMillihertz: v.SampleRateMillihertz,
			Encoding: c.encoding, RawDigest: sample.DigestRaw(raw),
		}
		c.change(h)
		s, sig, err := sample.Sign(key, h)
		if err != nil {
			t.Fatal(err)
		}
		if !signature.Verify(public.Kind(), public, s.Signed(), sig) {
			t.Errorf("%s: the signature does not verify", c.name)
		}
		values, err := json.Marshal(c.values)
		if err != nil {
			t.Fatal(err)
		}
		out := meterSample{
			Name: c.name, CapturedAtUnixNano: h.CapturedAtUnixNano, ClockSync: int32(h.ClockSync), KnownHeight: h.KnownHeight,
			KnownBlock: h.KnownBlock.String(), Encoding: int32(h.Encoding), Evidence: []piece{}, StatusFlags: h.StatusFlags, Values: string(values),
			RawVector: hex.EncodeToString(raw), RawDigest: h.RawDigest.String(), Counter: h.Counter,
			Header: hex.EncodeToString(s.Bytes), Signed: hex.EncodeToString(s.Signed()), Digest: s.Digest.String(), Signature: hex.EncodeToString(sig),
		}
		if !previous.IsZero() {
			out.Previous = previous.String()
		}
		for _, e := range h.Evidence {
			out.Evidence = append(out.Evidence, piece{e.Digest.String(), e.Size, e.MediaType})
		}
		v.Samples = append(v.Samples, out)
		counter, previous = counter+1, s.Digest
	}
	golden.JSON(t, "meter.json", v)
}

// noise is a quiet channel with rare spikes (escapes), and one of full-scale
// noise (verbatim blocks).
func noise(n int) [][]int16 {
	channels := [][]int16{make([]int16, n), make([]int16, n)}
	state := uint32(1)
	for i := range n {
		if i%61 == 40 {
			channels[0][i] = 20_000
		}
		state = state*1_664_525 + 1_013_904_223 // Numerical Recipes' generator
		channels[1][i] = int16(state >> 16)
	}
	return channels
}

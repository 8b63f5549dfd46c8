// Package conformance judges samples that somebody else's firmware made: are
// they what a meter of this system signs, byte for byte?
//
// Source: docs/formats.md, sections "Keys and signatures", "Canonical protobuf",
// "Samples" and "Raw vectors"; rules S2, S3, B1 and B3; WELMEC 7.2 T1 to T4 as
// metrology.md words them (secondary source).
//
// Invariants:
//   - Every check is made by the code that compute and ledger use (packages
//     sample, vector, signature and digest of core); here is only what to
//     compare with what.
//   - Every check has a name and one of three verdicts. One that lacks what it
//     needs is "not checked", never "ok".
//   - A detail shows both sides.
//
// A submission is the JSON of core/testdata/meter.json: what the firmware was
// given and what it made of it. What was given may be left out; then only that
// is not compared.
package conformance

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"github.com/lacre-metrology/lacre/core/sample"
	"io"

	"github.com/lacre-metrology/lacre/core"
)

// MaxSubmissionBytes bounds a submission: a chain of some dozen large samples.
const MaxSubmissionBytes = 64 << 20

// MaxSamples bounds its samples: an empty one is three bytes of text, and its
// report is kilobytes.
const MaxSamples = 4096

// Hex is bytes as hexadecimal text.
type Hex []byte

// UnmarshalJSON reads hexadecimal text, lower case.
func (h *Hex) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return fmt.Errorf("%.40q is not hexadecimal: %w", text, err)
	}
	if hex.EncodeToString(raw) != text {
		return fmt.Errorf("%.40q is not lower case", text)
	}
	*h = raw
	return nil
}

// MarshalJSON writes lower-case hexadecimal text.
func (h Hex) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(h)) }

// Submission is one meter's chain of samples from its first counter.
type Submission struct {
	NetworkID            Hex     `json:"network_id"`
	MeterID              string  `json:"meter_id"`
	FirstCounter         uint64  `json:"first_counter"`
	Channels             uint32  `json:"channels"`
	SampleRateMillihertz uint64  `json:"sample_rate_millihertz"`
	Seed                 Hex     `json:"seed,omitempty"` // of the Ed25519 key; only for vectors
	PublicKey            Hex     `json:"public_key"`     // tagged
	Samples              Samples `json:"samples"`
}

// Samples are in the order of their counters, at most MaxSamples.
type Samples []Sample

// UnmarshalJSON reads samples one after the other, up to the bound.
func (s *Samples) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // the outer decoder does not hand this on
	*s = nil
	open, err := d.Token()
	if err != nil || open == nil {
		return err
	}
	if open != json.Delim('[') {
		return fmt.Errorf("samples: %.20q, want a list", b)
	}
	for d.More() {
		if len(*s) == MaxSamples {
			return fmt.Errorf("samples: more than %d", MaxSamples)
		}
		var one Sample
		if err := d.Decode(&one); err != nil {
			return fmt.Errorf("sample %d: %w", len(*s)+1, err)
		}
		*s = append(*s, one)
	}
	return nil
}

// Sample is one sample: what was given (a nil pointer or empty text is "not
// told"), and what was made. Header, Signature and RawVector are what a meter
// sends; the rest of what was made helps to find where a difference begins.
type Sample struct {
	Name string `json:"name,omitempty"`

	CapturedAtUnixNano *int64   `json:"captured_at_unix_nano,omitempty"`
	ClockSync          *int32   `json:"clock_sync,omitempty"`
	KnownHeight        *uint64  `json:"known_height,omitempty"`
	KnownBlock         *Hex     `json:"known_block,omitempty"`
	Encoding           *int32   `json:"encoding,omitempty"`
	Evidence           *[]Piece `json:"evidence,omitempty"`
	StatusFlags        *uint32  `json:"status_flags,omitempty"`
	Values             string   `json:"values,omitempty"` // [channel][sample], as JSON

	RawVector Hex     `json:"raw_vector,omitempty"`
	RawDigest Hex     `json:"raw_digest,omitempty"`
	Counter   *uint64 `json:"counter,omitempty"`
	Previous  *Hex    `json:"previous,omitempty"`
	Header    Hex     `json:"header"`
	Signed    Hex     `json:"signed,omitempty"`
	Digest    Hex     `json:"digest,omitempty"`
	Signature Hex     `json:"signature"`
}

// Piece is a piece of evidence.
type Piece struct {
	Digest    Hex    `json:"digest"` // of the encrypted bytes
	Size      uint64 `json:"size"`
	MediaType string `json:"media_type"`
}

func (p *Piece) evidence() sample.Evidence {
	return sample.Evidence{Digest: digestOf(&p.Digest), Size: p.Size, MediaType: p.MediaType}
}

// Read reads a submission from a file, and no more of it than is allowed.
func Read(r io.Reader) (*Submission, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSubmissionBytes+1))
	if err != nil {
		return nil, err
	}
	return Parse(b)
}

// Parse reads a submission. A field that the form does not have is an error: it
// is more likely a misspelt one than one to be ignored.
func Parse(b []byte) (*Submission, error) {
	if len(b) > MaxSubmissionBytes {
		return nil, fmt.Errorf("more than %d bytes", MaxSubmissionBytes)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	s := new(Submission)
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("not in the form of core/testdata/meter.json: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not in the form of core/testdata/meter.json: something follows the object")
	}
	return s, nil
}

// Vectors is the chain that everybody can compute: the inputs with the bytes
// that they give.
func Vectors() *Submission {
	s, err := Parse(core.MeterVectors())
	if err != nil {
		panic("conformance: the built-in vectors: " + err.Error()) // a test reads them
	}
	return s
}

// Challenge is the vectors without what firmware is to make of them, to be
// filled in. The seed stays: an Ed25519 meter that uses it gives equal
// signatures. A meter whose key cannot be set, or a P-256 one, puts its own
// public key in.
func Challenge() ([]byte, error) {
	s := Vectors()
	for i := range s.Samples {
		given := &s.Samples[i]
		given.RawVector, given.RawDigest, given.Counter, given.Previous = nil, nil, nil, nil
		given.Header, given.Signed, given.Digest, given.Signature = Hex{}, nil, nil, Hex{}
	}
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// Package sample is what a meter signs: the header of one capture.
//
// Source: architecture, "Sample header"; rules S2, S3 and B3; WELMEC 7.2 T1 to
// T4 as metrology.md words them (secondary source).
//
// Invariants:
//   - The signature covers PAE(PayloadType, header bytes), and the sample's
//     identity is the digest of that PAE: two signatures of one header are one
//     sample.
//   - Previous is zero only in the first sample of a meter, so the samples of a
//     meter form one chain.
package sample

import (
	"crypto"
	"crypto/ecdsa"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// PayloadType is the media type under which a header is signed.
const PayloadType = "application/vnd.lacre.sample-header.v1+protobuf"

// The bounds of a header.
const (
	MaxHeaderBytes       = 2048
	MaxChannels          = 16
	MaxSamplesPerChannel = 128 << 10
	MaxEvidence          = 8
	MaxEvidenceBytes     = 64 << 20 // encrypted
	MaxMediaType         = 64       // bytes
)

// Header is a sample header; see lacre.record.v1.SampleHeader for each field.
type Header struct {
	NetworkID            digest.Digest
	MeterID              string
	Counter              uint64        // from the registration's first counter, no gaps
	Previous             digest.Digest // sample digest of Counter-1; zero in the meter's first sample
	CapturedAtUnixNano   int64
	ClockSync            recordv1.ClockSync
	KnownHeight          uint64        // newest certified block that the meter knows
	KnownBlock           digest.Digest // digest of its header record
	Channels             uint32
	SamplesPerChannel    uint32
	SampleRateMillihertz uint64
	Encoding             recordv1.Encoding
	RawDigest            digest.Digest // of the encoded raw vector
	Evidence             []Evidence    // kept outside the ledger
	StatusFlags          uint32
}

// Evidence names an object kept outside the ledger, such as a plate image,
// encrypted to an authority.
type Evidence struct {
	Digest    digest.Digest // of the encrypted bytes, kind digest.Evidence
	Size      uint64        // encrypted bytes, 1 to MaxEvidenceBytes
	MediaType string        // of the content, such as "image/jpeg"
}

// Sample is a header with its exact bytes and its identity.
type Sample struct {
	Header
	Bytes  []byte        // exactly what was signed, without the PAE
	Digest digest.Digest // the sample's identity
	signed []byte        // the PAE, of which Bytes are the end
}

// Parse decodes and checks a header's exact bytes. Errors are *reason.Error:
// TooLarge, NotCanonical or Malformed.
func Parse(b []byte) (*Sample, error) {
	var m recordv1.SampleHeader
	if err := record.Borrow(b, MaxHeaderBytes, &m); err != nil {
		return nil, err
	}
	h := Header{
		MeterID: m.GetMeterId(), Counter: m.GetCounter(),
		CapturedAtUnixNano: m.GetCapturedAtUnixNano(), ClockSync: m.GetClockSync(),
		KnownHeight: m.GetKnownHeight(), Channels: m.GetChannels(),
		SamplesPerChannel: m.GetSamplesPerChannel(), SampleRateMillihertz: m.GetSampleRateMillihertz(),
		Encoding: m.GetEncoding(), StatusFlags: m.GetStatusFlags(),
	}
	var err error
	if h.NetworkID, err = record.Digest32("network_id", m.GetNetworkId()); err != nil {
		return nil, err
	}
	if h.KnownBlock, err = record.Digest32("known_block", m.GetKnownBlock()); err != nil {
		return nil, err
	}
	if h.RawDigest, err = record.Digest32("raw_digest", m.GetRawDigest()); err != nil {
		return nil, err
	}
	if len(m.GetPrevious()) > 0 {
		if h.Previous, err = record.Digest32("previous", m.GetPrevious()); err != nil {
			return nil, err
		}
		if h.Previous.IsZero() {
			return nil, reason.New(reason.Malformed, "previous is all zero; leave it out in the first sample")
		}
	}
	for _, e := range m.GetEvidence() {
		d, err := record.Digest32("evidence", e.GetDigest())
		if err != nil {
			return nil, err
		}
		h.Evidence = append(h.Evidence, Evidence{Digest: d, Size: e.GetSize(), MediaType: e.GetMediaType()})
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	return h.identified(b), nil
}

// identified is the sample whose header has these exact bytes.
func (h *Header) identified(b []byte) *Sample {
	signed := envelope.PAE(PayloadType, b)
	return &Sample{Header: *h, Bytes: signed[len(signed)-len(b):], Digest: digest.Of(digest.Sample, signed), signed: signed}
}

func (h *Header) check() error {
	if err := record.CheckID(h.MeterID); err != nil {
		return err
	}
	switch {
	case h.Counter == 0:
		return reason.New(reason.Malformed, "counter is 0; counters begin at 1")
	case h.CapturedAtUnixNano <= 0:
		return reason.New(reason.Malformed, "capture time %d ns is not after 1970", h.CapturedAtUnixNano)
	case h.ClockSync == recordv1.ClockSync_CLOCK_SYNC_UNSPECIFIED:
		return reason.New(reason.Malformed, "clock_sync is not given")
	case h.Channels < 2 || h.Channels > MaxChannels:
		return reason.New(reason.Malformed, "%d channels, want 2 to %d", h.Channels, MaxChannels)
	case h.SamplesPerChannel == 0 || h.SamplesPerChannel > MaxSamplesPerChannel:
		return reason.New(reason.Malformed, "%d samples per channel, want 1 to %d", h.SamplesPerChannel, MaxSamplesPerChannel)
	case h.SampleRateMillihertz == 0:
		return reason.New(reason.Malformed, "sample rate is 0")
	case h.Encoding == recordv1.Encoding_ENCODING_UNSPECIFIED:
		return reason.New(reason.Malformed, "encoding is not given")
	case len(h.Evidence) > MaxEvidence:
		return reason.New(reason.Malformed, "%d pieces of evidence, at most %d", len(h.Evidence), MaxEvidence)
	}
	for _, e := range h.Evidence {
		if e.Size == 0 || e.Size > MaxEvidenceBytes {
			return reason.New(reason.Malformed, "evidence %s of %d bytes, want 1 to %d", e.Digest.Short(), e.Size, MaxEvidenceBytes)
		}
		if !IsMediaType(e.MediaType) {
			return reason.New(reason.Malformed, "evidence %s has the media type %.80q, want a lower-case type/subtype of at most %d bytes", e.Digest.Short(), e.MediaType, MaxMediaType)
		}
	}
	return nil
}

// IsMediaType accepts type/subtype without parameters, lower case: of each side 1
// or more of a-z, 0-9, '.', '+' and '-' (a part of RFC 6838, 4.2).
func IsMediaType(text string) bool {
	kind, subtype, found := strings.Cut(text, "/")
	word := func(s string) bool {
		return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '+' && c != '-'
		})
	}
	return found && len(text) <= MaxMediaType && word(kind) && word(subtype)
}

// Encode makes the exact bytes to sign. Errors are *reason.Error.
func (h *Header) Encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	m := &recordv1.SampleHeader{
		NetworkId: h.NetworkID[:], MeterId: h.MeterID, Counter: h.Counter,
		CapturedAtUnixNano: h.CapturedAtUnixNano, ClockSync: h.ClockSync,
		KnownHeight: h.KnownHeight, KnownBlock: h.KnownBlock[:],
		Channels: h.Channels, SamplesPerChannel: h.SamplesPerChannel,
		SampleRateMillihertz: h.SampleRateMillihertz, Encoding: h.Encoding,
		RawDigest: h.RawDigest[:], StatusFlags: h.StatusFlags,
	}
	if !h.Previous.IsZero() {
		m.Previous = h.Previous[:]
	}
	for i := range h.Evidence {
		e := &h.Evidence[i]
		m.Evidence = append(m.Evidence, &recordv1.Evidence{Digest: e.Digest[:], Size: e.Size, MediaType: e.MediaType})
	}
	b, err := wire.Encode(m)
	if err != nil {
		return nil, reason.New(reason.Malformed, "%v", err)
	}
	if len(b) > MaxHeaderBytes {
		return nil, reason.New(reason.TooLarge, "SampleHeader has %d bytes, the limit is %d", len(b), MaxHeaderBytes)
	}
	return b, nil
}

// Sign encodes and signs a header under the meter's key: Ed25519 or ECDSA P-256.
func Sign(signer crypto.Signer, h *Header) (*Sample, []byte, error) {
	b, err := h.Encode()
	if err != nil {
		return nil, nil, err
	}
	s := h.identified(b) // Parse would give the same, for b is what Encode makes of h
	s.Evidence = append([]Evidence(nil), h.Evidence...)
	kind, err := KindOf(signer.Public())
	if err != nil {
		return nil, nil, err
	}
	sig, err := signature.Sign(signer, kind, s.Signed())
	if err != nil {
		return nil, nil, err
	}
	return s, sig, nil
}

// KindOf is the signature kind of a meter's or endorser's key (rule B3).
func KindOf(public crypto.PublicKey) (signature.Kind, error) {
	kind := signature.Ed25519ZIP215
	if _, ok := public.(*ecdsa.PublicKey); ok {
		kind = signature.P256
	}
	key, err := signature.KeyOf(kind, public)
	return key.Kind(), err
}

// CheckSignatureForm says whether the bytes can be a meter's signature. Errors
// are *reason.Error: Unsigned or Malformed.
func CheckSignatureForm(sig []byte) error {
	switch len(sig) {
	case signature.Size:
		return nil
	case 0:
		return reason.New(reason.Unsigned, "the sample has no signature, want %d bytes", signature.Size)
	}
	return reason.New(reason.Malformed, "the meter's signature has %d bytes, want %d", len(sig), signature.Size)
}

// Signed is the message that the signature covers; nobody changes it.
func (s *Sample) Signed() []byte { return s.signed }

// DigestRaw is the digest that a header names for an encoded raw vector.
func DigestRaw(vector []byte) digest.Digest { return digest.Of(digest.RawVector, vector) }

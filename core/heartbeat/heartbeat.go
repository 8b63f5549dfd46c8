// Package heartbeat is what a meter signs while it measures nothing, so that its
// silence shows, and so do samples that it took and nobody delivered.
//
// Source: architecture, "Records" and threats (a gateway drops or delays);
// rules S2, S3 and B3; proto/lacre/record/v1, Heartbeat.
//
// Invariants:
//   - The signature covers PAE(PayloadType, heartbeat bytes): no signature of a
//     sample is one of a heartbeat, nor the reverse.
//   - NewestSample is zero exactly when NewestCounter is 0.
package heartbeat

import (
	"crypto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// PayloadType is the media type under which a heartbeat is signed.
const PayloadType = "application/vnd.lacre.heartbeat.v1+protobuf"

// MaxBytes bounds a heartbeat.
const MaxBytes = 512

// MaxBatch is how many heartbeats one submission may have.
const MaxBatch = 1024

// Heartbeat is a meter's sign of life; see lacre.record.v1.Heartbeat.
type Heartbeat struct {
	NetworkID     digest.Digest
	MeterID       string
	NewestCounter uint64        // that the meter signed; 0 before its first sample
	NewestSample  digest.Digest // of that sample
	AtUnixNano    int64         // the meter's clock
	ClockSync     recordv1.ClockSync
	KnownHeight   uint64        // newest certified block that the meter knows
	KnownBlock    digest.Digest // digest of its header record
	StatusFlags   uint32
}

// Parse decodes and checks a heartbeat's exact bytes. Errors are *reason.Error:
// TooLarge, NotCanonical or Malformed.
func Parse(b []byte) (*Heartbeat, error) {
	var m recordv1.Heartbeat
	if err := record.Borrow(b, MaxBytes, &m); err != nil {
		return nil, err
	}
	h := &Heartbeat{
		MeterID: m.GetMeterId(), NewestCounter: m.GetNewestCounter(), AtUnixNano: m.GetAtUnixNano(),
		ClockSync: m.GetClockSync(), KnownHeight: m.GetKnownHeight(), StatusFlags: m.GetStatusFlags(),
	}
	var err error
	if h.NetworkID, err = record.Digest32("network_id", m.GetNetworkId()); err != nil {
		return nil, err
	}
	if h.KnownBlock, err = record.Digest32("known_block", m.GetKnownBlock()); err != nil {
		return nil, err
	}
	if len(m.GetNewestSample()) > 0 {
		if h.NewestSample, err = record.Digest32("newest_sample", m.GetNewestSample()); err != nil {
			return nil, err
		}
		if h.NewestSample.IsZero() {
			return nil, reason.New(reason.Malformed, "newest_sample is all zero; leave it out before the first sample")
		}
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Heartbeat) check() error {
	if err := record.CheckID(h.MeterID); err != nil {
		return err
	}
	switch {
	case (h.NewestCounter == 0) != h.NewestSample.IsZero():
		return reason.New(reason.Malformed, "newest counter %d with sample %s; only before the first sample there is neither", h.NewestCounter, h.NewestSample.Short())
	case h.AtUnixNano <= 0:
		return reason.New(reason.Malformed, "heartbeat at %d ns is not after 1970", h.AtUnixNano)
	case h.ClockSync == recordv1.ClockSync_CLOCK_SYNC_UNSPECIFIED:
		return reason.New(reason.Malformed, "clock_sync is not given")
	}
	return nil
}

// Encode makes the exact bytes to sign. Errors are *reason.Error.
func (h *Heartbeat) Encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	m := &recordv1.Heartbeat{
		NetworkId: h.NetworkID[:], MeterId: h.MeterID, NewestCounter: h.NewestCounter, AtUnixNano: h.AtUnixNano,
		ClockSync: h.ClockSync, KnownHeight: h.KnownHeight, KnownBlock: h.KnownBlock[:], StatusFlags: h.StatusFlags,
	}
	if !h.NewestSample.IsZero() {
		m.NewestSample = h.NewestSample[:]
	}
	b, err := wire.Encode(m)
	if err != nil {
		return nil, reason.New(reason.Malformed, "%v", err)
	}
	return b, nil
}

// Message is what the meter signs for the exact bytes of a heartbeat.
func Message(b []byte) []byte { return envelope.PAE(PayloadType, b) }

// Sign encodes and signs a heartbeat under the key that signs the meter's next
// sample: Ed25519 or ECDSA P-256. It returns the leaf.
func Sign(signer crypto.Signer, h *Heartbeat) ([]byte, error) {
	b, err := h.Encode()
	if err != nil {
		return nil, err
	}
	kind, err := sample.KindOf(signer.Public())
	if err != nil {
		return nil, err
	}
	sig, err := signature.Sign(signer, kind, Message(b))
	if err != nil {
		return nil, err
	}
	return record.Encode(&recordv1.Record{Body: &recordv1.Record_Heartbeat{
		Heartbeat: &recordv1.SignedHeartbeat{Heartbeat: b, Signature: sig},
	}})
}

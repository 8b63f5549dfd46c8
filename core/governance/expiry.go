package governance

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// ErrExpiry says that a proof of a decision on raw vectors is not what it must be.
var ErrExpiry = errors.New("the decision that raw vectors expire is not proven")

// ParseExpiry reads the exact bytes of a proven decision. The error is a
// *reason.Error.
func ParseExpiry(b []byte) (*recordv1.ProvenExpiry, error) {
	p := new(recordv1.ProvenExpiry)
	return p, record.Decode(b, MaxBytes, p)
}

// EncodeExpiry is its inverse.
func EncodeExpiry(p *recordv1.ProvenExpiry) ([]byte, error) { return wire.Encode(p) }

// VerifyExpiry verifies a decision that raw vectors expire from a pinned trust
// bundle, for who does not hold the ledger that says so yet: it is a record of a tree
// that the quorum of its time certified, and a majority of the root keys then in force
// signed it. That its height, header and retention fit the ledger the quorum checked.
func VerifyExpiry(p *recordv1.ProvenExpiry, pinned *trust.Bundle) (*recordv1.RawVectorExpiry, error) {
	history, err := Verify(p.GetConfigurations(), pinned)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExpiry, err)
	}
	fail := func(format string, args ...any) (*recordv1.RawVectorExpiry, error) {
		return nil, fmt.Errorf("%w: %w", ErrExpiry, fmt.Errorf(format, args...))
	}
	certificate, err := tlog.ParseCertificate(p.GetCertificate())
	if err != nil {
		return fail("certificate: %w", err)
	}
	if err := history.Trust.Check(signature.Direct{}, certificate); err != nil {
		return fail("%w", err)
	}
	if err := included(p.GetDecision(), certificate.Checkpoint); err != nil {
		return fail("%w", err)
	}
	r, err := record.Parse(p.GetDecision().GetRecord())
	if err != nil {
		return fail("%w", err)
	}
	e, decision := record.ToEnvelope(r.GetStatement()), new(recordv1.RawVectorExpiry)
	if e.PayloadType != record.TypeRawVectorExpiry {
		return fail("it is of type %.80q, want %q", e.PayloadType, record.TypeRawVectorExpiry)
	}
	if err := record.Decode(e.Payload, record.MaxBytes, decision); err != nil {
		return fail("%w", err)
	}
	if id := decision.GetHeader().GetNetworkId(); !bytes.Equal(id, history.NetworkID[:]) {
		return fail("it is of network %x, this is %s", id, history.NetworkID)
	}
	if err := state.CheckStatement(decision); err != nil {
		return fail("%w", err)
	}
	parties, err := state.Parties(history.at(p.GetDecision().GetIndex()), e)
	if err != nil {
		return fail("%w", err)
	}
	for _, party := range parties {
		if party.Missing > 0 {
			return fail("%d signatures of %s are missing", party.Missing, party.Who)
		}
	}
	return decision, nil
}

// at is the configuration in force for a leaf above the first.
func (h *History) at(index uint64) *state.Config {
	c := h.Configurations[0]
	for _, next := range h.Configurations[1:] {
		if next.Index < index {
			c = next
		}
	}
	return &state.Config{NetworkID: h.NetworkID, Digest: c.Digest, Message: c.Message, Index: c.Index}
}

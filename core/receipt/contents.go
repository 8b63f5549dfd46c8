package receipt

import (
	"fmt"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"google.golang.org/protobuf/proto"
)

// Contents is what a bundle holds, decoded. A part is nil unless its step was
// verified.
type Contents struct {
	Receipt      *Receipt
	Config       *recordv1.NetworkConfig
	Registration *recordv1.MeterRegistration
	Parameters   *claim.Parameters // in force at the capture
	History      *MeterHistory
	Approval     *approval.Approval
	Endorsers    []*recordv1.NodeRegistration // in the order of the endorsements
	RawVector    []byte
	Module       []byte
	Table        *recordv1.NationalTable // in force at the capture; nil also for a meter under none
}

// open returns a bundle's leaf at its place in the checkpoint's tree.
func open(p *recordv1.ProvenRecord, what string, c tlog.Checkpoint) (*recordv1.Record, error) {
	if p == nil {
		return nil, lack("the bundle has no %s", what)
	}
	path := make([]digest.Digest, len(p.GetProof()))
	for i, h := range p.GetProof() {
		path[i] = digest.Digest(h) // ParseBundle checked the length
	}
	if err := checkInclusion(p.GetRecord(), p.GetIndex(), path, c); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r, err := record.Parse(p.GetRecord())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return r, nil
}

// openStatement is open for an administrative statement of a payload type.
func openStatement(p *recordv1.ProvenRecord, what, payloadType string, c tlog.Checkpoint) (*envelope.Envelope, error) {
	r, err := open(p, what, c)
	if err != nil {
		return nil, err
	}
	if r.GetStatement() == nil {
		return nil, fmt.Errorf("%s: record %d is a %T, not a statement", what, p.GetIndex(), r.GetBody())
	}
	e := record.ToEnvelope(r.GetStatement())
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("%s: record %d is of type %q, want %q", what, p.GetIndex(), e.PayloadType, payloadType)
	}
	return e, nil
}

// openMessage is openStatement for a protobuf statement, decoded into m.
func openMessage(p *recordv1.ProvenRecord, what string, m proto.Message, c tlog.Checkpoint) (*envelope.Envelope, error) {
	e, err := openStatement(p, what, record.TypeOf(m), c)
	if err != nil {
		return nil, err
	}
	if err := wire.Decode(e.Payload, m); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return e, nil
}

// checkHeader compares a statement's place with what it must be about.
func checkHeader(h *recordv1.StatementHeader, network digest.Digest, subject string) error {
	if got := h.GetSubject(); got != subject {
		return fmt.Errorf("statement on %q, want %q", got, subject)
	}
	if got, err := digest.FromBytes(h.GetNetworkId()); err != nil || got != network {
		return fmt.Errorf("statement of network %x, the measurement is of %s", h.GetNetworkId(), network)
	}
	return nil
}

// sameDigest compares an item's identity with what the certified leaf names.
func sameDigest(what string, got, want digest.Digest) error {
	if got != want {
		return fmt.Errorf("%s has digest %s, the measurement names %s", what, got, want)
	}
	return nil
}

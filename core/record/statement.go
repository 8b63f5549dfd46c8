package record

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// The media types of administrative statements; each names the message that is the payload.
const (
	TypeNetworkConfig     = "application/vnd.lacre.network-config.v1+protobuf"
	TypeNodeRegistration  = "application/vnd.lacre.node-registration.v1+protobuf"
	TypeNodeRevocation    = "application/vnd.lacre.node-revocation.v1+protobuf"
	TypeApproval          = "application/vnd.in-toto+json" // package approval
	TypeAlgorithmStatus   = "application/vnd.lacre.algorithm-status.v1+protobuf"
	TypeMeterRegistration = "application/vnd.lacre.meter-registration.v1+protobuf"
	TypeMeterStatus       = "application/vnd.lacre.meter-status.v1+protobuf"
	TypeMeterParameters   = "application/vnd.lacre.meter-parameters.v1+protobuf"
	TypeMeterKeyRollover  = "application/vnd.lacre.meter-key-rollover.v1+protobuf"
	TypeNationalTable     = "application/vnd.lacre.national-table.v1+protobuf"
	TypeCanaryCommitment  = "application/vnd.lacre.canary-commitment.v1+protobuf"
	TypeCanaryReveal      = "application/vnd.lacre.canary-reveal.v1+protobuf"
	TypeEvidenceErasure   = "application/vnd.lacre.evidence-erasure.v1+protobuf"
)

// SubjectNetwork is the subject of statements on the network (rule S4).
const SubjectNetwork = "network"

// SubjectNode is the subject of statements on a node.
func SubjectNode(id string) string { return "node/" + id }

// SubjectAlgorithm is the subject of statements on a module.
func SubjectAlgorithm(module digest.Digest) string { return "algorithm/" + module.String() }

// SubjectMeter is the subject of statements on a meter.
func SubjectMeter(id string) string { return "meter/" + id }

// SubjectTable is the subject of statements on a national table.
func SubjectTable(id string) string { return "table/" + id }

// SubjectCanary is the subject of statements on a notified body's test.
func SubjectCanary(id string) string { return "canary/" + id }

// SubjectEvidence is the subject of statements and events on a piece of evidence.
func SubjectEvidence(piece digest.Digest) string { return "evidence/" + piece.String() }

// StatementDigest is a statement's identity: the digest of its PAE, not of its signatures.
func StatementDigest(payloadType string, payload []byte) digest.Digest {
	e := envelope.Envelope{PayloadType: payloadType, Payload: payload}
	return e.Digest()
}

// FromEnvelope makes the leaf of a signed statement.
func FromEnvelope(e *envelope.Envelope) ([]byte, error) {
	m := &recordv1.Envelope{PayloadType: e.PayloadType, Payload: e.Payload}
	for _, s := range e.Signatures {
		m.Signatures = append(m.Signatures, &recordv1.EnvelopeSignature{KeyId: s.KeyID, Signature: s.Sig})
	}
	return Encode(&recordv1.Record{Body: &recordv1.Record_Statement{Statement: m}})
}

// ToEnvelope is the DSSE envelope of a statement leaf.
func ToEnvelope(m *recordv1.Envelope) *envelope.Envelope {
	e := &envelope.Envelope{PayloadType: m.GetPayloadType(), Payload: m.GetPayload()}
	for _, s := range m.GetSignatures() {
		e.Signatures = append(e.Signatures, envelope.Signature{KeyID: s.GetKeyId(), Sig: s.GetSignature()})
	}
	return e
}

// TypeOf is the payload type of a protobuf statement; it panics on another message.
func TypeOf(m proto.Message) string {
	switch m.(type) {
	case *recordv1.NetworkConfig:
		return TypeNetworkConfig
	case *recordv1.NodeRegistration:
		return TypeNodeRegistration
	case *recordv1.NodeRevocation:
		return TypeNodeRevocation
	case *recordv1.AlgorithmStatus:
		return TypeAlgorithmStatus
	case *recordv1.MeterRegistration:
		return TypeMeterRegistration
	case *recordv1.MeterParameters:
		return TypeMeterParameters
	case *recordv1.MeterStatus:
		return TypeMeterStatus
	case *recordv1.NationalTable:
		return TypeNationalTable
	case *recordv1.CanaryCommitment:
		return TypeCanaryCommitment
	case *recordv1.CanaryReveal:
		return TypeCanaryReveal
	case *recordv1.MeterKeyRollover:
		return TypeMeterKeyRollover
	case *recordv1.EvidenceErasure:
		return TypeEvidenceErasure
	}
	panic("record: " + string(m.ProtoReflect().Descriptor().FullName()) + " is no statement")
}

// NewStatement encodes a protobuf statement and signs it with each signer:
// Ed25519 or ECDSA P-256. To add a signature later, call envelope.Sign.
func NewStatement(m proto.Message, signers ...crypto.Signer) (*envelope.Envelope, error) {
	payload, err := wire.Encode(m)
	if err != nil {
		return nil, err
	}
	return SignStatement(TypeOf(m), payload, signers...)
}

// SignStatement signs an encoded statement with each signer.
func SignStatement(payloadType string, payload []byte, signers ...crypto.Signer) (*envelope.Envelope, error) {
	e := &envelope.Envelope{PayloadType: payloadType, Payload: payload}
	for _, signer := range signers {
		kind := signature.Ed25519
		if _, ok := signer.Public().(*ecdsa.PublicKey); ok {
			kind = signature.P256
		}
		if err := e.Sign(signer, kind); err != nil {
			return nil, fmt.Errorf("sign %s: %w", payloadType, err)
		}
	}
	return e, nil
}

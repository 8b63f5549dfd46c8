package record

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

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
	TypeRawVectorExpiry   = "application/vnd.lacre.raw-vector-expiry.v1+protobuf"
	// TypeRecoveryLock is a surviving replica's word (rule C8): no record of its
	// own, it stands in a recovery.
	TypeRecoveryLock = "application/vnd.lacre.recovery-lock.v1+protobuf"
)

// SubjectNetwork is the subject of statements on the network (rule S4).
const SubjectNetwork = "network"

// SubjectRawVectors is the subject of decisions that raw vectors expire.
const SubjectRawVectors = "raw-vectors"

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

// messages are the statements that are protobuf messages, by payload type.
var messages = map[string]func() proto.Message{
	TypeNetworkConfig:     func() proto.Message { return new(recordv1.NetworkConfig) },
	TypeNodeRegistration:  func() proto.Message { return new(recordv1.NodeRegistration) },
	TypeNodeRevocation:    func() proto.Message { return new(recordv1.NodeRevocation) },
	TypeAlgorithmStatus:   func() proto.Message { return new(recordv1.AlgorithmStatus) },
	TypeMeterRegistration: func() proto.Message { return new(recordv1.MeterRegistration) },
	TypeMeterStatus:       func() proto.Message { return new(recordv1.MeterStatus) },
	TypeMeterParameters:   func() proto.Message { return new(recordv1.MeterParameters) },
	TypeMeterKeyRollover:  func() proto.Message { return new(recordv1.MeterKeyRollover) },
	TypeNationalTable:     func() proto.Message { return new(recordv1.NationalTable) },
	TypeCanaryCommitment:  func() proto.Message { return new(recordv1.CanaryCommitment) },
	TypeCanaryReveal:      func() proto.Message { return new(recordv1.CanaryReveal) },
	TypeEvidenceErasure:   func() proto.Message { return new(recordv1.EvidenceErasure) },
	TypeRawVectorExpiry:   func() proto.Message { return new(recordv1.RawVectorExpiry) },
}

// types are the payload types by the full name of the message.
var types = func() map[protoreflect.FullName]string {
	m := make(map[protoreflect.FullName]string, len(messages))
	for payloadType, empty := range messages {
		m[empty().ProtoReflect().Descriptor().FullName()] = payloadType
	}
	return m
}()

// MessageTypes are the payload types of all statements that are protobuf
// messages, ascending: all statements but the approval, which is JSON.
func MessageTypes() []string { return slices.Sorted(maps.Keys(messages)) }

// NewMessage is an empty message of a payload type; nil when no protobuf
// statement has it.
func NewMessage(payloadType string) proto.Message {
	if empty, ok := messages[payloadType]; ok {
		return empty()
	}
	return nil
}

// TypeOf is the payload type of a protobuf statement; it panics on another message.
func TypeOf(m proto.Message) string {
	name := m.ProtoReflect().Descriptor().FullName()
	if payloadType, ok := types[name]; ok {
		return payloadType
	}
	panic("record: " + string(name) + " is no statement")
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

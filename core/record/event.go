package record

import (
	"crypto"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// TypeEventReport is the payload type under which a node signs an event report.
const TypeEventReport = "application/vnd.lacre.event-report.v1+protobuf"

// The bounds of an event report.
const (
	MaxEventDetail   = 1024 // bytes
	MaxEventEvidence = 8    // pieces
	MaxSubject       = 128  // bytes of a subject; the longest valid one has 74
)

// EventMessage is what the reporting node signs.
func EventMessage(report []byte) []byte { return envelope.PAE(TypeEventReport, report) }

// SignEvent makes the leaf of an event: it encodes the report and signs it with
// the node's key, whose kind is signature.Ed25519ZIP215 or signature.P256.
func SignEvent(signer crypto.Signer, kind signature.Kind, report *recordv1.EventReport) ([]byte, error) {
	b, err := wire.Encode(report)
	if err != nil {
		return nil, err
	}
	sig, err := signature.Sign(signer, kind, EventMessage(b))
	if err != nil {
		return nil, err
	}
	return Encode(&recordv1.Record{Body: &recordv1.Record_SecurityEvent{
		SecurityEvent: &recordv1.SecurityEvent{Report: b, Signature: sig},
	}})
}

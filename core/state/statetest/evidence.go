package statetest

import (
	"crypto/ecdh"
	"crypto/sha256"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// EvidenceKey is the X25519 key of a name.
func EvidenceKey(name string) *ecdh.PrivateKey {
	seed := sha256.Sum256([]byte("statetest/evidence/" + name))
	key, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		panic(err)
	}
	return key
}

// GiveEvidenceKey makes a configuration in which an organisation reads evidence
// the one in force, by a majority of the root keys.
func (n *Network) GiveEvidenceKey(organisation string) {
	n.TB.Helper()
	for _, o := range n.Config.Organisations {
		if o.Id == organisation {
			o.EvidenceKey = EvidenceKey(organisation).PublicKey().Bytes()
		}
	}
	n.Config.Header = n.Header(record.SubjectNetwork)
	n.Accept(n.Sign(n.Config, Root(OrganisationID(0)), Root(OrganisationID(1)), Root(OrganisationID(2))))
	n.Apply(n.Begin()) // certified by both quorums, which are one
}

// Erasure is the leaf of an organisation's order to erase a piece.
func (n *Network) Erasure(piece digest.Digest, organisation string) []byte {
	return n.Sign(&recordv1.EvidenceErasure{
		Header: n.Header(record.SubjectEvidence(piece)), Evidence: piece.Bytes(), Organisation: organisation, Rule: "script",
		EvidenceKey: EvidenceKey(organisation).PublicKey().Bytes(),
	}, Root(organisation))
}

package statement

import (
	"crypto"

	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// Node drafts a node's registration, without its header.
func Node(id, organisation string, role recordv1.Role, signing crypto.PublicKey, spki identity.SPKI) (*recordv1.NodeRegistration, error) {
	kind, err := sample.KindOf(signing)
	if err != nil {
		return nil, err
	}
	key, err := signature.KeyOf(kind, signing)
	if err != nil {
		return nil, err
	}
	return &recordv1.NodeRegistration{NodeId: id, Organisation: organisation, Role: role, Key: key.Bytes(), TlsSpki: spki[:]}, nil
}

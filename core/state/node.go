package state

import (
	"bytes"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// nodeRegistration makes a key a member of the network. A second one on the
// same node may change its TLS key only: what it signs with is for its life, so
// that old endorsements verify under the registration in force.
type nodeRegistration struct{ *recordv1.NodeRegistration }

func (n nodeRegistration) check(st *statement) error {
	if err := record.CheckID(n.GetNodeId()); err != nil {
		return err
	}
	if err := record.CheckID(n.GetOrganisation()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectNode(n.GetNodeId())); err != nil {
		return err
	}
	if n.GetRole() == recordv1.Role_ROLE_UNSPECIFIED {
		return reason.New(reason.Malformed, "node %s has no role", n.GetNodeId())
	}
	if err := checkSPKI(n.GetTlsSpki()); err != nil {
		return err
	}
	return checkKey("key of node "+n.GetNodeId(), n.GetKey(), signature.Ed25519ZIP215, signature.P256)
}

// authority is the organisation's root key and, after the founding, the node's
// own: nobody registers a key that they do not hold (docs/adr/0011). At the
// founding the organisation's member file proves that.
func (n nodeRegistration) authority(r *reader, config *Config) ([]signers, error) {
	groups, err := organisationSigns(config, n.GetOrganisation())
	if err != nil || r.founding {
		return groups, err
	}
	return append(groups, provesItself("the node's own key", n.GetKey())), nil
}

func organisationSigns(config *Config, id string) ([]signers, error) {
	organisation := config.Organisation(id)
	if organisation == nil {
		return nil, reason.New(reason.NotAuthorised, "%s is no organisation of the network", id)
	}
	return []signers{oneOf("the root key of "+id, storedKey(organisation.GetRootKey()))}, nil
}

func (n nodeRegistration) apply(b *Block, st *statement, ref *statev1.StatementRef) error {
	old, err := b.node(n.GetNodeId())
	if err != nil {
		return err
	}
	if old != nil {
		switch {
		case old.GetRevoked():
			return reason.New(reason.InvalidStatement, "node %s was revoked; register another id", n.GetNodeId())
		case old.GetOrganisation() != n.GetOrganisation() || old.GetRole() != int32(n.GetRole()) || !bytes.Equal(old.GetKey(), n.GetKey()):
			return reason.New(reason.InvalidStatement, "node %s keeps its organisation, role and key; only its TLS key may change", n.GetNodeId())
		}
	}
	if n.GetRole() == recordv1.Role_ROLE_AUTHORITY && !b.config.ReadsEvidence(n.GetOrganisation()) {
		return reason.New(reason.InvalidStatement, "node %s would read evidence, and %s has no evidence key in force", n.GetNodeId(), n.GetOrganisation())
	}
	keyOwner, tlsOwner := signedByKey(n.GetKey()), tlsKey(n.GetTlsSpki())
	if err := b.takeKey(keyOwner, "the key of node "+n.GetNodeId(), st.subject); err != nil {
		return err
	}
	if err := b.takeKey(tlsOwner, "the TLS key of node "+n.GetNodeId(), st.subject); err != nil {
		return err
	}
	b.putRaw(keyOwner, []byte(st.subject))
	b.putRaw(tlsOwner, []byte(st.subject))
	b.putMessage(NodeKey(n.GetNodeId()), &statev1.Node{
		Last: ref, Organisation: n.GetOrganisation(), Role: int32(n.GetRole()),
		Key: n.GetKey(), TlsSpki: n.GetTlsSpki(), RegistrationIndex: ref.GetIndex(),
	})
	return nil
}

// nodeRevocation ends a registration for every later record (rule S2).
type nodeRevocation struct{ *recordv1.NodeRevocation }

func (n nodeRevocation) check(st *statement) error {
	if err := record.CheckID(n.GetNodeId()); err != nil {
		return err
	}
	if err := st.wantSubject(record.SubjectNode(n.GetNodeId())); err != nil {
		return err
	}
	return checkText("reason", n.GetReason(), MaxReason)
}

func (n nodeRevocation) authority(r *reader, config *Config) ([]signers, error) {
	node, err := r.node(n.GetNodeId())
	if err != nil {
		return nil, err
	}
	if node == nil {
		return nil, reason.New(reason.InvalidStatement, "node %s is not registered", n.GetNodeId())
	}
	return organisationSigns(config, node.GetOrganisation())
}

func (n nodeRevocation) apply(b *Block, _ *statement, ref *statev1.StatementRef) error {
	old, err := b.node(n.GetNodeId())
	if err != nil {
		return err
	}
	if old.GetRevoked() {
		return reason.New(reason.InvalidStatement, "node %s is revoked already", n.GetNodeId())
	}
	node := proto.CloneOf(old)
	node.Last, node.Revoked = ref, true
	b.putMessage(NodeKey(n.GetNodeId()), node)
	return nil
}

// activeNode is a node that may act now: registered, not revoked, and of an
// organisation of the configuration in force. The error of one that may not is
// a *reason.Error.
func (b *Block) activeNode(id string) (*statev1.Node, error) {
	node, err := b.node(id)
	switch {
	case err != nil:
		return nil, err
	case node == nil:
		return nil, reason.New(reason.NotAuthorised, "node %.80q is not registered", id)
	case node.GetRevoked():
		return nil, reason.New(reason.NotAuthorised, "node %s is revoked", id)
	case b.config.Organisation(node.GetOrganisation()) == nil:
		return nil, reason.New(reason.NotAuthorised, "node %s is of %s, no longer an organisation of the network", id, node.GetOrganisation())
	}
	return node, nil
}

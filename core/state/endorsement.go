package state

import (
	"errors"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// MaxEndorsements bounds the endorsements of a set.
const MaxEndorsements = 64

// endorsementSet is a decoded set (rule S5).
type endorsementSet struct {
	digest       digest.Digest // of the record: what measurements name
	network      digest.Digest
	algorithm    digest.Digest
	claims       []digest.Digest
	endorsements []*recordv1.Endorsement
	message      []byte // what each endorser signed
}

func parseEndorsementSet(leaf []byte, m *recordv1.EndorsementSet) (*endorsementSet, error) {
	s := &endorsementSet{digest: record.Digest(leaf), endorsements: m.GetEndorsements()}
	var err error
	if s.network, err = record.Digest32("network_id", m.GetNetworkId()); err != nil {
		return nil, err
	}
	if s.algorithm, err = record.Digest32("algorithm", m.GetAlgorithm()); err != nil {
		return nil, err
	}
	if n := len(m.GetClaims()); n == 0 || n > record.MaxClaims {
		return nil, reason.New(reason.Malformed, "%d claims, want 1 to %d", n, record.MaxClaims)
	}
	s.claims = make([]digest.Digest, len(m.GetClaims()))
	for i, c := range m.GetClaims() {
		if s.claims[i], err = record.Digest32("claims", c); err != nil {
			return nil, err
		}
	}
	if n := len(s.endorsements); n == 0 || n > MaxEndorsements {
		return nil, reason.New(reason.Malformed, "%d endorsements, want 1 to %d", n, MaxEndorsements)
	}
	last := ""
	for _, e := range s.endorsements {
		if err := record.CheckID(e.GetNodeId()); err != nil {
			return nil, err
		}
		if e.GetNodeId() <= last {
			return nil, reason.New(reason.Malformed, "endorser %q after %q, want ascending distinct ones", e.GetNodeId(), last)
		}
		if len(e.GetSignature()) != signature.Size {
			return nil, reason.New(reason.Malformed, "endorsement of %s has %d bytes, want %d", e.GetNodeId(), len(e.GetSignature()), signature.Size)
		}
		last = e.GetNodeId()
	}
	s.message = claim.EndorsementMessage(s.network, s.algorithm, s.claims)
	return s, nil
}

// verdict is what the state says of a set before its measurements are looked at.
type verdict struct {
	set       *endorsementSet
	algorithm *approved // nil when unknown
	refused   error     // a *reason.Error or *earlierError; nil when the set may stand
}

// judgeSet decides whether a set endorses: enough distinct organisations of
// the configuration in force, under the policy of the approval in force, each
// through an endorser that is not revoked now.
func (b *Block) judgeSet(set *endorsementSet) (*verdict, error) {
	v := &verdict{set: set}
	err := b.checkSet(v)
	var refused *reason.Error
	if errors.As(err, &refused) {
		v.refused, err = err, nil
	}
	return v, err
}

func (b *Block) checkSet(v *verdict) error {
	set := v.set
	if set.network != b.config.NetworkID {
		return reason.New(reason.WrongNetwork, "endorsement set is for network %s, this is %s", set.network.Short(), b.config.NetworkID.Short())
	}
	index, ok, err := b.index(setKey(set.digest))
	if err != nil {
		return err
	}
	if ok {
		return &earlierError{reason.New(reason.Duplicate, "endorsement set %s is leaf %d already", set.digest.Short(), index), index}
	}
	if v.algorithm, err = b.algorithm(set.algorithm); err != nil {
		return err
	}
	if v.algorithm == nil {
		return reason.New(reason.UnknownAlgorithm, "no approval names module %s", set.algorithm.Short())
	}
	organisations := make(map[string]bool, len(set.endorsements))
	for _, e := range set.endorsements {
		node, err := b.endorser(e.GetNodeId())
		if err != nil {
			return err
		}
		key := storedKey(node.GetKey())
		if !b.verifier.Verify(key.Kind(), key, set.message, e.GetSignature()) {
			return reason.New(reason.BadSignature, "the endorsement of %s does not verify under its %v", e.GetNodeId(), key)
		}
		organisations[node.GetOrganisation()] = true
	}
	if terms := v.algorithm.terms; !terms.Policy.Satisfied(organisations) {
		return reason.New(reason.PolicyNotMet, "%d organisations endorsed, the policy wants %s", len(organisations), terms.Policy)
	}
	return nil
}

// endorser is a node that may endorse now.
func (b *Block) endorser(id string) (*statev1.Node, error) {
	node, err := b.activeNode(id)
	var refused *reason.Error
	if errors.As(err, &refused) {
		return nil, reason.New(reason.BadEndorsement, "endorser: %s", refused.Detail)
	}
	if err != nil {
		return nil, err
	}
	if node.GetRole() != int32(recordv1.Role_ROLE_ENDORSER) {
		return nil, reason.New(reason.BadEndorsement, "node %s has the role %v", id, recordv1.Role(node.GetRole()))
	}
	return node, nil
}

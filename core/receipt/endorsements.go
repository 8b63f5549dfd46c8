package receipt

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// endorsements: the set that the measurement names holds the claim, each
// endorsement verifies under its node's registered key, and their organisations
// satisfy the approval's policy (rules S1 and S5). Whether a node was revoked
// when the block was made is what the replicas' certificate says.
func (c *checker) endorsements() (string, error) {
	set, claims, err := c.endorsementSet()
	if err != nil {
		return "", err
	}
	if c.contents.Approval == nil {
		return "", lack("the approval, which has the policy, is not verified")
	}
	if c.contents.Config == nil {
		return "", lack("the configuration, which has the organisations' keys, is not verified")
	}
	endorsements, nodes := set.GetEndorsements(), c.bundle.GetNodes()
	if len(nodes) == 0 {
		return "", lack("the bundle has no registrations of the %d endorsers", len(endorsements))
	}
	if len(nodes) != len(endorsements) {
		return "", fmt.Errorf("the bundle has %d node registrations for %d endorsements", len(nodes), len(endorsements))
	}
	message := claim.EndorsementMessage(c.receipt.Sample.NetworkID, c.receipt.Claim.Algorithm, claims)
	organisations := make(map[string]bool, len(nodes))
	var endorsers []*recordv1.NodeRegistration
	var names []string
	for i, e := range endorsements {
		node, err := c.endorser(nodes[i], e.GetNodeId())
		if err == nil && nodes[i].GetIndex() >= c.bundle.GetEndorsementSet().GetIndex() {
			// A later registration has the same signing key, and endorsed nothing here.
			err = fmt.Errorf("registration of node %s is record %d, the endorsement set record %d: it must stand before",
				e.GetNodeId(), nodes[i].GetIndex(), c.bundle.GetEndorsementSet().GetIndex())
		}
		if err != nil {
			return "", err
		}
		key, err := signature.ParseKey(node.GetKey())
		if err != nil {
			return "", fmt.Errorf("endorser %s: %w", e.GetNodeId(), err)
		}
		if !c.signatures().Verify(key.Kind(), key, message, e.GetSignature()) {
			return "", fmt.Errorf("the endorsement of %s does not verify under its %v", e.GetNodeId(), key)
		}
		organisations[node.GetOrganisation()] = true
		endorsers = append(endorsers, node)
		names = append(names, node.GetNodeId()+" of "+node.GetOrganisation())
	}
	if policy := c.contents.Approval.Policy; !policy.Satisfied(organisations) {
		return "", fmt.Errorf("%s endorsed, the approval wants %v", strings.Join(names, ", "), policy)
	}
	c.contents.Endorsers = endorsers
	return fmt.Sprintf("claim %d of %d, endorsed by %s; the policy wants %v",
		c.receipt.Message.GetClaimIndex(), len(claims), strings.Join(names, ", "), c.contents.Approval.Policy), nil
}

// endorsementSet opens the set and finds the claim in it.
func (c *checker) endorsementSet() (*recordv1.EndorsementSet, []digest.Digest, error) {
	p := c.bundle.GetEndorsementSet()
	r, err := open(p, "endorsement set", c.checkpoint)
	if err != nil {
		return nil, nil, err
	}
	if err := sameDigest("endorsement set", record.Digest(p.GetRecord()), c.receipt.EndorsementSet); err != nil {
		return nil, nil, err
	}
	set := r.GetEndorsementSet()
	if set == nil {
		return nil, nil, fmt.Errorf("record %d is a %T, not an endorsement set", p.GetIndex(), r.GetBody())
	}
	cl := c.receipt.Claim
	if !bytes.Equal(set.GetNetworkId(), cl.NetworkID[:]) || !bytes.Equal(set.GetAlgorithm(), cl.Algorithm[:]) {
		return nil, nil, fmt.Errorf("endorsement set is of network %x and module %x, the claim of %s and %s",
			set.GetNetworkId(), set.GetAlgorithm(), cl.NetworkID, cl.Algorithm)
	}
	if p.GetIndex() >= c.receipt.Proof.Index {
		return nil, nil, fmt.Errorf("endorsement set is record %d, its measurement %d: it must stand before", p.GetIndex(), c.receipt.Proof.Index)
	}
	claims := make([]digest.Digest, len(set.GetClaims()))
	for i, h := range set.GetClaims() {
		if claims[i], err = record.Digest32("claims", h); err != nil {
			return nil, nil, err
		}
	}
	at, hash := int(c.receipt.Message.GetClaimIndex()), claim.Hash(c.receipt.Message.GetClaim())
	if at >= len(claims) {
		return nil, nil, fmt.Errorf("the measurement is claim %d, the set has %d", at, len(claims))
	}
	if claims[at] != hash {
		return nil, nil, fmt.Errorf("claim %d of the set is %s, the measurement's is %s", at, claims[at], hash)
	}
	last := ""
	for _, e := range set.GetEndorsements() {
		if e.GetNodeId() <= last {
			return nil, nil, fmt.Errorf("endorser %q after %q, want ascending distinct ones", e.GetNodeId(), last)
		}
		last = e.GetNodeId()
	}
	return set, claims, nil
}

// endorser opens the registration of the node that made an endorsement.
func (c *checker) endorser(p *recordv1.ProvenRecord, id string) (*recordv1.NodeRegistration, error) {
	what := "registration of node " + id
	node := new(recordv1.NodeRegistration)
	e, err := openMessage(p, what, node, c.checkpoint)
	if err != nil {
		return nil, err
	}
	if err := checkHeader(node.GetHeader(), c.receipt.Sample.NetworkID, record.SubjectNode(id)); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if node.GetNodeId() != id || node.GetRole() != recordv1.Role_ROLE_ENDORSER {
		return nil, fmt.Errorf("%s: it registers %q as %v, want %v", what, node.GetNodeId(), node.GetRole(), recordv1.Role_ROLE_ENDORSER)
	}
	for _, o := range c.contents.Config.GetOrganisations() {
		if o.GetId() != node.GetOrganisation() {
			continue
		}
		if key, err := signature.ParseKey(o.GetRootKey()); err == nil && e.Verify(c.signatures(), key) == nil {
			return node, nil
		}
	}
	if _, err := c.signedEarlier("root key of " + node.GetOrganisation()); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return node, nil
}

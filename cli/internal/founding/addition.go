package founding

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// AddNode makes the keys and the certificate of one more node of an organisation
// that stands in dir, and a member file of this node alone, signed by the root key
// and by every key of the node: what the others add it from.
func AddNode(dir string, root ed25519.PrivateKey, n PlannedNode, now time.Time) (m *Member, path string, err error) {
	mine, _, err := own(dir)
	if err != nil {
		return nil, "", err
	}
	if publicOf(root) != mine.RootKey {
		return nil, "", fmt.Errorf("the key is %x, the root key of %s is %x", publicOf(root).Raw(), mine.Organisation, mine.RootKey.Raw())
	}
	plan := Plan{Organisation: mine.Organisation, Nodes: []PlannedNode{n}}
	if err := plan.check(plan.Nodes); err != nil {
		return nil, "", err
	}
	path = filepath.Join(NodeDir(dir, n.ID), n.ID+memberSuffix)
	if names, err := standing(NodeDir(dir, n.ID)); err != nil || len(names) > 0 {
		return nil, "", errors.Join(err, fmt.Errorf("%w: %s holds %s", ErrStanding, NodeDir(dir, n.ID), strings.Join(names, ", ")))
	}
	caKey, err := identity.ReadKey(caKeyPath(dir, mine.Organisation))
	if err != nil {
		return nil, "", fmt.Errorf("key of the organisation's CA: %w", err)
	}
	authority, err := identity.LoadAuthority(mine.CACertificate, caKey)
	if err != nil {
		return nil, "", err
	}
	k := &keymaker{signers: []ed25519.PrivateKey{root}}
	node, certificate, err := k.node(dir, authority, n, now)
	if err != nil {
		return nil, "", err
	}
	m = &Member{Organisation: mine.Organisation, RootKey: mine.RootKey, EvidenceKey: mine.EvidenceKey, CACertificate: mine.CACertificate, Nodes: []MemberNode{node}}
	text, err := k.sign(m)
	if err != nil {
		return nil, "", err
	}
	return m, path, create(certificate, file{path, text, 0o644})
}

// node makes the keys of a node and the file of its certificate.
func (k *keymaker) node(dir string, authority *identity.Authority, n PlannedNode, now time.Time) (MemberNode, file, error) {
	node := MemberNode{ID: n.ID, Role: RoleName(n.Role), Address: n.Address, RaftAddress: n.RaftAddress}
	at := func(name string) string { return filepath.Join(NodeDir(dir, n.ID), name) }
	tls := k.make("TLS key", at("tls.pem"))
	node.TLSKey, node.SigningKey = publicOf(tls), publicOf(k.make("signing key", at("signing.pem")))
	if n.Role == recordv1.Role_ROLE_REPLICA {
		node.CosignerKey, node.LogKey = publicOf(k.make("cosigner key", at("cosigner.pem"))), publicOf(k.make("log key", at("log.pem")))
	}
	if k.err != nil {
		return node, file{}, k.err
	}
	var err error
	if node.SPKI, err = spkiOf(node.TLSKey.Key); err != nil {
		return node, file{}, err
	}
	certificate, err := authority.Issue(n.ID, node.TLSKey.Raw(), hostsOf(n), now.Add(-time.Hour))
	return node, file{at("tls.crt"), certificate, 0o644}, err
}

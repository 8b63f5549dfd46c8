package founding

import (
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// IssueCertificate replaces the certificate of a node whose key lies in an organisation's directory: for the key of its
// file and the hosts of the member file, by the organisation's own CA. A zero until means without end. Nothing in the
// network depends on it (rule N1).
func IssueCertificate(dir, id string, from, until time.Time) (path string, err error) {
	m, _, err := own(dir)
	if err != nil {
		return "", err
	}
	caKey, err := identity.ReadKey(caKeyPath(dir, m.Organisation))
	if err != nil {
		return "", fmt.Errorf("the organisation's CA: %w", err)
	}
	authority, err := identity.LoadAuthority(m.CACertificate, caKey)
	if err != nil {
		return "", fmt.Errorf("the organisation's CA: %w", err)
	}
	var ids []string
	for _, n := range m.Nodes {
		if ids = append(ids, n.ID); n.ID != id {
			continue
		}
		key, err := identity.ReadKey(filepath.Join(NodeDir(dir, id), "tls.pem"))
		if err != nil {
			return "", err
		}
		public, _ := key.Public().(ed25519.PublicKey) // that of an Ed25519 key
		hosts := hostsOf(PlannedNode{Address: n.Address, RaftAddress: n.RaftAddress})
		issue := func() ([]byte, error) { return authority.IssueUntil(id, public, hosts, from, until) }
		if until.IsZero() {
			issue = func() ([]byte, error) { return authority.Issue(id, public, hosts, from) }
		}
		text, err := issue()
		if err != nil {
			return "", err
		}
		path := filepath.Join(NodeDir(dir, id), "tls.crt")
		return path, durable.WriteFile(path, text, 0o644)
	}
	return "", fmt.Errorf("organisation %s runs no node %.80q; it runs %s", m.Organisation, id, strings.Join(ids, ", "))
}

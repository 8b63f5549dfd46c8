package founding

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// Equip lets a node that AddNode made be started: it writes the node into the
// address book of dir and makes its configuration. A directory that is of no
// network yet, such as one on a new machine, takes the public files from
// networkDir, which "lacre network assemble" wrote and which must be the network
// with that id. It takes the place of nodes that are gone for good, if it replaces
// some. A replica's ledger is begun by "lacre ledger join".
func Equip(dir, networkDir, networkID string, m *Member, replaces []string) (configPath string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	b, err := ReadBook(dir)
	if errors.Is(err, fs.ErrNotExist) && networkDir != "" {
		d, files, report, err := assembled(networkDir, networkID)
		if err != nil {
			return "", err
		}
		if report.Verdict != receipt.Verified {
			return "", fmt.Errorf("network in %s: %s: which network it is nobody else can tell, so give its id", networkDir, report.Verdict)
		}
		b = d.Book()
		public, err := (&Founded{Draft: d, Genesis: files.Genesis, Trust: report.trust, Book: b}).public(dir)
		if err != nil {
			return "", err
		}
		if err := createSame(public...); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	n := m.nodes()[0]
	if err := b.learn(m.nodes(), replaces); err != nil {
		return "", err
	}
	_, text, err := b.configText(dir, n, nil, true)
	if err != nil {
		return "", err
	}
	if err := createSame(file{ConfigPath(dir, n.ID), text, 0o600}); err != nil {
		return "", err
	}
	return ConfigPath(dir, n.ID), b.keep(dir)
}

// Learnt is a node whose configuration was changed.
type Learnt struct {
	ID     string   `json:"id"`
	Role   RoleName `json:"role"`
	Config string   `json:"config"`
}

// Learn writes where nodes are into the address book of dir, and into the
// configuration of each node there: those of member files, and no more those that
// are gone; and those whose TLS key was renewed, by their new SPKIs. Addresses and pinned keys carry no trust: whoever answers there must
// hold the key that the ledger registers. Nothing that an operator set otherwise
// is changed.
func Learn(dir string, members []*Member, gone []string, renewed map[string]digest.Digest) (*Book, []Learnt, error) {
	b, err := ReadBook(dir)
	if err != nil {
		return nil, nil, err
	}
	before := slices.Clone(b.Nodes)
	var nodes []Node
	for _, m := range members {
		nodes = append(nodes, m.nodes()...)
	}
	for id, spki := range renewed {
		n, err := b.Node(id)
		if err != nil {
			return nil, nil, err
		}
		n.SPKI = spki.String()
		nodes = append(nodes, n)
	}
	if err := b.learn(nodes, gone); err != nil {
		return nil, nil, err
	}
	var changed []Learnt
	type rewrite struct {
		path string
		text []byte
	}
	var rewrites []rewrite
	for _, n := range b.Nodes {
		path := ConfigPath(dir, n.ID)
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another organisation's
		}
		if err != nil {
			return nil, nil, err
		}
		again, err := b.reconfigure(n, text, before)
		if err != nil {
			return nil, nil, fmt.Errorf("configuration %s: %w", path, err)
		}
		if again != nil {
			rewrites = append(rewrites, rewrite{path, again})
			changed = append(changed, Learnt{n.ID, RoleName(n.Role), path})
		}
	}
	for _, r := range rewrites {
		if err := durable.ReplaceFile(r.path, r.text); err != nil {
			return nil, nil, err
		}
	}
	if err := b.keep(dir); err != nil {
		return nil, nil, err
	}
	return b, changed, nil
}

// keep writes network.json.
func (b *Book) keep(dir string) error {
	text, err := b.encode()
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, BookFile), text, 0o644)
}

// learn changes the list of nodes.
func (b *Book) learn(nodes []Node, gone []string) error {
	for _, id := range gone {
		if _, err := b.Node(id); err != nil {
			return err
		}
	}
	b.Nodes = slices.DeleteFunc(b.Nodes, func(n Node) bool { return slices.Contains(gone, n.ID) })
	for _, n := range nodes {
		for i, other := range b.Nodes {
			switch {
			case other.ID == n.ID && (other.Organisation != n.Organisation || other.Role != n.Role):
				return fmt.Errorf("node %s is a %s of %s here, the member file has a %s of %s", n.ID, roleText(other.Role), other.Organisation, roleText(n.Role), n.Organisation)
			case other.ID == n.ID:
				n.TilesAddress = other.TilesAddress
				b.Nodes[i] = n
			case other.Address == n.Address || n.RaftAddress != "" && other.RaftAddress == n.RaftAddress:
				return fmt.Errorf("%s of %s and %s of %s are both at %s: if %s is gone for good, say so (--without or --replaces)", other.ID, other.Organisation, n.ID, n.Organisation, n.Address, other.ID)
			}
		}
		if _, err := b.Node(n.ID); err != nil {
			b.Nodes = append(b.Nodes, n)
		}
	}
	slices.SortFunc(b.Nodes, func(a, c Node) int { return strings.Compare(a.ID, c.ID) })
	return nil
}

func roleText(r recordv1.Role) string {
	text, err := RoleName(r).MarshalText()
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// reconfigure is a node's configuration with the addresses of the book in the
// place of those of the book before; nil when it stays as it is. Entries that no
// book had are the operator's own and stay.
func (b *Book) reconfigure(n Node, text []byte, before []Node) ([]byte, error) {
	var c any
	switch n.Role {
	case recordv1.Role_ROLE_REPLICA:
		own := new(ledger.Config)
		c = own
		if err := config.Decode(text, own); err != nil {
			return nil, err
		}
		own.Peers = b.peers(n.ID, own.Peers, before)
	case recordv1.Role_ROLE_ENDORSER:
		own := new(compute.Config)
		c = own
		if err := config.Decode(text, own); err != nil {
			return nil, err
		}
		own.Ledger.Replicas = b.replicas(own.Ledger.Replicas, before)
	case recordv1.Role_ROLE_GATEWAY:
		own := new(ingest.Config)
		c = own
		if err := config.Decode(text, own); err != nil {
			return nil, err
		}
		own.Ledger.Replicas = b.replicas(own.Ledger.Replicas, before)
		own.Endorsers = b.endorsers(own.Endorsers, before)
	case recordv1.Role_ROLE_APPROVAL:
		own := new(approval.Config)
		c = own
		if err := config.Decode(text, own); err != nil {
			return nil, err
		}
		own.Ledger.Replicas = b.replicas(own.Ledger.Replicas, before)
	default:
		return nil, fmt.Errorf("role %v has no service", n.Role)
	}
	again, err := config.Example(c)
	if err != nil || bytes.Equal(again, text) {
		return nil, err
	}
	return again, config.Validate(c)
}

// difference is what the book knows of a role that it did not know before, and
// what it knew and knows no more.
func (b *Book) difference(role recordv1.Role, before []Node) (come, gone []Node) {
	lacks := func(list []Node) func(Node) bool {
		return func(n Node) bool { return n.Role == role && !slices.Contains(list, n) }
	}
	return filter(b.Nodes, lacks(before)), filter(before, lacks(b.Nodes))
}

func filter(list []Node, keep func(Node) bool) (kept []Node) {
	for _, n := range list {
		if keep(n) {
			kept = append(kept, n)
		}
	}
	return kept
}

func (b *Book) peers(self string, list []ledger.Peer, before []Node) []ledger.Peer {
	come, gone := b.difference(recordv1.Role_ROLE_REPLICA, before)
	list = slices.DeleteFunc(list, func(p ledger.Peer) bool {
		return slices.ContainsFunc(slices.Concat(come, gone), func(n Node) bool { return n.ID == p.NodeID })
	})
	for _, n := range come {
		if n.ID != self {
			list = append(list, ledger.Peer{NodeID: n.ID, Address: n.Address, RaftAddress: n.RaftAddress, SPKI: n.SPKI})
		}
	}
	return list
}

func (b *Book) replicas(list []follower.Endpoint, before []Node) []follower.Endpoint {
	come, gone := b.difference(recordv1.Role_ROLE_REPLICA, before)
	list = slices.DeleteFunc(list, func(e follower.Endpoint) bool {
		return slices.ContainsFunc(gone, func(n Node) bool { return n.Address == e.Address && n.SPKI == e.SPKI })
	})
	for _, n := range come {
		list = append(list, follower.Endpoint{Address: n.Address, SPKI: n.SPKI})
	}
	return list
}

func (b *Book) endorsers(list []ingest.Endorser, before []Node) []ingest.Endorser {
	come, gone := b.difference(recordv1.Role_ROLE_ENDORSER, before)
	list = slices.DeleteFunc(list, func(e ingest.Endorser) bool {
		return slices.ContainsFunc(slices.Concat(come, gone), func(n Node) bool { return n.ID == e.NodeID })
	})
	for _, n := range come {
		list = append(list, ingest.Endorser{NodeID: n.ID, Address: n.Address, SPKI: n.SPKI})
	}
	return list
}

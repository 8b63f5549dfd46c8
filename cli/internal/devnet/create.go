package devnet

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/evidencekey"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/loopback"
)

// Create founds a network of a shape in an empty directory, as organisations do that trust each other with
// nothing (package founding), only that all of them are here: each makes its
// keys, each signs the draft, and each sets up its nodes. network.json is
// written last, so an interrupted attempt leaves a directory without one.
func Create(dir string, shape Shape, now time.Time) (*Network, error) {
	if err := shape.Check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty and holds no network.json: remove it, or choose another directory", dir)
	}
	n := &Network{Dir: dir}
	plans, admin, tiles, err := plans(shape)
	if err != nil {
		return nil, err
	}
	members := make([][]byte, len(plans))
	for i, plan := range plans {
		if plan.Organisation == Authority {
			if err := os.MkdirAll(filepath.Dir(n.KeyPath(EvidenceKey)), 0o700); err != nil {
				return nil, err
			}
			key, err := evidencekey.Generate(n.KeyPath(EvidenceKey), "")
			if err != nil {
				return nil, err
			}
			plan.EvidenceKey = founding.EvidenceKey(hex.EncodeToString(key.PublicKey().Bytes()))
		}
		if _, err := founding.Initialise(dir, plan, now); err != nil {
			return nil, err
		}
		if members[i], err = os.ReadFile(founding.MemberPath(dir, plan.Organisation)); err != nil {
			return nil, err
		}
	}
	body, err := statement.GenerateKey(n.KeyPath(NotifiedBody), statement.Ed25519)
	if err != nil {
		return nil, err
	}
	if _, err := statement.GenerateKey(n.KeyPath(Manufacturer), statement.Ed25519); err != nil {
		return nil, err
	}
	key, err := signature.KeyOf(signature.Ed25519, body.Public())
	if err != nil {
		return nil, err
	}
	draft, err := founding.NewDraft(founding.Terms{
		Name: NetworkName, IssuedAtUnixNano: now.Add(-time.Minute).UnixNano(), Quorum: founding.DefaultQuorum(shape.Replicas),
		NotifiedBodies: []founding.Body{{ID: NotifiedBody, Keys: []founding.PublicKey{{Key: key}}, Threshold: 1, Organisation: Authority}}, Limits: founding.DefaultLimits(),
	}, members...)
	if err != nil {
		return nil, err
	}
	var signatures []founding.Signatures
	for _, plan := range plans {
		root, err := identity.ReadKey(n.KeyPath(plan.Organisation))
		if err != nil {
			return nil, err
		}
		organisation, file, err := founding.Sign(draft, root, nil)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, founding.Signatures{Name: organisation, Text: file})
	}
	founded, err := founding.Assemble(draft, signatures...)
	if err != nil {
		return nil, err
	}
	for i := range founded.Book.Nodes {
		founded.Book.Nodes[i].TilesAddress = tiles[founded.Book.Nodes[i].ID]
	}
	n.Book = *founded.Book
	return n, founded.Install(dir, admin)
}

// portsEach is the most that the nodes of one organisation listen at: a replica at
// four (gRPC, Raft, tiles, admin), an endorser and a gateway at two.
const portsEach = 8

// plans are what the organisations run, on free loopback ports, and where the
// replicas serve tiles. They are kept in the configuration, so that a restart
// finds the nodes where they were.
func plans(shape Shape) (plans []founding.Plan, admin founding.Admin, tiles map[string]string, err error) {
	ports, err := loopback.Addresses(len(organisations) * portsEach)
	if err != nil {
		return nil, nil, nil, err
	}
	next := func() string {
		first := ports[0]
		ports = ports[1:]
		return first
	}
	admin, tiles = make(founding.Admin), make(map[string]string)
	endorsers := 0
	for i, o := range organisations {
		p := founding.Plan{Organisation: o.id}
		node := func(id string, role recordv1.Role) {
			n := founding.PlannedNode{ID: id, Role: role, Address: next()}
			if role == recordv1.Role_ROLE_REPLICA {
				n.RaftAddress = next()
				tiles[id] = next()
			}
			admin[id] = next()
			p.Nodes = append(p.Nodes, n)
		}
		if i < shape.Replicas {
			node("replica-"+o.id, recordv1.Role_ROLE_REPLICA)
		}
		if o.endorsing && endorsers < shape.Endorsers {
			endorsers++
			node("endorser-"+o.id, recordv1.Role_ROLE_ENDORSER)
		}
		switch o.id {
		case operator:
			node(Gateway, recordv1.Role_ROLE_GATEWAY)
		case Authority:
			node(Approval, recordv1.Role_ROLE_APPROVAL)
		}
		if len(p.Nodes) > 0 {
			plans = append(plans, p)
		}
	}
	return plans, admin, tiles, nil
}

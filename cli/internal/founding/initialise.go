package founding

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// Plan is what an organisation wants to run.
type Plan struct {
	Organisation string
	EvidenceKey  EvidenceKey // "" unless it is to read evidence
	Nodes        []PlannedNode
}

// PlannedNode is one node of a plan; RaftAddress of a replica only.
type PlannedNode struct {
	ID                   string
	Role                 recordv1.Role
	Address, RaftAddress string // host:port, as others reach it
}

// ErrStanding says that something stands where a new organisation was to be.
var ErrStanding = errors.New("never overwritten")

// CheckEmpty says whether an organisation can be initialised in dir, and if not,
// what stands there.
func CheckEmpty(dir string) error {
	names, err := standing(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		organisation, ok := strings.CutSuffix(name, memberSuffix)
		if !ok {
			continue
		}
		joined := `no network yet ("lacre init ` + dir + ` --network NETDIR" joins one)`
		if b, err := ReadBook(dir); err == nil {
			joined = "joined network " + b.Name + ", id " + b.NetworkID
		}
		return fmt.Errorf("%w: %s holds organisation %s, %s", ErrStanding, dir, organisation, joined)
	}
	return fmt.Errorf("%w: %s is not empty and holds no member file: %s. If that is what an interrupted init left, nothing was handed out: remove it",
		ErrStanding, dir, strings.Join(names, ", "))
}

// Initialise makes an organisation's keys, certificates and member file below
// dir, and returns the member. The member file is written last: a directory
// without one holds what an interrupted attempt left.
func Initialise(dir string, plan Plan, now time.Time) (*Member, error) {
	nodes := slices.Clone(plan.Nodes)
	slices.SortFunc(nodes, func(a, b PlannedNode) int { return strings.Compare(a.ID, b.ID) })
	if err := plan.check(nodes); err != nil {
		return nil, err
	}
	k := &keymaker{}
	root := k.make("root key", rootKeyPath(dir, plan.Organisation))
	ca := k.make("CA key", caKeyPath(dir, plan.Organisation))
	if k.err != nil {
		return nil, k.err
	}
	authority, err := identity.NewAuthority(plan.Organisation, ca, now.Add(-time.Hour))
	if err != nil {
		return nil, err
	}
	k.signers = []ed25519.PrivateKey{root} // the CA's key is nothing that the network knows
	m := &Member{Organisation: plan.Organisation, RootKey: publicOf(root), EvidenceKey: plan.EvidenceKey, CACertificate: authority.DER()}
	files := []file{{caPath(dir, plan.Organisation), authority.PEM(), 0o644}}
	for _, n := range nodes {
		node, certificate, err := k.node(dir, authority, n, now)
		if err != nil {
			return nil, err
		}
		files = append(files, certificate)
		m.Nodes = append(m.Nodes, node)
	}
	text, err := k.sign(m)
	if err != nil {
		return nil, err
	}
	return m, create(append(files, file{MemberPath(dir, plan.Organisation), text, 0o644})...)
}

// keymaker makes keys in files and remembers them; its error sticks.
type keymaker struct {
	signers []ed25519.PrivateKey
	err     error
}

func (k *keymaker) make(what, path string) ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if k.err == nil && err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if k.err == nil && err == nil {
		err = identity.WriteKey(path, key)
	}
	if k.err == nil && err != nil {
		k.err = fmt.Errorf("%s: %w", what, err)
	}
	k.signers = append(k.signers, key)
	return key
}

// sign makes the member file: one signature of every key in it.
func (k *keymaker) sign(m *Member) ([]byte, error) {
	payload, err := m.encode()
	if err != nil {
		return nil, err
	}
	e := &envelope.Envelope{PayloadType: MemberType, Payload: payload}
	for _, key := range k.signers {
		if err := e.Sign(key, signature.Ed25519); err != nil {
			return nil, err
		}
	}
	text, err := e.Encode()
	if err != nil {
		return nil, fmt.Errorf("member file: %w", err)
	}
	text = append(text, '\n')
	_, _, err = ParseMember(text) // what others will check
	return text, err
}

func publicOf(key ed25519.PrivateKey) PublicKey {
	public, err := signature.KeyOf(signature.Ed25519, key.Public())
	if err != nil {
		return PublicKey{} // refused by check
	}
	return PublicKey{public}
}

func (p *Plan) check(sorted []PlannedNode) error {
	failures := []error{record.CheckID(p.Organisation)}
	if len(sorted) == 0 {
		failures = append(failures, errors.New("an organisation runs at least one node"))
	}
	used := make(map[string]string)
	for i, n := range sorted {
		failures = append(failures, record.CheckID(n.ID))
		if i > 0 && n.ID == sorted[i-1].ID {
			failures = append(failures, fmt.Errorf("two nodes have the id %s", n.ID))
		}
		addresses := []string{n.Address}
		if n.Role == recordv1.Role_ROLE_REPLICA {
			addresses = append(addresses, n.RaftAddress)
		}
		for _, a := range addresses {
			if err := checkAddress(a); err != nil {
				failures = append(failures, fmt.Errorf("node %s: %w", n.ID, err))
			} else if used[a] != "" {
				failures = append(failures, fmt.Errorf("node %s: address %s is that of %s already", n.ID, a, used[a]))
			}
			used[a] = n.ID
		}
	}
	return errors.Join(failures...)
}

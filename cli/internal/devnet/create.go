package devnet

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// The limits of a development network; a real one signs its own.
var limits = &recordv1.Limits{
	LatenessBoundNano:    int64(72 * time.Hour),
	FutureBoundNano:      int64(10 * time.Second),
	MaxMissingRanges:     64,
	MaxUncertifiedBlocks: 16,
}

// maker builds a network; its error sticks.
type maker struct {
	*Network
	now     time.Time
	roots   map[string]ed25519.PrivateKey
	keys    map[string]nodeKeys
	network digest.Digest
	err     error
}

type nodeKeys struct {
	tls                       *identity.Node
	signing, cosigner, logKey ed25519.PrivateKey
}

// create makes keys, the genesis file, the trust bundle and a configuration for
// every node. network.json is written last, so an interrupted attempt leaves a
// directory without one.
func create(dir string, now time.Time) (*Network, error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty and holds no network.json: remove it, or choose another directory", dir)
	}
	m := &maker{Network: &Network{Dir: dir, Name: NetworkName}, now: now,
		roots: make(map[string]ed25519.PrivateKey), keys: make(map[string]nodeKeys)}
	m.parties()
	m.genesis()
	m.configurations()
	m.initReplicas()
	m.writeJSON(filepath.Join(dir, "network.json"), m.Network)
	return m.Network, m.err
}

func (m *maker) do(step func() error) {
	if m.err == nil {
		m.err = step()
	}
}

// key makes a new Ed25519 key in a file.
func (m *maker) key(path string) (key ed25519.PrivateKey) {
	m.do(func() error {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		var err error
		if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return err
		}
		return identity.WriteKey(path, key)
	})
	return key
}

// parties makes the keys of everybody and gives every node its addresses.
func (m *maker) parties() {
	for _, o := range organisations {
		m.roots[o.id] = m.key(m.KeyPath(o.id))
		m.node("replica-"+o.id, o.id, recordv1.Role_ROLE_REPLICA)
		if o.endorsing {
			m.node("endorser-"+o.id, o.id, recordv1.Role_ROLE_ENDORSER)
		}
	}
	m.node(Gateway, "operator", recordv1.Role_ROLE_GATEWAY)
	m.node(Approval, "authority", recordv1.Role_ROLE_APPROVAL)
	m.key(m.KeyPath(NotifiedBody))
	m.key(m.KeyPath(Manufacturer))
	slices.SortFunc(m.Nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	m.ports()
}

func (m *maker) node(id, organisation string, role recordv1.Role) {
	dir := m.NodeDir(id)
	keys := nodeKeys{signing: m.key(filepath.Join(dir, "signing.pem"))}
	tlsKey := m.key(filepath.Join(dir, "tls.pem"))
	if role == recordv1.Role_ROLE_REPLICA {
		keys.cosigner = m.key(filepath.Join(dir, "cosigner.pem"))
		keys.logKey = m.key(filepath.Join(dir, "log.pem"))
	}
	m.do(func() (err error) {
		if keys.tls, err = identity.NewNode(tlsKey); err != nil {
			return err
		}
		spki := keys.tls.SPKI()
		m.keys[id] = keys
		m.Nodes = append(m.Nodes, Node{ID: id, Organisation: organisation, Role: role, SPKI: hex.EncodeToString(spki[:])})
		return nil
	})
}

// ports finds free loopback ports. They are kept in the configuration, so that
// a restart finds the nodes where they were.
func (m *maker) ports() {
	m.do(func() (err error) {
		var held []net.Listener
		defer func() {
			for _, l := range held {
				err = errors.Join(err, l.Close())
			}
		}()
		free := func() (string, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding a local address does not block.
			if err != nil {
				return "", err
			}
			held = append(held, l)
			return l.Addr().String(), nil
		}
		for i := range m.Nodes {
			n := &m.Nodes[i]
			if n.Address, err = free(); err != nil {
				return err
			}
			if n.Role == recordv1.Role_ROLE_REPLICA {
				if n.RaftAddress, err = free(); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func tagged(kind signature.Kind, key ed25519.PrivateKey) []byte {
	k, err := signature.KeyOf(kind, key.Public())
	if err != nil {
		panic(err) // an Ed25519 key has every Ed25519 kind
	}
	return k.Bytes()
}

// genesis signs the configuration and the registrations, and writes the genesis
// file and the trust bundle.
func (m *maker) genesis() {
	m.do(func() error {
		config, signers, err := m.networkConfig()
		if err != nil {
			return err
		}
		genesis := &recordv1.Genesis{BlockTimeUnixNano: m.now.Add(-time.Minute).UnixNano()}
		payload, err := wire.Encode(config)
		if err != nil {
			return err
		}
		m.network = state.NetworkID(payload)
		m.NetworkID = m.network.String()
		if err := addStatement(genesis, config, signers...); err != nil {
			return err
		}
		for _, n := range m.Nodes {
			spki := m.keys[n.ID].tls.SPKI()
			registration := &recordv1.NodeRegistration{
				Header: &recordv1.StatementHeader{NetworkId: m.network[:], Subject: record.SubjectNode(n.ID), Sequence: 1, IssuedAtUnixNano: m.now.UnixNano()},
				NodeId: n.ID, Organisation: n.Organisation, Role: n.Role,
				Key: tagged(signature.Ed25519ZIP215, m.keys[n.ID].signing), TlsSpki: spki[:],
			}
			if err := addStatement(genesis, registration, m.roots[n.Organisation]); err != nil {
				return err
			}
		}
		file, err := wire.Encode(genesis)
		if err != nil {
			return err
		}
		if err := durable.CreateFile(m.genesisPath(), file, 0o600); err != nil {
			return err
		}
		policy, err := state.PolicyOf(config, m.network)
		if err != nil {
			return err
		}
		bundle, err := trust.New(trust.Epoch{Policy: policy})
		if err != nil {
			return err
		}
		return durable.CreateFile(m.TrustPath(), bundle.Bytes(), 0o644)
	})
}

func (m *maker) networkConfig() (*recordv1.NetworkConfig, []crypto.Signer, error) {
	notified, err := identity.ReadKey(m.KeyPath(NotifiedBody))
	if err != nil {
		return nil, nil, err
	}
	config := &recordv1.NetworkConfig{
		Header: &recordv1.StatementHeader{Subject: record.SubjectNetwork, Sequence: 1, IssuedAtUnixNano: m.now.UnixNano()},
		Name:   NetworkName, Quorum: 3, RecordVersion: 1, Limits: limits,
		NotifiedBodies: []*recordv1.NotifiedBody{{Id: NotifiedBody, Key: tagged(signature.Ed25519, notified)}},
	}
	var signers []crypto.Signer
	for _, o := range organisations {
		config.Organisations = append(config.Organisations, &recordv1.Organisation{Id: o.id, RootKey: tagged(signature.Ed25519, m.roots[o.id])})
		signers = append(signers, m.roots[o.id])
	}
	for _, n := range m.ByRole(recordv1.Role_ROLE_REPLICA) {
		config.Replicas = append(config.Replicas, &recordv1.Replica{
			NodeId: n.ID, Organisation: n.Organisation,
			CosignerKey: tagged(signature.Ed25519, m.keys[n.ID].cosigner), LogKey: tagged(signature.Ed25519, m.keys[n.ID].logKey),
		})
	}
	return config, signers, nil
}

func addStatement(genesis *recordv1.Genesis, statement proto.Message, signers ...crypto.Signer) error {
	e, err := record.NewStatement(statement, signers...)
	if err != nil {
		return err
	}
	leaf, err := record.FromEnvelope(e)
	if err != nil {
		return err
	}
	genesis.Records = append(genesis.Records, leaf)
	return nil
}

// configurations writes a configuration file for every node.
func (m *maker) configurations() {
	follow := follower.Config{NetworkID: m.NetworkID}
	for _, n := range m.ByRole(recordv1.Role_ROLE_REPLICA) {
		follow.Replicas = append(follow.Replicas, follower.Endpoint{Address: n.Address, SPKI: n.SPKI})
	}
	for _, n := range m.Nodes {
		dir := m.NodeDir(n.ID)
		tlsKey, signing := filepath.Join(dir, "tls.pem"), filepath.Join(dir, "signing.pem")
		server := rpcserver.Config{Listen: n.Address}
		switch n.Role {
		case recordv1.Role_ROLE_REPLICA:
			m.configure(n.ID, m.replicaConfig(n))
		case recordv1.Role_ROLE_ENDORSER:
			m.configure(n.ID, &compute.Config{NodeID: n.ID, TLSKey: tlsKey, SigningKey: signing, Modules: filepath.Join(dir, "modules"), Server: server, Ledger: follow})
		case recordv1.Role_ROLE_GATEWAY:
			c := &ingest.Config{NodeID: n.ID, TLSKey: tlsKey, SigningKey: signing, Server: server, Ledger: follow}
			for _, e := range m.ByRole(recordv1.Role_ROLE_ENDORSER) {
				c.Endorsers = append(c.Endorsers, ingest.Endorser{NodeID: e.ID, Address: e.Address, SPKI: e.SPKI})
			}
			m.configure(n.ID, c)
		case recordv1.Role_ROLE_APPROVAL:
			m.configure(n.ID, &approval.Config{NodeID: n.ID, TLSKey: tlsKey, Server: server, Ledger: follow})
		}
	}
}

func (m *maker) replicaConfig(n Node) *ledger.Config {
	dir := m.NodeDir(n.ID)
	c := &ledger.Config{
		NodeID: n.ID, DataDir: filepath.Join(dir, "data"), Genesis: m.genesisPath(),
		TLSKey: filepath.Join(dir, "tls.pem"), SigningKey: filepath.Join(dir, "signing.pem"),
		CosignerKey: filepath.Join(dir, "cosigner.pem"), LogKey: filepath.Join(dir, "log.pem"),
		Server: rpcserver.Config{Listen: n.Address}, RaftListen: n.RaftAddress, Loopback: true,
	}
	for _, p := range m.ByRole(recordv1.Role_ROLE_REPLICA) {
		if p.ID != n.ID {
			c.Peers = append(c.Peers, ledger.Peer{NodeID: p.ID, Address: p.Address, RaftAddress: p.RaftAddress})
		}
	}
	return c
}

func configPath(n *Network, id string) string { return filepath.Join(n.NodeDir(id), "config.yaml") }

func (m *maker) configure(id string, c any) {
	m.do(func() error {
		text, err := config.Example(c)
		if err != nil {
			return err
		}
		return durable.CreateFile(configPath(m.Network, id), text, 0o600)
	})
}

func (m *maker) initReplicas() {
	for _, n := range m.ByRole(recordv1.Role_ROLE_REPLICA) {
		m.do(func() error { return ledger.Init(*m.replicaConfig(n), slog.New(slog.DiscardHandler)) })
	}
}

func (m *maker) writeJSON(path string, value any) {
	m.do(func() error {
		b, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return err
		}
		return durable.CreateFile(path, append(b, '\n'), 0o644)
	})
}

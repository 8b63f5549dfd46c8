package tlog_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// network is a test network: logs, replicas and a tree of records, all derived
// from fixed names, so that golden vectors stay.
type network struct {
	t        testing.TB
	origin   string
	logs     []ed25519.PrivateKey
	replicas []ed25519.PrivateKey
	names    []string // of the replicas
	records  [][]byte
	tree     *tlog.Range
	nodes    nodeMap
	policy   *tlog.Policy
}

// nodeMap is a store of tree nodes in memory.
type nodeMap map[tlog.NodeID]digest.Digest

func (m nodeMap) Node(id tlog.NodeID) (digest.Digest, error) {
	h, ok := m[id]
	if !ok {
		return h, fmt.Errorf("no node %d/%d", id.Level, id.Index)
	}
	return h, nil
}

const genesisText = "a genesis document"

func signer(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// newNetwork has n replicas, quorum q, and a tree of some records.
func newNetwork(t testing.TB, n, q, records int) *network {
	t.Helper()
	origin, err := tlog.Origin("ledger.example", digest.Of(digest.Statement, []byte(genesisText)))
	if err != nil {
		t.Fatal(err)
	}
	net := &network{t: t, origin: origin, tree: tlog.NewRange(), nodes: nodeMap{}}
	var logKeys, replicaKeys []tlog.VerifierKey
	for i := range n {
		name := fmt.Sprintf("replica%d.example", i)
		net.names = append(net.names, name)
		net.logs = append(net.logs, signer("log "+name))
		net.replicas = append(net.replicas, signer(name))
		logKeys = append(logKeys, net.key(origin, tlog.LogKey, net.logs[i]))
		replicaKeys = append(replicaKeys, net.key(name, tlog.CosignerKey, net.replicas[i]))
	}
	if net.policy, err = tlog.NewQuorumPolicy(logKeys, replicaKeys, q); err != nil {
		t.Fatal(err)
	}
	for i := range records {
		record := fmt.Appendf(nil, "record %d", i)
		net.records = append(net.records, record)
		net.tree.AppendVisit([]digest.Digest{tlog.LeafHash(record)}, func(id tlog.NodeID, h digest.Digest) { net.nodes[id] = h })
	}
	return net
}

func (n *network) key(name string, keyType tlog.KeyType, private ed25519.PrivateKey) tlog.VerifierKey {
	n.t.Helper()
	key, err := tlog.NewVerifierKey(name, keyType, public(private))
	if err != nil {
		n.t.Fatal(err)
	}
	return key
}

func (n *network) checkpoint() tlog.Checkpoint {
	return tlog.Checkpoint{Origin: n.origin, Size: n.tree.Size(), Root: n.tree.Root()}
}

func (n *network) signLog(replica int, c tlog.Checkpoint) tlog.LogSignature {
	n.t.Helper()
	s, err := tlog.SignLog(n.logs[replica], c)
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

func (n *network) cosign(replica int, c tlog.Checkpoint) tlog.Cosignature {
	n.t.Helper()
	s, err := tlog.Cosign(n.replicas[replica], n.names[replica], c, 1_700_000_000+uint64(replica))
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// certify signs the present tree by the given replicas; the first leads.
func (n *network) certify(replicas ...int) *tlog.Certificate {
	n.t.Helper()
	c := n.checkpoint()
	var cosignatures []tlog.Cosignature
	for _, r := range replicas {
		cosignatures = append(cosignatures, n.cosign(r, c))
	}
	certificate, err := tlog.NewCertificate(c, n.signLog(replicas[0], c), cosignatures)
	if err != nil {
		n.t.Fatal(err)
	}
	return certificate
}

// receipt proves the record at index, with the record as extra data.
func (n *network) receipt(index uint64, certificate *tlog.Certificate) *tlog.Proof {
	n.t.Helper()
	path, err := tlog.InclusionProof(n.nodes, index, certificate.Checkpoint.Size)
	if err != nil {
		n.t.Fatal(err)
	}
	p, err := tlog.NewProof(n.records[index], index, path, certificate)
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

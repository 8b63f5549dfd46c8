// Package receipttest founds a small network in memory, for tests of what is
// given out of a ledger: receipts, bundles and audits. Every key, time and byte
// follows from fixed names, so golden vectors stay.
//
// Its blocks are made by core/state, the one transition; nothing is faked but
// the ordering and the clocks.
package receipttest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// The parties.
var (
	Organisations = []string{"alpha", "beta", "gamma", "delta"} // one replica each, the first three an endorser
	NotifiedBody  = "nb"
)

// Quorum of the four replicas.
const Quorum = 3

const (
	foundedUnix  = 1_790_000_000 // seconds; block 0
	second       = 1_000_000_000
	oneYear      = 366 * 86_400
	latenessNano = 3_600 * second
)

// Block is one block as a replica has it.
type Block struct {
	Leaves      [][]byte       // the header last
	Raw         map[int][]byte // raw vectors by leaf
	Ref         state.BlockRef
	Certificate *tlog.Certificate
}

// Network is a ledger and all its parties. Its fields may be read; use the
// methods to change it. It implements state.View.
type Network struct {
	t         testing.TB
	ID        digest.Digest // the network's
	Origin    string
	Config    *recordv1.NetworkConfig
	Blocks    []*Block
	Algorithm Algorithm
	Approval  digest.Digest // statement digest of the approval in force
	state     map[string][]byte
	leaves    [][]byte
	tree      *tlog.Range
	nodes     map[tlog.NodeID]digest.Digest
	nowUnix   uint64 // of the cosigners' clocks
	meters    map[string]*meter
}

// Key is the Ed25519 key of a party by its name.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("receipttest key of " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func tagged(kind signature.Kind, name string) []byte {
	key, err := signature.KeyOf(kind, Key(name).Public())
	if err != nil {
		panic(err)
	}
	return key.Bytes()
}

func spki(name string) []byte { return digest.Of(digest.SPKI, []byte(name)).Bytes() }

// ReplicaID and EndorserID name an organisation's nodes.
func ReplicaID(organisation string) string { return "replica-" + organisation }

// EndorserID names an organisation's endorser.
func EndorserID(organisation string) string { return "endorser-" + organisation }

// Found makes the genesis block (configuration, replicas), then a block with
// the endorsers, then one with the approval of the algorithm.
func Found(t testing.TB, algorithm Algorithm) *Network {
	t.Helper()
	n := &Network{
		t: t, Algorithm: algorithm, state: map[string][]byte{}, tree: tlog.NewRange(),
		nodes: map[tlog.NodeID]digest.Digest{}, nowUnix: foundedUnix, meters: map[string]*meter{},
	}
	n.Config = &recordv1.NetworkConfig{
		Header: &recordv1.StatementHeader{Subject: record.SubjectNetwork, Sequence: 1, IssuedAtUnixNano: foundedUnix * second},
		Name:   "test.lacre", Quorum: Quorum, RecordVersion: 1,
		NotifiedBodies: []*recordv1.NotifiedBody{{Id: NotifiedBody, Key: tagged(signature.Ed25519, NotifiedBody)}},
		Limits: &recordv1.Limits{
			LatenessBoundNano: latenessNano, FutureBoundNano: 10 * second, MaxMissingRanges: 4, MaxUncertifiedBlocks: 8,
		},
	}
	sorted := slices.Sorted(slices.Values(Organisations))
	var roots []string
	for _, o := range sorted {
		roots = append(roots, "root "+o)
		n.Config.Organisations = append(n.Config.Organisations, &recordv1.Organisation{Id: o, RootKey: tagged(signature.Ed25519, "root "+o)})
		n.Config.Replicas = append(n.Config.Replicas, &recordv1.Replica{
			NodeId: ReplicaID(o), Organisation: o,
			CosignerKey: tagged(signature.Ed25519, "cosigner "+o), LogKey: tagged(signature.Ed25519, "log "+o),
		})
	}
	genesis := [][]byte{n.sign(n.Config, roots...)}
	n.ID = statementDigest(t, genesis[0])
	var err error
	if n.Origin, err = tlog.Origin(n.Config.GetName(), n.ID); err != nil {
		t.Fatal(err)
	}
	for _, o := range sorted {
		genesis = append(genesis, n.registerNode(ReplicaID(o), o, recordv1.Role_ROLE_REPLICA))
	}
	b, err := state.Genesis(genesis, foundedUnix*second, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n.seal(b, nil)
	var nodes [][]byte
	for _, o := range Organisations[:3] {
		nodes = append(nodes, n.registerNode(EndorserID(o), o, recordv1.Role_ROLE_ENDORSER))
	}
	n.Statements(nodes...)
	n.approve()
	return n
}

// sign makes the leaf of a statement signed by the named keys.
func (n *Network) sign(m proto.Message, names ...string) []byte {
	n.t.Helper()
	e, err := record.NewStatement(m)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, name := range names {
		if err := e.Sign(Key(name), signature.Ed25519); err != nil {
			n.t.Fatal(err)
		}
	}
	leaf, err := record.FromEnvelope(e)
	if err != nil {
		n.t.Fatal(err)
	}
	return leaf
}

// Header places the next statement on a subject.
func (n *Network) Header(subject string) *recordv1.StatementHeader {
	n.t.Helper()
	h := &recordv1.StatementHeader{NetworkId: n.ID.Bytes(), Subject: subject, Sequence: 1, IssuedAtUnixNano: foundedUnix * second}
	if len(n.Blocks) == 0 {
		return h
	}
	sequence, predecessor, err := state.NextStatement(n, subject)
	if err != nil {
		n.t.Fatal(err)
	}
	h.Sequence = sequence
	if sequence > 1 {
		h.Predecessor = predecessor.Bytes()
	}
	return h
}

func (n *Network) registerNode(id, organisation string, role recordv1.Role) []byte {
	return n.sign(&recordv1.NodeRegistration{
		Header: n.Header(record.SubjectNode(id)), NodeId: id, Organisation: organisation, Role: role,
		Key: tagged(signature.Ed25519ZIP215, id), TlsSpki: spki(id),
	}, "root "+organisation)
}

func statementDigest(t testing.TB, leaf []byte) digest.Digest {
	t.Helper()
	r, err := record.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return record.ToEnvelope(r.GetStatement()).Digest()
}

// Statements makes a block of statements and returns their indices.
func (n *Network) Statements(leaves ...[]byte) []uint64 {
	n.t.Helper()
	b := n.begin()
	var at []uint64
	for _, leaf := range leaves {
		at = append(at, n.submit(b, state.ParseSubmission([][]byte{leaf}, nil))...)
	}
	n.seal(b, nil)
	return at
}

func (n *Network) begin() *state.Block {
	n.t.Helper()
	head := n.Blocks[len(n.Blocks)-1]
	b, err := state.Begin(n, head.Ref, state.Options{}, head.Ref.Height, head.Certificate.Text())
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

func (n *Network) submit(b *state.Block, s *state.Submission) []uint64 {
	n.t.Helper()
	outcomes, err := b.Submit(s)
	if err != nil {
		n.t.Fatal(err)
	}
	var at []uint64
	for i, o := range outcomes {
		if !o.Accepted {
			n.t.Fatalf("record %d is refused: %s, %s", i, o.Reason, o.Detail)
		}
		at = append(at, o.Index)
	}
	return at
}

// seal finishes a block, applies it and certifies it.
func (n *Network) seal(b *state.Block, raw map[int][]byte) {
	n.t.Helper()
	sealed, err := b.Seal()
	if err != nil {
		n.t.Fatal(err)
	}
	n.tree.AppendVisit(sealed.LeafHashes, func(id tlog.NodeID, h digest.Digest) { n.nodes[id] = h })
	for _, w := range sealed.Writes {
		n.state[string(w.Key)] = w.Value
	}
	n.leaves = append(n.leaves, sealed.Records...)
	n.nowUnix++
	block := &Block{Leaves: sealed.Records, Raw: raw, Ref: sealed.Complete(n.tree.Root())}
	n.Blocks = append(n.Blocks, block)
	block.Certificate = n.Certify(Organisations...)
}

// Certify signs the newest tree by these organisations' replicas, the first as
// the log, and keeps what the quorum needs.
func (n *Network) Certify(organisations ...string) *tlog.Certificate {
	n.t.Helper()
	c := tlog.Checkpoint{Origin: n.Origin, Size: n.tree.Size(), Root: n.tree.Root()}
	log, cosignatures := n.Cosign(c, organisations...)
	quorum, err := state.QuorumAt(n, uint64(len(n.Blocks)-1))
	if err != nil {
		n.t.Fatal(err)
	}
	certificate, err := quorum.Assemble(c, log, cosignatures)
	if err != nil {
		n.t.Fatal(err)
	}
	return certificate
}

// Cosign signs any checkpoint, also one that no honest replica would sign.
func (n *Network) Cosign(c tlog.Checkpoint, organisations ...string) (tlog.LogSignature, []tlog.Cosignature) {
	n.t.Helper()
	log, err := tlog.SignLog(Key("log "+organisations[0]), c)
	if err != nil {
		n.t.Fatal(err)
	}
	var cosignatures []tlog.Cosignature
	for _, o := range organisations {
		s, err := tlog.Cosign(Key("cosigner "+o), state.CosignerName(n.Origin, ReplicaID(o)), c, n.nowUnix)
		if err != nil {
			n.t.Fatal(err)
		}
		cosignatures = append(cosignatures, s)
	}
	return log, cosignatures
}

// Trust is the trust bundle of the genesis configuration.
func (n *Network) Trust() *trust.Bundle {
	n.t.Helper()
	policy, err := state.PolicyOf(n.Config, n.ID)
	if err != nil {
		n.t.Fatal(err)
	}
	b, err := trust.New(trust.Epoch{Policy: policy})
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// Get implements state.View.
func (n *Network) Get(key []byte) ([]byte, error) { return n.state[string(key)], nil }

// Block implements state.View.
func (n *Network) Block(height uint64) (state.BlockRef, bool, error) {
	if height >= uint64(len(n.Blocks)) {
		return state.BlockRef{}, false, nil
	}
	return n.Blocks[height].Ref, true, nil
}

// Record implements state.View.
func (n *Network) Record(index uint64) ([]byte, error) {
	if index >= uint64(len(n.leaves)) {
		return nil, fmt.Errorf("leaf %d of %d", index, len(n.leaves))
	}
	return n.leaves[index], nil
}

// Node implements tlog.Nodes.
func (n *Network) Node(id tlog.NodeID) (digest.Digest, error) {
	h, ok := n.nodes[id]
	if !ok {
		return h, fmt.Errorf("no node %d/%d", id.Level, id.Index)
	}
	return h, nil
}

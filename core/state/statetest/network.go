package statetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"math/big"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// GenesisUnix is the time of every genesis block, in seconds.
const GenesisUnix = 1_767_225_600 // 2026-01-01

// Second is in nanoseconds, the unit of times on the ledger.
const Second = int64(1_000_000_000)

// Node is a registered node with its signing key.
type Node struct {
	ID           string
	Organisation string
	Role         recordv1.Role
	Key          ed25519.PrivateKey
}

// Replica is a node of the quorum with its keys for checkpoints.
type Replica struct {
	Node
	Cosigner ed25519.PrivateKey
	Log      ed25519.PrivateKey
}

// Options choose another network than the default of four organisations.
type Options struct {
	Organisations int // each with one replica and one endorser; 0 means 4
	Limits        *recordv1.Limits
	Policy        policy.Policy // zero means 2 of all organisations (1 of 1)
}

// Network is a network in memory.
type Network struct {
	TB        testing.TB
	Store     *Store
	ID        digest.Digest
	Config    *recordv1.NetworkConfig // in force
	Replicas  []Replica               // of the configuration in force
	Endorsers []Node
	Gateway   Node
	Policy    policy.Policy
	Module    []byte
	Algorithm digest.Digest
	Approval  digest.Digest // statement digest of the approval in force
	NowUnix   int64         // seconds; what the next certificate is stamped with
	Verifier  signature.Verifier
}

// Key is the Ed25519 key of a name.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("statetest/" + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// P256Key is the ECDSA P-256 key of a name.
func P256Key(name string) *ecdsa.PrivateKey {
	for i := 0; ; i++ {
		seed := sha256.Sum256([]byte(fmt.Sprintf("statetest/p256/%s/%d", name, i)))
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), new(big.Int).SetBytes(seed[:]).FillBytes(make([]byte, 32)))
		if err == nil {
			return key
		}
	}
}

// Root is the root key of an organisation.
func Root(organisation string) ed25519.PrivateKey { return Key("root/" + organisation) }

// Body is the key of the notified body "nb".
func Body() ed25519.PrivateKey { return Key("body/nb") }

// Maker is the manufacturer's key.
func Maker() ed25519.PrivateKey { return Key("maker") }

// Tagged is the form on the ledger of a signer's public key.
func Tagged(kind signature.Kind, signer crypto.Signer) []byte {
	key, err := signature.KeyOf(kind, signer.Public())
	if err != nil {
		panic(err)
	}
	return key.Bytes()
}

// OrganisationID is the id of the i-th organisation, from 0.
func OrganisationID(i int) string { return fmt.Sprintf("org-%02d", i) }

// New is a network with its genesis block applied and nothing approved yet.
func New(tb testing.TB, o Options) *Network {
	tb.Helper()
	if o.Organisations == 0 {
		o.Organisations = 4
	}
	if o.Limits == nil {
		o.Limits = &recordv1.Limits{
			LatenessBoundNano: 24 * 3600 * Second, FutureBoundNano: 10 * Second,
			MaxMissingRanges: 8, MaxUncertifiedBlocks: 8,
		}
	}
	n := &Network{
		TB: tb, Store: NewStore(), NowUnix: GenesisUnix, Policy: o.Policy,
		Gateway: Node{ID: "gateway-00", Organisation: OrganisationID(0), Role: recordv1.Role_ROLE_GATEWAY, Key: Key("node/gateway-00")},
		Module:  []byte("statetest module"),
	}
	n.Algorithm = digest.Plain(n.Module)
	q := (o.Organisations - (o.Organisations-1)/3)
	config := &recordv1.NetworkConfig{
		Header: &recordv1.StatementHeader{Subject: record.SubjectNetwork, Sequence: 1, IssuedAtUnixNano: GenesisUnix * Second},
		Name:   "test.lacre", Quorum: uint32(q), Limits: o.Limits, RecordVersion: state.RecordVersion,
		NotifiedBodies: []*recordv1.NotifiedBody{{Id: "nb", Keys: [][]byte{Tagged(signature.Ed25519, Body())}, Threshold: 1, Organisation: OrganisationID(0)}},
	}
	var leaves []policy.Policy
	for i := range o.Organisations {
		org := OrganisationID(i)
		leaves = append(leaves, policy.Organisation(org))
		config.Organisations = append(config.Organisations, &recordv1.Organisation{Id: org, RootKey: Tagged(signature.Ed25519, Root(org))})
		r := NewReplica(fmt.Sprintf("replica-%02d", i), org)
		n.Replicas = append(n.Replicas, r)
		config.Replicas = append(config.Replicas, r.Message())
		id := fmt.Sprintf("endorser-%02d", i)
		n.Endorsers = append(n.Endorsers, Node{ID: id, Organisation: org, Role: recordv1.Role_ROLE_ENDORSER, Key: Key("node/" + id)})
	}
	if n.Policy.Threshold == 0 && n.Policy.Organisation == "" {
		n.Policy = policy.OutOf(min(2, len(leaves)), leaves...)
	}
	n.Config = config
	records := n.GenesisRecords()
	block, err := state.Genesis(records, GenesisUnix*Second, n.options())
	if err != nil {
		tb.Fatalf("genesis: %v", err)
	}
	n.apply(block)
	return n
}

// NewReplica makes the keys of a replica.
func NewReplica(id, organisation string) Replica {
	return Replica{
		Node:     Node{ID: id, Organisation: organisation, Role: recordv1.Role_ROLE_REPLICA, Key: Key("node/" + id)},
		Cosigner: Key("cosigner/" + id), Log: Key("log/" + id),
	}
}

// Message is the replica as a configuration lists it.
func (r Replica) Message() *recordv1.Replica {
	return &recordv1.Replica{
		NodeId: r.ID, Organisation: r.Organisation,
		CosignerKey: Tagged(signature.Ed25519, r.Cosigner), LogKey: Tagged(signature.Ed25519, r.Log),
	}
}

// GenesisRecords are the network's first records: the configuration, signed by
// all, and the registrations of its nodes. It sets ID.
func (n *Network) GenesisRecords() [][]byte {
	var roots []crypto.Signer
	for _, o := range n.Config.Organisations {
		roots = append(roots, Root(o.Id))
	}
	e, err := record.NewStatement(n.Config, roots...)
	n.must(err)
	n.ID = e.Digest()
	leaf, err := record.FromEnvelope(e)
	n.must(err)
	records := [][]byte{leaf}
	nodes := append([]Node{n.Gateway}, n.Endorsers...)
	for _, r := range n.Replicas {
		nodes = append(nodes, r.Node)
	}
	for _, node := range nodes {
		records = append(records, n.Sign(n.Registration(node, 1, digest.Zero), Root(node.Organisation)))
	}
	return records
}

// SPKI stands for the digest of a TLS key; entries of old versions that tests
// keep depend on it.
func SPKI(id string) digest.Digest { return digest.Plain([]byte("lacre/spki/v1\x00" + id)) }

// Registration is the registration of a node at a place of its chain.
func (n *Network) Registration(node Node, sequence uint64, predecessor digest.Digest) *recordv1.NodeRegistration {
	spki := SPKI(node.ID)
	h := &recordv1.StatementHeader{
		NetworkId: n.ID[:], Subject: record.SubjectNode(node.ID), Sequence: sequence, IssuedAtUnixNano: n.NowUnix * Second,
	}
	if !predecessor.IsZero() {
		h.Predecessor = predecessor[:]
	}
	return &recordv1.NodeRegistration{
		Header: h, NodeId: node.ID, Organisation: node.Organisation, Role: node.Role,
		Key: Tagged(signature.Ed25519ZIP215, node.Key), TlsSpki: spki[:],
	}
}

// Header is the header of the next statement on a subject.
func (n *Network) Header(subject string) *recordv1.StatementHeader {
	sequence, predecessor, err := state.NextStatement(n.Store, subject)
	n.must(err)
	h := &recordv1.StatementHeader{
		NetworkId: n.ID.Bytes(), Subject: subject, Sequence: sequence, IssuedAtUnixNano: n.NowUnix * Second,
	}
	if !predecessor.IsZero() {
		h.Predecessor = predecessor.Bytes()
	}
	return h
}

// Sign makes the leaf of a protobuf statement.
func (n *Network) Sign(m proto.Message, signers ...crypto.Signer) []byte {
	e, err := record.NewStatement(m, signers...)
	n.must(err)
	leaf, err := record.FromEnvelope(e)
	n.must(err)
	return leaf
}

// Terms is the approval of the network's module: 2 parameters, 3 values, at the
// next place of its chain.
func (n *Network) Terms() *approval.Approval {
	sequence, predecessor, err := state.NextStatement(n.Store, record.SubjectAlgorithm(n.Algorithm))
	n.must(err)
	maker, err := signature.KeyOf(signature.Ed25519, Maker().Public())
	n.must(err)
	return &approval.Approval{
		Module: n.Algorithm, NetworkID: n.ID, Sequence: sequence, Predecessor: predecessor, IssuedAtUnix: n.NowUnix,
		NotifiedBody: "nb", Manufacturer: approval.Manufacturer{Name: "Maker", Key: maker},
		ModuleName: "test", ModuleVersion: "1.0.0", ProfileVersion: claim.ProfileVersion, FuelLimit: 1_000_000,
		Schema: approval.Schema{
			Parameters: []approval.Field{{Name: "spacing", Unit: "um"}, {Name: "threshold", Unit: "permille"}},
			Values:     []approval.Field{{Name: "speed", Unit: "km/h", Scale: -3}, {Name: "length", Unit: "mm"}, {Name: "direction", Unit: "1"}},
			Refusals:   []approval.Refusal{{Code: 1, Name: "MALFORMED_INPUT"}, {Code: 2, Name: "LOW_SNR"}},
		},
		Policy: n.Policy, NotBeforeUnix: GenesisUnix - 86_400, NotAfterUnix: GenesisUnix + 365*86_400,
		TestReport: digest.Plain([]byte("test report")), Disclosure: approval.Public,
	}
}

// SignApproval makes the leaf of an approval.
func (n *Network) SignApproval(a *approval.Approval, signers ...crypto.Signer) []byte {
	payload, err := a.Encode()
	n.must(err)
	e, err := record.SignStatement(record.TypeApproval, payload, signers...)
	n.must(err)
	leaf, err := record.FromEnvelope(e)
	n.must(err)
	return leaf
}

// Approve records the approval of the network's module.
func (n *Network) Approve() {
	n.TB.Helper()
	leaf := n.SignApproval(n.Terms(), Body(), Maker())
	n.Accept(leaf)
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	n.must(err)
	n.Approval = digest.Digest(value.GetApproval())
}

// ApproveAnother records the approval of a second module, on the same terms,
// and returns its digest. The network's own stays the one that meters run.
func (n *Network) ApproveAnother(name string) digest.Digest {
	n.TB.Helper()
	other := *n
	other.Algorithm = digest.Plain([]byte(name))
	n.Accept(other.SignApproval(other.Terms(), Body(), Maker()))
	return other.Algorithm
}

func (n *Network) options() state.Options { return state.Options{Verifier: n.Verifier} }

func (n *Network) must(err error) {
	n.TB.Helper()
	if err != nil {
		n.TB.Fatal(err)
	}
}

// Certificate certifies a height: the replicas in force cosign at NowUnix. For
// the block of a new configuration give the replicas of both.
func (n *Network) Certificate(height uint64, replicas ...Replica) []byte {
	n.TB.Helper()
	quorum, err := state.QuorumAt(n.Store, height)
	n.must(err)
	if len(replicas) == 0 {
		replicas = n.Replicas
	}
	ref := n.Store.Blocks[height]
	checkpoint := tlog.Checkpoint{Origin: quorum.Origin(), Size: ref.Size, Root: ref.Root}
	log, err := tlog.SignLog(replicas[0].Log, checkpoint)
	n.must(err)
	var cosignatures []tlog.Cosignature
	for _, r := range replicas {
		c, err := tlog.Cosign(r.Cosigner, state.CosignerName(quorum.Origin(), r.ID), checkpoint, uint64(n.NowUnix))
		n.must(err)
		cosignatures = append(cosignatures, c)
	}
	c, err := quorum.Assemble(checkpoint, log, cosignatures)
	n.must(err)
	return c.Text()
}

// Begin starts a block on a fresh certificate of the head.
func (n *Network) Begin() *state.Block {
	n.TB.Helper()
	head := n.Store.Head()
	b, err := state.Begin(n.Store, head, n.options(), head.Height, n.Certificate(head.Height))
	n.must(err)
	return b
}

// Apply seals a block and stores it.
func (n *Network) Apply(b *state.Block) state.BlockRef {
	n.TB.Helper()
	return n.apply(b)
}

func (n *Network) apply(b *state.Block) state.BlockRef {
	sealed, err := b.Seal()
	n.must(err)
	return n.Store.Apply(sealed)
}

// Submit makes a block of one submission and returns its outcomes.
func (n *Network) Submit(records, rawVectors [][]byte) []state.Outcome {
	n.TB.Helper()
	b := n.Begin()
	outcomes, err := b.Submit(Parse(records, rawVectors))
	n.must(err)
	n.apply(b)
	return outcomes
}

// Parse is state.ParseSubmission of raw vectors in full.
func Parse(records, rawVectors [][]byte) *state.Submission {
	raw := make([]state.RawVector, len(rawVectors))
	for i, v := range rawVectors {
		raw[i] = state.DescribeRaw(v)
	}
	return state.ParseSubmission(records, raw)
}

// Accept records one statement or event in a block of its own, and fails the
// test if it is refused. It returns the leaf's index.
func (n *Network) Accept(leaf []byte) uint64 {
	n.TB.Helper()
	o := n.Submit([][]byte{leaf}, nil)[0]
	if !o.Accepted {
		n.TB.Fatalf("refused: %s: %s", o.Reason, o.Detail)
	}
	return o.Index
}

// Clone is an independent copy for another test.
func (n *Network) Clone(tb testing.TB) *Network {
	c := *n
	c.TB, c.Store = tb, n.Store.Clone()
	return &c
}

package receipt_test

import (
	"google.golang.org/protobuf/proto"

	"crypto"
	"crypto/ed25519"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/vector"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// forgery is a bundle on a log of its own, of which the replicas certify
// whatever it says: each rule of the steps can be broken with all else right.
// A change is made at one stage, just before that stage is encoded or signed.
type forgery struct {
	config       *recordv1.NetworkConfig // nil: the genesis configuration as it is
	nodes        []*recordv1.NodeRegistration
	approval     *approval.Approval
	registration *recordv1.MeterRegistration
	rollovers    []*recordv1.MeterKeyRollover
	body, old    crypto.Signer // of registration, approval and rollovers; of rollovers
	payloadType  string        // of the registration, if it is another
	maker, root  crypto.Signer // of the approval; of the nodes, nil for their organisations'
	key          crypto.Signer // of the sample
	raw          []byte
	header       sample.Header
	signature    []byte
	claim        claim.Claim
	set          *recordv1.EndorsementSet
	measurement  *recordv1.Measurement
	order        []string // of the leaves
	origin       string
	bundle       *recordv1.Bundle

	later     []proto.Message // statuses and parameters after the rollovers
	laterBody crypto.Signer   // of them; nil for body
	named     bool            // the claim names the first of them
	names     []byte          // the leaf whose statement the claim names

	table     *recordv1.NationalTable // nil: none
	tableBody crypto.Signer           // of it; nil for body
}

// The stages.
const (
	atStatements = iota
	atHeader
	atSignature
	atClaim
	atSet
	atEndorsed
	atMeasurement
	atOrder
	atBundle
)

func (v *verdicts) forge(name string, want receipt.Verdict, step string, stage int, change func(f *forgery)) {
	v.Helper()
	encoded, err := receipt.BuildBundle(v.forged(stage, change))
	v.check(err)
	v.add("forged: "+name, v.name, encoded, want, step)
}

func (v *verdicts) forged(stage int, change func(f *forgery)) *recordv1.Bundle {
	v.Helper()
	return v.forgedAt(func(s int, f *forgery) {
		if s == stage {
			change(f)
		}
	})
}

// forgedAt makes the bundle, and asks at each stage.
func (v *verdicts) forgedAt(ask func(stage int, f *forgery)) *recordv1.Bundle {
	v.Helper()
	f := v.forgery()
	at := func(stage int) { ask(stage, f) }
	at(atStatements)
	leaves := map[string][]byte{"config": v.Store.Leaves[0]}
	if f.config != nil {
		leaves["config"] = v.Sign(f.config, statetest.Root("org-00"))
	}
	for i, node := range f.nodes {
		root := f.root
		if root == nil {
			root = statetest.Root(v.Endorsers[i].Organisation)
		}
		leaves["node"+string(rune('0'+i))] = v.Sign(node, root)
	}
	leaves["approval"] = v.SignApproval(f.approval, f.body, f.maker)
	leaves["registration"] = v.Sign(f.registration, f.body)
	if f.payloadType != "" {
		e, err := record.SignStatement(f.payloadType, wire.MustEncode(f.registration), f.body)
		v.check(err)
		leaves["registration"], err = record.FromEnvelope(e)
		v.check(err)
	}
	before, sequence := leaves["registration"], uint64(1)
	link := func(h *recordv1.StatementHeader) {
		sequence++
		if h.Predecessor == nil {
			h.Predecessor = identity(v, before).Bytes()
		}
		if h.Sequence == 0 {
			h.Sequence = sequence
		}
	}
	for i, r := range f.rollovers {
		link(r.Header)
		before = v.Sign(r, f.body, f.old)
		leaves["rollover"+string(rune('0'+i))] = before
	}
	for i, m := range f.later {
		link(m.(interface {
			GetHeader() *recordv1.StatementHeader
		}).GetHeader())
		signer := f.laterBody
		if signer == nil {
			signer = f.body
		}
		before = v.Sign(m, signer)
		leaves["later"+string(rune('0'+i))] = before
	}
	f.names = leaves["registration"]
	if f.named {
		f.names = leaves["later0"]
	}
	if f.table != nil {
		if f.tableBody == nil {
			f.tableBody = f.body
		}
		leaves["table"] = v.Sign(f.table, f.tableBody)
	}
	at(atHeader)
	s, sig, err := sample.Sign(f.key, &f.header)
	v.check(err)
	f.signature = sig
	at(atSignature)
	f.claim = claim.Claim{
		NetworkID: f.header.NetworkID, Sample: s.Digest, Algorithm: v.Algorithm, Registration: identity(v, f.names),
		ProfileVersion: f.approval.ProfileVersion, FuelLimit: f.approval.FuelLimit, Result: statetest.Result(0, 1, 2),
	}
	parameters, err := claim.FirstParameters(f.registration, f.claim.Registration)
	v.check(err)
	if f.named {
		parameters, err = claim.LaterParameters(f.registration, f.later[0].(*recordv1.MeterParameters), f.claim.Registration)
		v.check(err)
	}
	if input, err := claim.Input(parameters, s, f.raw); err == nil {
		f.claim.Input = claim.InputDigest(input)
	}
	at(atClaim)
	encodedClaim, err := f.claim.Encode()
	v.check(err)
	hash := claim.Hash(encodedClaim)
	f.set = &recordv1.EndorsementSet{NetworkId: f.claim.NetworkID.Bytes(), Algorithm: f.claim.Algorithm.Bytes(), Claims: [][]byte{hash.Bytes()}}
	at(atSet)
	var hashes []digest.Digest
	for _, h := range f.set.GetClaims() {
		hashes = append(hashes, digest.Digest(append(h, 0)[:32])) // a test may cut one short
	}
	message := claim.EndorsementMessage(digest.Digest(f.set.GetNetworkId()), digest.Digest(f.set.GetAlgorithm()), hashes)
	for _, e := range v.Endorsers[:2] {
		sig, err := signature.Sign(e.Key, signature.Ed25519ZIP215, message)
		v.check(err)
		f.set.Endorsements = append(f.set.Endorsements, &recordv1.Endorsement{NodeId: e.ID, Signature: sig})
	}
	at(atEndorsed)
	leaves["set"], err = record.Encode(&recordv1.Record{Body: &recordv1.Record_EndorsementSet{EndorsementSet: f.set}})
	v.check(err)
	f.measurement = &recordv1.Measurement{
		Header: s.Bytes, Signature: f.signature, Claim: encodedClaim, EndorsementSet: record.Digest(leaves["set"]).Bytes(),
		Approval: identity(v, leaves["approval"]).Bytes(), Config: identity(v, leaves["config"]).Bytes(), Disposition: 1,
	}
	at(atMeasurement)
	leaves["measurement"], err = record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: f.measurement}})
	v.check(err)
	at(atOrder)
	v.certifyForged(f, leaves)
	at(atBundle)
	return f.bundle
}

// forgery is one in which all is right.
func (v *verdicts) forgery() *forgery {
	v.Helper()
	key := statetest.Key("meter/forged")
	f := &forgery{
		approval: v.Terms(), body: statetest.Body(), maker: statetest.Maker(), key: key, old: key,
		order:  []string{"config", "node0", "node1", "approval", "registration", "rollover0", "rollover1", "later0", "later1", "table", "set", "measurement"},
		origin: v.Newest().Checkpoint.Origin,
	}
	f.approval.Schema, f.approval.Policy = algorithm().Schema, n2of(v)
	for _, e := range v.Endorsers[:2] {
		f.nodes = append(f.nodes, v.Registration(e, 1, digest.Zero))
	}
	f.registration = v.MeterRegistration("m-9", key)
	var err error
	f.raw, err = vector.Encode(recordv1.Encoding_ENCODING_INT16, [][]int16{{1, 2}, {3, 4}})
	v.check(err)
	f.header = sample.Header{
		NetworkID: v.ID, MeterID: "m-9", Counter: 5, Previous: digest.Plain([]byte("4")), CapturedAtUnixNano: v.NowUnix * statetest.Second,
		ClockSync: 1, KnownBlock: digest.Plain([]byte("block")), Channels: 2, SamplesPerChannel: 2,
		SampleRateMillihertz: statetest.SampleRateMillihertz, Encoding: 1, RawDigest: sample.DigestRaw(f.raw),
	}
	return f
}

// identity is the statement digest of a leaf.
func identity(v *verdicts, leaf []byte) digest.Digest {
	r, err := record.Parse(leaf)
	v.check(err)
	return record.ToEnvelope(r.GetStatement()).Digest()
}

type forgedNodes map[tlog.NodeID]digest.Digest

func (m forgedNodes) Node(id tlog.NodeID) (digest.Digest, error) { return m[id], nil }

// certifyForged lays the leaves out, certifies their tree and proves each.
func (v *verdicts) certifyForged(f *forgery, leaves map[string][]byte) {
	v.Helper()
	index := map[string]uint64{}
	var hashes []digest.Digest
	for _, name := range f.order {
		if leaf, ok := leaves[name]; ok {
			index[name] = uint64(len(hashes))
			hashes = append(hashes, tlog.LeafHash(leaf))
		}
	}
	nodes := forgedNodes{}
	tlog.NewRange().AppendVisit(hashes, func(id tlog.NodeID, h digest.Digest) { nodes[id] = h })
	path := func(name string) []digest.Digest {
		p, err := tlog.InclusionProof(nodes, index[name], uint64(len(hashes)))
		v.check(err)
		return p
	}
	c := tlog.Checkpoint{Origin: f.origin, Size: uint64(len(hashes)), Root: tlog.RootOf(hashes)}
	log, err := tlog.SignLog(v.Replicas[0].Log, c)
	v.check(err)
	var cosignatures []tlog.Cosignature
	for _, r := range v.Replicas[:3] {
		s, err := tlog.Cosign(r.Cosigner, state.CosignerName(v.Newest().Checkpoint.Origin, r.ID), c, statetest.GenesisUnix)
		v.check(err)
		cosignatures = append(cosignatures, s)
	}
	certificate, err := tlog.NewCertificate(c, log, cosignatures)
	v.check(err)
	proof, err := tlog.NewProof(leaves["measurement"], index["measurement"], path("measurement"), certificate)
	v.check(err)
	prove := func(name string) *recordv1.ProvenRecord { return receipt.Prove(leaves[name], index[name], path(name)) }
	f.bundle = &recordv1.Bundle{
		Receipt: proof.Text(), EndorsementSet: prove("set"), Registration: prove("registration"), Approval: prove("approval"),
		Config: prove("config"), RawVector: f.raw, Nodes: []*recordv1.ProvenRecord{prove("node0"), prove("node1")},
	}
	if f.table != nil {
		f.bundle.NationalTable = prove("table")
	}
	for i := range f.later {
		if p := prove("later" + string(rune('0'+i))); i == 0 && f.named {
			f.bundle.Parameters = p
		} else {
			f.bundle.History = append(f.bundle.History, p)
		}
	}
	for i := range f.rollovers {
		f.bundle.Rollovers = append(f.bundle.Rollovers, prove("rollover"+string(rune('0'+i))))
	}
}

// rollover gives a forgery's meter a key from a counter.
func (f *forgery) rollover(v *verdicts, counter uint64, key ed25519.PrivateKey) {
	f.rollovers = append(f.rollovers, &recordv1.MeterKeyRollover{
		Header:  &recordv1.StatementHeader{NetworkId: v.ID.Bytes(), Subject: record.SubjectMeter("m-9")},
		MeterId: "m-9", Key: statetest.Tagged(signature.Ed25519ZIP215, key), FirstCounter: counter,
	})
}

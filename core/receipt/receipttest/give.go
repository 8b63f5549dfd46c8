package receipttest

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Newest is the certificate of the newest block.
func (n *Network) Newest() *tlog.Certificate { return n.Certified(n.Store.Head().Height) }

// statements puts the statements on the meter where they belong.
func (n *Network) statements(b *recordv1.Bundle, m *receipt.Measurement, meter *statev1.Meter) {
	for _, index := range meter.GetStatements()[1:] {
		r, err := record.Parse(n.Store.Leaves[index])
		n.must(err)
		e := record.ToEnvelope(r.GetStatement())
		switch {
		case e.Digest() == m.Claim.Registration:
			b.Parameters = n.Prove(index)
		case e.PayloadType == record.TypeMeterKeyRollover:
			b.Rollovers = append(b.Rollovers, n.Prove(index))
		default:
			b.History = append(b.History, n.Prove(index))
		}
	}
}

// nodeMap is a tree's nodes.
type nodeMap map[tlog.NodeID]digest.Digest

func (m nodeMap) Node(id tlog.NodeID) (digest.Digest, error) { return m[id], nil }

// Path is the inclusion proof of a leaf in the newest tree.
func (n *Network) Path(index uint64) []digest.Digest {
	n.TB.Helper()
	nodes := nodeMap{}
	tlog.NewRange().AppendVisit(n.Store.Hashes, func(id tlog.NodeID, h digest.Digest) { nodes[id] = h })
	path, err := tlog.InclusionProof(nodes, index, uint64(len(n.Store.Hashes)))
	n.must(err)
	return path
}

// Receipt is the receipt of a measurement under the newest certificate.
func (n *Network) Receipt(index uint64) []byte {
	n.TB.Helper()
	text, err := receipt.Build(n.Store.Leaves[index], index, n.Path(index), n.Newest())
	n.must(err)
	return text
}

// Prove is any leaf as an item of a bundle.
func (n *Network) Prove(index uint64) *recordv1.ProvenRecord {
	n.TB.Helper()
	return receipt.Prove(n.Store.Leaves[index], index, n.Path(index))
}

// Bundle is the bundle of a measurement, without the module.
func (n *Network) Bundle(index uint64) *recordv1.Bundle {
	n.TB.Helper()
	m, err := receipt.ParseMeasurement(n.Store.Leaves[index])
	n.must(err)
	meter, err := state.GetMeter(n.Store, m.Sample.MeterID)
	n.must(err)
	algorithm, err := state.GetAlgorithm(n.Store, m.Claim.Algorithm)
	n.must(err)
	config, err := state.GetConfig(n.Store)
	n.must(err)
	b := &recordv1.Bundle{
		Receipt: n.Receipt(index), Registration: n.Prove(meter.GetRegistrationIndex()),
		Approval: n.Prove(algorithm.GetApprovalIndex()), Config: n.Prove(config.Index),
		RawVector: n.raw[index],
	}
	set := index
	for record.Digest(n.Store.Leaves[set]) != m.EndorsementSet {
		set--
	}
	b.EndorsementSet = n.Prove(set)
	r, err := record.Parse(n.Store.Leaves[set])
	n.must(err)
	for _, e := range r.GetEndorsementSet().GetEndorsements() {
		node, err := state.GetNode(n.Store, e.GetNodeId())
		n.must(err)
		b.Nodes = append(b.Nodes, n.Prove(node.GetRegistrationIndex()))
	}
	parameters, err := state.ParametersAt(meter, m.Sample.CapturedAtUnixNano)
	n.must(err)
	if id := parameters.NationalTable; id != "" {
		table, err := state.GetTable(n.Store, id)
		n.must(err)
		if version := state.VersionAt(table.GetVersions(), m.Sample.CapturedAtUnixNano); version != nil {
			b.NationalTable = n.Prove(version.GetIndex())
		}
	}
	n.statements(b, m, meter)
	return b
}

package receipttest

import (
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Newest is the newest certificate.
func (n *Network) Newest() *tlog.Certificate { return n.Blocks[len(n.Blocks)-1].Certificate }

// Path is the inclusion proof of a leaf in the newest tree.
func (n *Network) Path(index uint64) []digest.Digest {
	n.t.Helper()
	path, err := tlog.InclusionProof(n, index, n.tree.Size())
	if err != nil {
		n.t.Fatal(err)
	}
	return path
}

// Receipt is the receipt of a measurement under the newest certificate.
func (n *Network) Receipt(index uint64) []byte {
	n.t.Helper()
	text, err := receipt.Build(n.leaves[index], index, n.Path(index), n.Newest())
	if err != nil {
		n.t.Fatal(err)
	}
	return text
}

// Prove is any leaf as an item of a bundle.
func (n *Network) Prove(index uint64) *recordv1.ProvenRecord {
	return receipt.Prove(n.leaves[index], index, n.Path(index))
}

// Bundle is the bundle of a measurement, without the module.
func (n *Network) Bundle(index uint64) *recordv1.Bundle {
	n.t.Helper()
	m, err := receipt.ParseMeasurement(n.leaves[index])
	if err != nil {
		n.t.Fatal(err)
	}
	meter, err := state.GetMeter(n, m.Sample.MeterID)
	if err != nil {
		n.t.Fatal(err)
	}
	algorithm, err := state.GetAlgorithm(n, m.Claim.Algorithm)
	if err != nil {
		n.t.Fatal(err)
	}
	config, err := state.GetConfig(n)
	if err != nil {
		n.t.Fatal(err)
	}
	b := &recordv1.Bundle{
		Receipt: n.Receipt(index), Registration: n.Prove(meter.GetRegistrationIndex()),
		Approval: n.Prove(algorithm.GetApprovalIndex()), Config: n.Prove(config.Index),
	}
	for i := index; ; i-- {
		if record.Digest(n.leaves[i]) == m.EndorsementSet {
			b.EndorsementSet = n.Prove(i)
			break
		}
	}
	set, err := record.Parse(b.GetEndorsementSet().GetRecord())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range set.GetEndorsementSet().GetEndorsements() {
		node, err := state.GetNode(n, e.GetNodeId())
		if err != nil {
			n.t.Fatal(err)
		}
		b.Nodes = append(b.Nodes, n.Prove(node.GetRegistrationIndex()))
	}
	for _, k := range meter.GetKeys()[1:] {
		b.Rollovers = append(b.Rollovers, n.Prove(k.GetIndex()))
	}
	for _, block := range n.Blocks {
		if index >= block.Ref.FirstIndex && index < block.Ref.Size {
			b.RawVector = block.Raw[int(index-block.Ref.FirstIndex)]
		}
	}
	return b
}

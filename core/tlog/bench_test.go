package tlog_test

import (
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/benchtest"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// BenchmarkLeafHash is the hash of a record of 600 bytes.
func BenchmarkLeafHash(b *testing.B) {
	record := make([]byte, 600)
	benchtest.Loop(b, 1, func() { tlog.LeafHash(record) })
}

// BenchmarkRangeAppend is what a block of so many leaves adds to the tree, root
// and all.
func BenchmarkRangeAppend(b *testing.B) {
	for _, size := range []int{1, 256} {
		b.Run(fmt.Sprintf("measurements=%d", size), func(b *testing.B) {
			leaves := leavesOf(size)
			r := tlog.NewRange()
			benchtest.Loop(b, size, func() {
				r.Append(leaves...)
				r.Root()
			})
		})
	}
}

// BenchmarkProof makes and checks proofs in a tree of a million leaves: what a
// receipt holds, and what shows that a larger tree extends a smaller one.
func BenchmarkProof(b *testing.B) {
	const size, earlier, index = 1_000_000, 765_432, 123_456
	nodes := make(nodeMap)
	r := tlog.NewRange()
	leaf := digest.Plain([]byte("leaf"))
	var before digest.Digest
	for r.Size() < size {
		r.AppendVisit([]digest.Digest{leaf}, func(id tlog.NodeID, hash digest.Digest) { nodes[id] = hash })
		if r.Size() == earlier {
			before = r.Root()
		}
	}
	root := r.Root()
	inclusion, err := tlog.InclusionProof(nodes, index, size)
	if err != nil {
		b.Fatal(err)
	}
	consistency, err := tlog.ConsistencyProof(nodes, earlier, size)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		work func() error
	}{
		{"of=inclusion/do=make", func() error { _, err := tlog.InclusionProof(nodes, index, size); return err }},
		{"of=inclusion/do=check", func() error { return tlog.VerifyInclusion(leaf, index, size, inclusion, root) }},
		{"of=consistency/do=make", func() error { _, err := tlog.ConsistencyProof(nodes, earlier, size); return err }},
		{"of=consistency/do=check", func() error { return tlog.VerifyConsistency(earlier, size, consistency, before, root) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				if err := c.work(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkCertificate is a block's certificate with 3 of 4 cosignatures: one
// replica's cosignature, putting it together, reading it, checking it. It serves
// all measurements of its block.
func BenchmarkCertificate(b *testing.B) {
	net := newNetwork(b, 4, 3, 5)
	certificate := net.certify(0, 1, 2)
	text := certificate.Text()
	c := net.checkpoint()
	for _, stage := range []struct {
		name string
		work func() error
	}{
		{"do=cosign", func() error { net.cosign(0, c); return nil }},
		{"do=build", func() error {
			made, err := tlog.NewCertificate(certificate.Checkpoint, certificate.Log, certificate.Cosignatures)
			made.Text()
			return err
		}},
		{"do=parse", func() error { _, err := tlog.ParseCertificate(text); return err }},
		{"do=check", func() error { return net.policy.Check(signature.Direct{}, certificate) }},
	} {
		b.Run(stage.name, func(b *testing.B) {
			benchtest.Loop(b, 1, func() {
				if err := stage.work(); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

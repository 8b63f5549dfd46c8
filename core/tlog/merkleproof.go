package tlog

import (
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/transparency-dev/merkle/proof"
)

// Nodes reads the stored hashes of perfect subtrees. Node returns exactly what
// Range.AppendVisit reported for the coordinate, or an error; it is asked only
// for nodes inside the tree size of the proof.
type Nodes interface {
	Node(id NodeID) (digest.Digest, error)
}

// maxProofHashes is the longest path in a tree of MaxTreeSize leaves, and one
// more for a consistency proof.
const maxProofHashes = 64

// InclusionProof is the audit path of RFC 6962 section 2.1.1 for the leaf at
// index in the tree of size leaves, from the leaf's sibling upwards.
func InclusionProof(nodes Nodes, index, size uint64) ([]digest.Digest, error) {
	want, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, &ProofShapeError{What: leafName(index, size), Reason: err.Error()}
	}
	return collect(nodes, want, leafName(index, size))
}

// ConsistencyProof is the proof of RFC 6962 section 2.1.2 that the tree of size1
// leaves is a prefix of the tree of size2 leaves. It is empty when size1 is 0
// or equals size2.
func ConsistencyProof(nodes Nodes, size1, size2 uint64) ([]digest.Digest, error) {
	want, err := proof.Consistency(size1, size2)
	if err != nil {
		return nil, &ProofShapeError{What: treeName(size1, size2), Reason: err.Error()}
	}
	return collect(nodes, want, treeName(size1, size2))
}

func collect(nodes Nodes, want proof.Nodes, what string) ([]digest.Digest, error) {
	found := make([]digest.Digest, len(want.IDs))
	hashes := make([][]byte, len(want.IDs))
	for i, id := range want.IDs {
		var err error
		if found[i], err = nodes.Node(id); err != nil {
			return nil, fmt.Errorf("proof of %s, node %d/%d: %w", what, id.Level, id.Index, err)
		}
		hashes[i] = found[i][:]
	}
	hashes, err := want.Rehash(hashes, hashChildren)
	if err != nil {
		return nil, fmt.Errorf("proof of %s: %w", what, err)
	}
	path := make([]digest.Digest, len(hashes))
	for i, h := range hashes {
		path[i] = digest.Digest(h)
	}
	return path, nil
}

// VerifyInclusion says whether the leaf stands at index in the tree of size
// leaves with this root. The error is a *RootError or a *ProofShapeError.
func VerifyInclusion(leafHash digest.Digest, index, size uint64, path []digest.Digest, root digest.Digest) error {
	got, err := proof.RootFromInclusionProof(hasher, index, size, leafHash[:], raw(path))
	if err != nil {
		return &ProofShapeError{What: leafName(index, size), Reason: err.Error()}
	}
	if digest.Digest(got) != root {
		return &RootError{What: leafName(index, size), Got: digest.Digest(got), Want: root}
	}
	return nil
}

// VerifyConsistency says whether the tree (size1, root1) is a prefix of the tree
// (size2, root2). Unlike the merkle module it also checks the root of an empty
// first tree. The error is a *RootError or a *ProofShapeError.
func VerifyConsistency(size1, size2 uint64, path []digest.Digest, root1, root2 digest.Digest) error {
	what := treeName(size1, size2)
	if size1 == 0 && root1 != emptyRoot {
		return &RootError{What: what, Got: root1, Want: emptyRoot}
	}
	err := proof.VerifyConsistency(hasher, size1, size2, raw(path), root1[:], root2[:])
	var mismatch proof.RootMismatchError
	if errors.As(err, &mismatch) {
		return &RootError{What: what, Got: digest.Digest(mismatch.CalculatedRoot), Want: digest.Digest(mismatch.ExpectedRoot)}
	}
	if err != nil {
		return &ProofShapeError{What: what, Reason: err.Error()}
	}
	return nil
}

// hasher is this package's hashes, as the merkle module wants them.
var hasher hashing

type hashing struct{}

func (hashing) EmptyRoot() []byte                      { return emptyRoot.Bytes() }
func (hashing) HashLeaf(leaf []byte) []byte            { return LeafHash(leaf).Bytes() }
func (hashing) HashChildren(left, right []byte) []byte { return hashChildren(left, right) }
func (hashing) Size() int                              { return digest.Size }

func raw(path []digest.Digest) [][]byte {
	out := make([][]byte, len(path))
	for i := range path {
		out[i] = path[i][:]
	}
	return out
}

func leafName(index, size uint64) string { return fmt.Sprintf("record %d of %d", index, size) }

func treeName(size1, size2 uint64) string {
	return fmt.Sprintf("a tree of %d leaves as the start of one of %d", size1, size2)
}

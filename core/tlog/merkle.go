package tlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/transparency-dev/merkle/compact"
)

// LeafHash is the RFC 6962 hash of a leaf: SHA-256(0x00 || record).
func LeafHash(record []byte) digest.Digest {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(record)
	var d digest.Digest
	h.Sum(d[:0])
	return d
}

// NodeHash is the RFC 6962 hash of an interior node: SHA-256(0x01 || left ||
// right).
func NodeHash(left, right digest.Digest) digest.Digest {
	var b [1 + 2*digest.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+digest.Size:], right[:])
	return sha256.Sum256(b[:])
}

// EmptyRoot is the root of the tree without leaves: SHA-256 of nothing.
func EmptyRoot() digest.Digest { return emptyRoot }

var emptyRoot digest.Digest = sha256.Sum256(nil)

// hashChildren is NodeHash as the merkle module wants it.
func hashChildren(left, right []byte) []byte {
	h := NodeHash(digest.Digest(left), digest.Digest(right))
	return h[:]
}

var factory = &compact.RangeFactory{Hash: hashChildren}

// NodeID is the coordinate of a perfect subtree: level 0 holds the leaves; node
// (level, index) covers leaves [index << level, (index+1) << level).
type NodeID = compact.NodeID

// Range is the compact range of a log from its first leaf: the roots of the
// perfect subtrees, largest first, from which the next root is computed
// without the leaves. It is not safe for concurrent use.
type Range struct {
	inner *compact.Range // owned; hashes in it are never written in place
}

// NewRange is the range of no leaves.
func NewRange() *Range { return &Range{inner: factory.NewEmptyRange(0)} }

// RangeAt is the range of the first size leaves of a stored tree.
func RangeAt(nodes Nodes, size uint64) (*Range, error) {
	hashes := make([][]byte, 0, bits.OnesCount64(size))
	for _, id := range compact.RangeNodes(0, size, nil) {
		h, err := nodes.Node(id)
		if err != nil {
			return nil, fmt.Errorf("compact range of %d leaves, node %d/%d: %w", size, id.Level, id.Index, err)
		}
		hashes = append(hashes, h.Bytes())
	}
	return newRange(size, hashes)
}

func newRange(size uint64, hashes [][]byte) (*Range, error) {
	inner, err := factory.NewRange(0, size, hashes)
	if err != nil {
		return nil, malformed("compact range", 0, "%v", err)
	}
	return &Range{inner: inner}, nil
}

// ParseRange reads what Bytes writes: eight bytes of size, big-endian, and 32
// bytes for each set bit of it (*FormatError).
func ParseRange(b []byte) (*Range, error) {
	if len(b) < 8 {
		return nil, malformed("compact range", 0, "%d bytes, want at least 8", len(b))
	}
	size := binary.BigEndian.Uint64(b)
	if size > MaxTreeSize {
		return nil, malformed("compact range", 0, "size %d is above %d", size, uint64(MaxTreeSize))
	}
	if want := 8 + digest.Size*bits.OnesCount64(size); len(b) != want {
		return nil, malformed("compact range", 0, "%d bytes, a range of %d leaves has %d", len(b), size, want)
	}
	var hashes [][]byte
	for h := range slices.Chunk(slices.Clone(b[8:]), digest.Size) {
		hashes = append(hashes, h)
	}
	return newRange(size, hashes)
}

// Bytes is the canonical form: size, then the subtree roots, largest first.
func (r *Range) Bytes() []byte {
	b := binary.BigEndian.AppendUint64(nil, r.inner.End())
	for _, h := range r.inner.Hashes() {
		b = append(b, h...)
	}
	return b
}

// Size is the number of leaves.
func (r *Range) Size() uint64 { return r.inner.End() }

// Clone is an independent copy.
func (r *Range) Clone() *Range {
	c, err := newRange(r.inner.End(), slices.Clone(r.inner.Hashes()))
	if err != nil {
		panic("tlog: a range refused its own hashes: " + err.Error()) // cannot be
	}
	return c
}

// Append adds leaves by their hashes, in order.
func (r *Range) Append(leafHashes ...digest.Digest) { r.AppendVisit(leafHashes, nil) }

// AppendVisit is Append that reports every new node of a perfect subtree,
// leaves included, so that a store can keep them. Each node is reported once in
// the life of a log, children before parents.
func (r *Range) AppendVisit(leafHashes []digest.Digest, visit func(id NodeID, hash digest.Digest)) {
	var inner compact.VisitFn
	if visit != nil {
		inner = func(id NodeID, hash []byte) { visit(id, digest.Digest(hash)) }
	}
	for _, leaf := range leafHashes {
		if r.inner.End() >= MaxTreeSize {
			panic(fmt.Sprintf("tlog: a log of %d leaves cannot grow", r.inner.End()))
		}
		if err := r.inner.Append(leaf.Bytes(), inner); err != nil {
			panic("tlog: compact range is inconsistent: " + err.Error()) // newRange checked it
		}
	}
}

// NextPath is the inclusion proof that the leaf appended next will have in the
// tree of which it is the last leaf, whatever that leaf is: the subtree roots,
// smallest first (RFC 6962 section 2.1.1; nothing is to the right of it).
func (r *Range) NextPath() []digest.Digest {
	hashes := r.inner.Hashes()
	path := make([]digest.Digest, 0, len(hashes))
	for _, h := range slices.Backward(hashes) {
		path = append(path, digest.Digest(h))
	}
	return path
}

// Root is the RFC 6962 root hash of the leaves so far.
func (r *Range) Root() digest.Digest {
	root, err := r.inner.GetRootHash(nil)
	if err != nil {
		panic("tlog: compact range does not begin at 0: " + err.Error()) // cannot be
	}
	if root == nil {
		return emptyRoot
	}
	return digest.Digest(root)
}

// RootOf is the root hash over a list of leaf hashes: the root that an
// endorsement signs over its batch of claims, for one.
func RootOf(leafHashes []digest.Digest) digest.Digest {
	r := NewRange()
	r.Append(leafHashes...)
	return r.Root()
}

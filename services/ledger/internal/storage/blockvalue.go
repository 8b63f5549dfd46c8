package storage

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// blockValue is everything about a block but its bytes: one dense value, so
// that a commit writes few pages and no random keys. Its slices alias the
// encoded value. Big-endian:
//
//	ref       firstIndex[8] size[8] time[8] certifiedHeight[8] header[32] root[32] config[32] admin[32]
//	start     segment[4] offset[8]        where the first frame lies
//	lengths   places[4] cosignature[4]
//	hashes    32 bytes for each leaf
//	nodes     32 bytes for each interior node completed, by completing leaf, then level
//	places    for each leaf a varint length<<2 | raw<<1 | roll, and if raw, a varint length<<1 | roll
//	cosignature
//
// Frames lie back to back; roll says that one is the first of the next segment.
type blockValue struct {
	ref         state.BlockRef
	start       position
	hashes      []byte
	nodes       []byte
	places      []byte
	cosignature []byte
}

const blockFixedBytes = 4*8 + 4*digest.Size + 12 + 8

// interiorNodes is the number of perfect subtrees of level 1 and above in a
// tree of size leaves. Leaf i completes TrailingZeros(i+1) of them.
func interiorNodes(size uint64) uint64 { return size - uint64(bits.OnesCount64(size)) }

// nodeSlot is the place of a node among the nodes of the block whose first leaf
// is first; the node's last leaf must belong to that block.
func nodeSlot(first uint64, id tlog.NodeID) uint64 {
	return interiorNodes(lastLeaf(id)) - interiorNodes(first) + uint64(id.Level) - 1
}

// lastLeaf is the leaf that completes a node. The node must be inside a tree of
// at most 2^63 leaves.
func lastLeaf(id tlog.NodeID) uint64 { return (id.Index+1)<<id.Level - 1 }

// encodeBlock returns the block's value behind room for its seal, and the same
// decoded. leaf and raw say where the frames lie; raw[i] has length 0 where
// leaf i has no raw vector.
func encodeBlock(b *Block, leaf, raw []frame) ([]byte, blockValue, error) {
	n := len(b.Leaves)
	nodes := make([]byte, digest.Size*(interiorNodes(b.Ref.Size)-interiorNodes(b.Ref.FirstIndex)))
	if len(b.Nodes)*digest.Size != len(nodes) {
		return nil, blockValue{}, &BatchError{Height: b.Ref.Height, Problem: fmt.Sprintf(
			"leaves %d to %d complete %d interior nodes, it has %d", b.Ref.FirstIndex, b.Ref.Size-1, len(nodes)/digest.Size, len(b.Nodes))}
	}
	filled := make([]bool, len(b.Nodes))
	for _, node := range b.Nodes {
		id := node.ID
		inside := id.Level > 0 && id.Level < 64 && id.Index < b.Ref.Size>>id.Level && lastLeaf(id) >= b.Ref.FirstIndex
		if !inside || filled[nodeSlot(b.Ref.FirstIndex, id)] {
			return nil, blockValue{}, &BatchError{Height: b.Ref.Height, Problem: fmt.Sprintf(
				"node %d/%d is not completed by leaves %d to %d, or appears twice", id.Level, id.Index, b.Ref.FirstIndex, b.Ref.Size-1)}
		}
		slot := nodeSlot(b.Ref.FirstIndex, id)
		filled[slot] = true
		copy(nodes[slot*digest.Size:], node.Hash[:])
	}
	places := make([]byte, 0, 4*n)
	at := leaf[0].at
	step := func(f frame) uint64 {
		var roll uint64
		if f.at.segment != at.segment {
			roll = 1
		}
		at = f.end()
		return roll
	}
	for i := range n {
		var hasRaw uint64
		if raw[i].length > 0 {
			hasRaw = 1
		}
		places = binary.AppendUvarint(places, uint64(leaf[i].length)<<2|hasRaw<<1|step(leaf[i]))
		if hasRaw == 1 {
			places = binary.AppendUvarint(places, uint64(raw[i].length)<<1|step(raw[i]))
		}
	}

	v := room(blockFixedBytes + n*digest.Size + len(nodes) + len(places) + len(b.Cosignature))
	for _, x := range []uint64{b.Ref.FirstIndex, b.Ref.Size, uint64(b.Ref.BlockTimeUnixNano), b.Ref.CertifiedHeight} {
		v = binary.BigEndian.AppendUint64(v, x)
	}
	for _, d := range []digest.Digest{b.Ref.Header, b.Ref.Root, b.Ref.Config, b.Ref.Admin} {
		v = append(v, d[:]...)
	}
	v = binary.BigEndian.AppendUint32(v, leaf[0].at.segment)
	v = binary.BigEndian.AppendUint64(v, uint64(leaf[0].at.offset))
	v = binary.BigEndian.AppendUint32(v, uint32(len(places)))
	v = binary.BigEndian.AppendUint32(v, uint32(len(b.Cosignature)))
	for i := range b.LeafHashes {
		v = append(v, b.LeafHashes[i][:]...)
	}
	v = append(v, nodes...)
	v = append(v, places...)
	v = append(v, b.Cosignature...)
	decoded, err := decodeBlock(b.Ref.Height, v[sealBytes:])
	return v, decoded, err
}

// decodeBlock reads a value that its seal has vouched for; the result aliases v.
func decodeBlock(height uint64, v []byte) (blockValue, error) {
	bad := func(format string, args ...any) (blockValue, error) {
		return blockValue{}, tableBlocks.damage(number(height), fmt.Sprintf(format, args...))
	}
	if len(v) < blockFixedBytes {
		return bad("the value has %d bytes, want at least %d", len(v), blockFixedBytes)
	}
	r := v
	next := func() uint64 {
		n := binary.BigEndian.Uint64(r)
		r = r[8:]
		return n
	}
	b := blockValue{ref: state.BlockRef{Height: height}}
	b.ref.FirstIndex, b.ref.Size = next(), next()
	b.ref.BlockTimeUnixNano = int64(next())
	b.ref.CertifiedHeight = next()
	for _, d := range []*digest.Digest{&b.ref.Header, &b.ref.Root, &b.ref.Config, &b.ref.Admin} {
		copy(d[:], r)
		r = r[digest.Size:]
	}
	b.start.segment = binary.BigEndian.Uint32(r)
	r = r[4:]
	b.start.offset = int64(next())
	places, cosignature := int(binary.BigEndian.Uint32(r)), int(binary.BigEndian.Uint32(r[4:]))
	r = r[8:]

	if b.ref.FirstIndex >= b.ref.Size || b.ref.Size > tlog.MaxTreeSize || b.ref.Size-b.ref.FirstIndex > uint64(len(r)) {
		return bad("it spans leaves %d to %d", b.ref.FirstIndex, b.ref.Size)
	}
	hashes := digest.Size * int(b.ref.Size-b.ref.FirstIndex)
	nodes := digest.Size * int(interiorNodes(b.ref.Size)-interiorNodes(b.ref.FirstIndex))
	if len(r) != hashes+nodes+places+cosignature {
		return bad("its lists have %d bytes, want %d", len(r), hashes+nodes+places+cosignature)
	}
	b.hashes, r = r[:hashes:hashes], r[hashes:]
	b.nodes, r = r[:nodes:nodes], r[nodes:]
	b.places, b.cosignature = r[:places:places], r[places:]
	return b, nil
}

// leaves is the number of leaves, the header included.
func (b *blockValue) leaves() int { return len(b.hashes) / digest.Size }

// leafHash is the hash of the leaf at a position in the block.
func (b *blockValue) leafHash(i int) digest.Digest {
	return digest.Digest(b.hashes[i*digest.Size:][:digest.Size])
}

// node is the hash of a node, leaves included, whose last leaf is in the block.
func (b *blockValue) node(id tlog.NodeID) digest.Digest {
	if id.Level == 0 {
		return b.leafHash(int(id.Index - b.ref.FirstIndex))
	}
	return digest.Digest(b.nodes[nodeSlot(b.ref.FirstIndex, id)*digest.Size:][:digest.Size])
}

// placed is where a leaf and its raw vector lie; raw has length 0 if there is none.
type placed struct{ leaf, raw frame }

// place calls yield for each leaf, in order, until it returns false.
func (b *blockValue) place(yield func(i int, p placed) bool) error {
	at, r := b.start, b.places
	step := func(roll bool, length uint64) frame {
		if roll {
			at = position{segment: at.segment + 1, offset: segmentHeaderBytes}
		}
		f := frame{at: at, length: uint32(length)}
		at = f.end()
		return f
	}
	next := func(flags uint) (uint64, bool) {
		x, n := binary.Uvarint(r)
		if n <= 0 || x>>flags == 0 || x>>flags > maxFrameBytes {
			return 0, false
		}
		r = r[n:]
		return x, true
	}
	for i := range b.leaves() {
		x, ok := next(2)
		if !ok {
			return b.badPlace(i)
		}
		p := placed{leaf: step(x&1 != 0, x>>2)}
		if x&2 != 0 {
			if x, ok = next(1); !ok {
				return b.badPlace(i)
			}
			p.raw = step(x&1 != 0, x>>1)
		}
		if !yield(i, p) {
			return nil
		}
	}
	if len(r) != 0 {
		return b.badPlace(b.leaves())
	}
	return nil
}

func (b *blockValue) badPlace(i int) error {
	return tableBlocks.damage(number(b.ref.Height), fmt.Sprintf("the place of leaf %d is malformed", i))
}

// placeOf is the place of one leaf.
func (b *blockValue) placeOf(i int) (placed, error) {
	var found placed
	err := b.place(func(j int, p placed) bool {
		found = p
		return j < i
	})
	return found, err
}

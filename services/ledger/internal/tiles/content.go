package tiles

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// hashesOf reads a tile that is within the certified tree, and checks that it
// leads to the certified root.
func hashesOf(store *storage.Store, t Tile, certified tlog.Checkpoint) ([]digest.Digest, error) {
	hashes := make([]digest.Digest, t.Width)
	if err := store.Nodes(t.height(), t.first(), hashes); err != nil {
		return nil, err
	}
	tree, err := tlog.RangeAt(&overlay{nodes: store, tile: t, hashes: hashes}, certified.Size)
	if err != nil {
		return nil, err
	}
	if root := tree.Root(); root != certified.Root {
		return nil, &storage.DataLossError{
			Height: storage.None, Index: storage.None, Offset: storage.None, File: "store.db",
			What: fmt.Sprintf("%s and the nodes beside it do not lead to the certified root of %d leaves", t.Path(), certified.Size),
			Want: certified.Root, Got: root,
		}
	}
	return hashes, nil
}

// overlay is the tree with a tile's hashes in it, and every node above them
// computed from them.
type overlay struct {
	nodes  tlog.Nodes
	tile   Tile
	hashes []digest.Digest
}

// Node is the root of a perfect subtree.
func (o *overlay) Node(id tlog.NodeID) (digest.Digest, error) {
	height := o.tile.height()
	if id.Level < height {
		return o.nodes.Node(id) // RangeAt asks for these only right of all nodes of the tile's height
	}
	up := id.Level - height
	from, to := id.Index<<up, (id.Index+1)<<up
	first := o.tile.first()
	switch {
	case to <= first || from >= first+uint64(len(o.hashes)):
		return o.nodes.Node(id)
	case up == 0:
		return o.hashes[from-first], nil
	}
	left, err := o.Node(tlog.NodeID{Level: id.Level - 1, Index: 2 * id.Index})
	if err != nil {
		return digest.Zero, err
	}
	right, err := o.Node(tlog.NodeID{Level: id.Level - 1, Index: 2*id.Index + 1})
	return tlog.NodeHash(left, right), err
}

// bundleOf reads the leaves that a tile's hashes are of.
func bundleOf(store *storage.Store, t Tile, hashes []digest.Digest) ([]byte, error) {
	var bundle []byte
	err := store.Records(t.first(), uint64(len(hashes)), func(index uint64, leaf []byte) error {
		want := hashes[index-t.first()]
		if got := tlog.LeafHash(leaf); got != want || len(leaf) > math.MaxUint16 {
			return &storage.DataLossError{
				Height: storage.None, Index: int64(index), Offset: storage.None, File: "segments",
				What: fmt.Sprintf("a leaf of %d bytes does not have the hash in the tree", len(leaf)), Want: want, Got: got,
			}
		}
		bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(leaf)))
		bundle = append(bundle, leaf...)
		return nil
	})
	return bundle, err
}

func concatenated(hashes []digest.Digest) []byte {
	b := make([]byte, 0, len(hashes)*digest.Size)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

package follower

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
)

// FuzzForgedBlock lets a replica alter one block of its stream, by its bytes or
// piece by piece: whatever the follower publishes is the ledger's, block, state
// and certificate; what differs ends the stream.
func FuzzForgedBlock(f *testing.F) {
	l := ledgertest.New(f, statetest.Options{})
	var refs []state.BlockRef
	var id digest.Digest
	l.Do(func(n *statetest.Network) {
		n.Approve()
		m := n.Register("meter-01")
		n.AcceptCaptures(m.Capture(), m.Capture())
		n.Accept(n.Sign(n.MeterRegistration("meter-02", statetest.Key("m2")), statetest.Body()))
		n.AcceptCaptures(m.Capture())
		refs, id = slices.Clone(n.Store.Blocks), n.ID
	})
	verifier := signature.NewCache(1 << 12) // the same signatures again and again
	truth := make([]*Snapshot, len(refs))
	var blocks []*ledgerv1.StreamBlocksResponse
	c := newChain(id, verifier)
	for height := range refs {
		blocks = append(blocks, l.Block(uint64(height)))
		s, err := c.add(l.Block(uint64(height)))
		if err != nil || s == nil {
			f.Fatal(s, err)
		}
		truth[height] = s
	}
	f.Add(uint8(0), uint8(0), uint16(0), []byte{})
	for i := range uint8(30) {
		f.Add(i, i%7, uint16(i)*101, []byte{i, 1})
	}
	f.Fuzz(func(t *testing.T, which, kind uint8, at uint16, patch []byte) {
		c := newChain(id, verifier)
		for height, block := range blocks {
			if height == int(which)%len(blocks) {
				if block = forged(block, kind, int(at), patch); block == nil {
					return // no message of this kind
				}
			}
			s, err := c.add(block)
			if err != nil {
				return // another replica is asked
			}
			if s == nil {
				continue
			}
			if height := s.Head().Height; s.Head() != refs[height] || !maps.EqualFunc(s.values, truth[height].values, bytes.Equal) {
				t.Fatalf("block %d is published as %+v, the ledger's is %+v", height, s.Head(), refs[height])
			}
		}
	})
}

// forged is a block after one change; nil where its bytes are no message any more.
func forged(b *ledgerv1.StreamBlocksResponse, kind uint8, at int, patch []byte) *ledgerv1.StreamBlocksResponse {
	encoded, err := proto.Marshal(b)
	if err != nil {
		return nil
	}
	if kind%7 == 0 {
		copy(encoded[at%len(encoded):], patch)
	}
	b = new(ledgerv1.StreamBlocksResponse)
	if proto.Unmarshal(encoded, b) != nil {
		return nil
	}
	if len(b.Leaves) == 0 {
		return b
	}
	i := at % len(b.Leaves)
	switch kind % 7 {
	case 1:
		b.Leaves = slices.Delete(b.Leaves, i, i+1)
	case 2:
		b.Leaves = slices.Insert(b.Leaves, i, &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: patch}})
	case 3:
		b.Leaves = slices.Insert(b.Leaves, i, &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Hash{Hash: patch}})
	case 4:
		if record := b.Leaves[i].GetRecord(); len(record) > 0 {
			copy(record[at/7%len(record):], patch)
		}
	case 5:
		b.Certificate = patch
	case 6:
		b.Leaves[i], b.Leaves[0] = b.Leaves[0], b.Leaves[i]
	}
	return b
}

package receipt_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// What a gateway gives a meter (GetHead): a proof of the newest block's header
// record, the last leaf of the certificate's tree.
func TestHeadVector(t *testing.T) {
	n, _, _ := ledger(t)
	last := uint64(len(n.Store.Leaves) - 1)
	leaf := n.Store.Leaves[last]
	proof, err := tlog.NewProof(leaf, last, n.Path(last), n.Newest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.VerifyRecord(signature.Direct{}, n.Trust()); err != nil {
		t.Fatal(err)
	}
	r, err := record.Parse(leaf)
	if err != nil || r.GetBlockHeader() == nil {
		t.Fatalf("the last leaf is %v (%v), want a block header", r, err)
	}
	golden.Bytes(t, "receipts/head.proof", proof.Text())
	golden.JSON(t, "receipts/head.json", map[string]any{
		"trust": "receipts/trust.bundle", "known_height": r.GetBlockHeader().GetHeight(), "known_block": record.HeaderDigest(leaf),
		"block_time_unix_nano": r.GetBlockHeader().GetBlockTimeUnixNano(), "certified_at_unix": proof.Certificate.MedianTime(),
	})
}

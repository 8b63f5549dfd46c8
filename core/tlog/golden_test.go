package tlog_test

import (
	"encoding/hex"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// The vectors let another implementer check parsing, key IDs, Merkle hashes and
// the quorum rule: tlog.policy accepts tlog.proof, whose record is in the extra
// data; tlog.json says what each part is.
func TestGoldenVectors(t *testing.T) {
	net := newNetwork(t, 4, 3, 7)
	certificate := net.certify(0, 2, 3)
	receipt := net.receipt(4, certificate)
	if _, err := receipt.VerifyRecord(signature.Direct{}, net.policy); err != nil {
		t.Fatal(err)
	}
	consistency, err := tlog.ConsistencyProof(net.nodes, 3, 7)
	if err != nil {
		t.Fatal(err)
	}
	var records []string
	var leaves, roots []digest.Digest
	for i, record := range net.records {
		records = append(records, string(record))
		leaves = append(leaves, tlog.LeafHash(record))
		roots = append(roots, tlog.RootOf(leaves[:i+1]))
	}
	golden.Bytes(t, "tlog.certificate", certificate.Text())
	golden.Bytes(t, "tlog.policy", net.policy.Text())
	golden.Bytes(t, "tlog.proof", receipt.Text())
	golden.JSON(t, "tlog.json", map[string]any{
		"genesis":               genesisText,
		"genesis_digest":        digest.Of(digest.Statement, []byte(genesisText)),
		"origin":                net.origin,
		"records":               records,
		"leaf_hashes":           leaves,
		"roots_of_1_to_7":       roots,
		"empty_root":            tlog.EmptyRoot(),
		"compact_range_of_7":    hex.EncodeToString(net.tree.Bytes()),
		"consistency_of_3_in_7": consistency,
		"median_time_unix":      certificate.MedianTime(),
	})
}

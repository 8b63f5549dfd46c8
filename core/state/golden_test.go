package state_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// TestGolden fixes a small ledger to the byte: every leaf, every root, and the
// state that it ends in.
func TestGolden(t *testing.T) {
	n := statetest.New(t, statetest.Options{Organisations: 1})
	n.Approve()
	m := n.Register("meter-1")
	n.NowUnix += 3
	first, second, third := m.Capture(), m.Capture(), m.Capture()
	n.AcceptCaptures(third, first)
	n.NowUnix += 2
	n.AcceptCaptures(second)
	n.Accept(equivocation(n, m, nil))

	type block struct {
		Height            uint64        `json:"height"`
		Leaves            [][]byte      `json:"leaves"`
		Header            digest.Digest `json:"header"`
		BlockTimeUnixNano int64         `json:"blockTimeUnixNano"`
		Root              digest.Digest `json:"root"`
		Admin             digest.Digest `json:"admin"`
	}
	type value struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	}
	ledger := struct {
		NetworkID digest.Digest `json:"networkId"`
		Blocks    []block       `json:"blocks"`
		State     []value       `json:"state"`
	}{NetworkID: n.ID}
	for height, ref := range n.Store.Blocks {
		ledger.Blocks = append(ledger.Blocks, block{
			Height: ref.Height, Leaves: n.Store.BlockLeaves(uint64(height)), Header: ref.Header,
			BlockTimeUnixNano: ref.BlockTimeUnixNano, Root: ref.Root, Admin: ref.Admin,
		})
	}
	for _, w := range n.Store.Writes() {
		ledger.State = append(ledger.State, value{w.Key, w.Value})
	}
	golden.JSON(t, "ledger.json", ledger)
}

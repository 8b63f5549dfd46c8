package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Fetch streams blocks from other replicas, ascending from one height to
// another, and gives each to take; an error of take means that the block is bad.
type Fetch func(ctx context.Context, from, to uint64, take func(*replicav1.FetchBlocksResponse) error) error

// fetchBatch is how many fetched blocks become durable at once.
const fetchBatch = 64

// pointer is what a snapshot is: a name of a state, never the state.
type pointer struct {
	height  uint64
	header  digest.Digest
	applied uint64 // ordering index
}

const pointerBytes = 8 + digest.Size + 8

// SnapshotPointer names the present state.
func (m *Machine) SnapshotPointer() ([]byte, error) {
	head := m.Head().Block
	b := binary.BigEndian.AppendUint64(make([]byte, 0, pointerBytes), head.Height)
	b = append(b, head.Header[:]...)
	return binary.BigEndian.AppendUint64(b, m.AppliedIndex()), nil
}

func parsePointer(b []byte) (p pointer, err error) {
	if len(b) != pointerBytes {
		return p, fmt.Errorf("snapshot pointer has %d bytes, want %d", len(b), pointerBytes)
	}
	p.height = binary.BigEndian.Uint64(b)
	copy(p.header[:], b[8:])
	p.applied = binary.BigEndian.Uint64(b[8+digest.Size:])
	return p, nil
}

// RestorePointer fetches the blocks up to the one that a pointer names and
// applies each through the same transition as any other. Blocks held here stay
// (rule R0); if the pointer contradicts them the node stops with DATA_LOSS.
//
// The fetched blocks need no certificate to be applied: as with ordered
// entries, certification comes after, and each header's certificate is checked
// by the transition. A peer that sends other blocks is found by the pointer's
// header digest; nothing of them is kept.
func (m *Machine) RestorePointer(ctx context.Context, encoded []byte) error {
	p, err := parsePointer(encoded)
	if err != nil {
		return err
	}
	if p.applied <= m.AppliedIndex() {
		return m.contradicts(p)
	}
	head := m.Head().Block
	if p.height < head.Height {
		return reason.New(reason.DataLoss, "pointer of entry %d names block %d, this replica has %d blocks at entry %d", p.applied, p.height, head.Height, m.AppliedIndex())
	}
	var blocks []*replicav1.FetchBlocksResponse
	if p.height > head.Height {
		err := m.fetch(ctx, head.Height+1, p.height, func(b *replicav1.FetchBlocksResponse) error {
			blocks = append(blocks, b)
			if b.GetHeight() == p.height || len(blocks) == fetchBatch {
				err := m.take(blocks, p)
				blocks = nil
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := m.contradicts(p); err != nil {
		return err
	}
	return m.store.Commit(storage.Batch{AppliedIndex: p.applied})
}

// contradicts compares a pointer with the block held here at its height.
func (m *Machine) contradicts(p pointer) error {
	block, ok, err := m.store.Block(p.height)
	if err != nil {
		return err
	}
	if !ok || block.Header != p.header {
		return reason.New(reason.DataLoss, "pointer names header %s at block %d, this replica holds %s there", p.header.Short(), p.height, block.Header.Short())
	}
	return nil
}

// take replays fetched blocks and makes them durable at once.
func (m *Machine) take(blocks []*replicav1.FetchBlocksResponse, p pointer) error {
	b := m.begin()
	rollback := m.tree.Clone()
	batch := storage.Batch{AppliedIndex: m.AppliedIndex()}
	for _, fetched := range blocks {
		if err := b.replay(fetched); err != nil {
			m.tree = rollback
			return err
		}
		if b.head.Height == p.height && b.head.Header != p.header {
			m.tree = rollback
			return fmt.Errorf("block %d has header %s, the pointer names %s", p.height, b.head.Header.Short(), p.header.Short())
		}
	}
	return b.commit(batch)
}

func (b *building) replay(fetched *replicav1.FetchBlocksResponse) error {
	vectors, err := placed(fetched.GetRecords(), fetched.GetRawVectors())
	if err != nil {
		return err
	}
	byLeaf := make(map[int]state.RawVector, len(vectors))
	for _, v := range vectors {
		byLeaf[v.Leaf] = state.DescribeRaw(v.Bytes)
	}
	sealed, err := state.Replay(b.pending, b.head, state.Options{Verifier: b.cache}, fetched.GetRecords(), func(leaf int) (state.RawVector, bool) {
		v, ok := byLeaf[leaf]
		return v, ok
	})
	if err != nil {
		return err
	}
	return b.add(sealed, vectors)
}

// placed assigns raw vectors, which come in the order of the measurements, to leaves.
func placed(leaves, raw [][]byte) ([]storage.RawVector, error) {
	var vectors []storage.RawVector
	for i, leaf := range leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			return nil, err
		}
		if r.GetMeasurement() == nil {
			continue
		}
		if len(vectors) == len(raw) {
			return nil, fmt.Errorf("block has more measurements than its %d raw vectors", len(raw))
		}
		vectors = append(vectors, storage.RawVector{Leaf: i, Bytes: raw[len(vectors)]})
	}
	if len(vectors) != len(raw) {
		return nil, fmt.Errorf("block has %d measurements and %d raw vectors", len(vectors), len(raw))
	}
	return vectors, nil
}

// OwnCosignature is this replica's newest cosignature in its exact bytes; nil
// before the first.
func (m *Machine) OwnCosignature() (*certify.Signed, error) {
	lock := m.store.Lock()
	if lock.IsZero() {
		return nil, nil
	}
	config, err := state.GetConfig(m.store)
	if err != nil {
		return nil, err
	}
	logLine, rest, _ := strings.Cut(string(bytes.TrimSuffix(m.store.Cosignature(), []byte("\n"))), "\n")
	s := &certify.Signed{Height: lock.Height, Checkpoint: tlog.Checkpoint{Origin: config.Origin(), Size: lock.Size, Root: lock.Root}}
	if s.Log, err = tlog.ParseLogSignature(logLine); err != nil {
		return nil, reason.New(reason.DataLoss, "stored log signature: %v", err)
	}
	if s.Cosignature, err = tlog.ParseCosignature(rest); err != nil {
		return nil, reason.New(reason.DataLoss, "stored cosignature: %v", err)
	}
	quorum, err := state.QuorumAt(m.store, lock.Height)
	if err != nil {
		return nil, err
	}
	key, ok := quorum.Cosigner(s.Cosignature.Name)
	if !ok {
		return nil, nil // not a member of the quorum any more
	}
	if err := s.Cosignature.Verify(signature.Direct{}, key, s.Checkpoint); err != nil {
		return nil, reason.New(reason.DataLoss, "stored cosignature: %v", err)
	}
	return s, nil
}

package fsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

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

// Fetch streams blocks from other replicas, one replica after the other, and
// gives each to take. from is asked before each replica; blocks ascend from
// there to the last height. An error of take means that the block is bad, and
// the next replica is asked.
type Fetch func(ctx context.Context, from func() uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error

// Fetched blocks become durable once there are so many, or so many bytes of
// them, and a certificate covers them.
const (
	fetchBatch      = 64
	fetchBatchBytes = 16 << 20
)

// pointer is what a snapshot is: a name of a state, never the state.
type pointer struct {
	height  uint64
	header  digest.Digest
	applied uint64 // ordering index
}

const pointerBytes = 8 + digest.Size + 8

// SnapshotPointer names the present state. There is no name for one that holds
// blocks whose entries do not count as applied yet.
func (m *Machine) SnapshotPointer() ([]byte, error) {
	if m.Restoring() {
		return nil, fmt.Errorf("entries up to %d come again, applied are %d: no snapshot yet", m.restored.applied, m.AppliedIndex())
	}
	head := m.Head().Block
	return pointer{height: head.Height, header: head.Header, applied: m.AppliedIndex()}.encode(), nil
}

// Pointer names the state after a block whose effects include all up to an
// ordering index: for a recovery, which makes that block without an entry.
func Pointer(block state.BlockRef, applied uint64) []byte {
	return pointer{height: block.Height, header: block.Header, applied: applied}.encode()
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
// A fetched block is kept only when a certificate that came with it, or one in a
// later header, covers it, or when it leads to the header that the pointer names:
// what a peer invents is dropped, and the next peer is asked.
func (m *Machine) RestorePointer(ctx context.Context, encoded []byte) error {
	p, err := parsePointer(encoded)
	if err != nil {
		return err
	}
	if p.applied <= m.AppliedIndex() {
		return m.contradicts(p)
	}
	if head := m.Head().Block; p.height < head.Height && p.applied > m.restored.applied {
		return reason.New(reason.DataLoss, "pointer of entry %d names block %d, this replica has %d blocks at entry %d", p.applied, p.height, head.Height, m.AppliedIndex())
	} else if p.height > head.Height {
		if err := m.restored.begin(p); err != nil {
			return err
		}
		if err := m.fetchUpTo(ctx, p); err != nil {
			return err
		}
	}
	if err := m.contradicts(p); err != nil {
		return err
	}
	if err := m.store.Commit(storage.Batch{AppliedIndex: p.applied}); err != nil {
		return err
	}
	return m.restored.end(p.applied)
}

// Restoring tells whether blocks are held whose entries do not count as applied
// yet. It belongs to the goroutine of ApplyBatch, or to a time before that.
func (m *Machine) Restoring() bool { return m.restored.applied > m.AppliedIndex() }

// Goal is the height that blocks are being fetched up to; 0 when none are.
func (m *Machine) Goal() uint64 { return m.goal.Load() }

// CatchUp fetches the blocks up to a certified one, whose entry has the given
// ordering index, for a replica that lacks so many that it should not wait for
// the ordering engine. Call it before the engine starts. The entries up to that
// index then make no blocks here (rule R4). Each block is kept only under a
// certificate; an index that is wrong costs this replica its place, as a leader
// that sends a wrong pointer does, and nobody else anything.
func (m *Machine) CatchUp(ctx context.Context, height, index uint64) error {
	p := pointer{height: height, applied: index}
	switch {
	case height <= m.Head().Block.Height:
		return nil
	case index <= m.AppliedIndex() || index < m.restored.applied || index == m.restored.applied && height != m.restored.height:
		return fmt.Errorf("block %d is said to be of entry %d, held here are %d blocks of %d entries", height, index,
			m.Head().Block.Height, max(m.AppliedIndex(), m.restored.applied))
	}
	if err := m.restored.begin(p); err != nil {
		return err
	}
	return m.fetchUpTo(ctx, p)
}

// Resume fetches what is missing of a restoration that an earlier life did not
// finish. Call it before the ordering engine starts.
func (m *Machine) Resume(ctx context.Context) error {
	if err := m.restored.end(m.AppliedIndex()); err != nil {
		return err
	}
	if p := m.restored.pointer; p.height > m.Head().Block.Height {
		return m.fetchUpTo(ctx, p)
	}
	return nil
}

// finishedRestoring says whether entries may be applied.
func (m *Machine) finishedRestoring() error {
	if p := m.restored.pointer; p.height > m.Head().Block.Height {
		return fmt.Errorf("blocks up to %d of %d are fetched for entry %d; the rest is fetched when the replica starts again", m.Head().Block.Height, p.height, p.applied)
	}
	return nil
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

// fetchUpTo brings the blocks up to a pointer's.
func (m *Machine) fetchUpTo(ctx context.Context, p pointer) error {
	m.goal.Store(p.height)
	defer m.goal.Store(0)
	progress := newProgress(m, p.height)
	var blocks []*replicav1.FetchBlocksResponse
	bytes := 0
	var failed error // of this replica, not of a peer's block
	from := func() uint64 {
		blocks, bytes = nil, 0
		return m.Head().Block.Height + 1
	}
	take := func(b *replicav1.FetchBlocksResponse) error {
		if failed != nil {
			return failed
		}
		blocks, bytes = append(blocks, b), bytes+proto.Size(b)
		if b.GetHeight() < p.height && len(blocks) < fetchBatch && bytes < fetchBatchBytes {
			return nil
		}
		kept, err := m.take(blocks, p)
		var own *ownError
		if errors.As(err, &own) {
			failed = own
		}
		if err == nil {
			blocks, bytes = blocks[kept:], 0
			progress.tell(ctx)
		}
		return err
	}
	// What expired elsewhere may still be with another replica: each is asked first for
	// whole blocks.
	m.wantWhole = true
	err := m.fetch(ctx, from, p.height, take)
	if m.wantWhole = false; errors.Is(err, errExpired) && failed == nil && ctx.Err() == nil {
		err = m.fetch(ctx, from, p.height, take)
	}
	return errors.Join(failed, err)
}

// ownError is a failure of this replica and not a fault of what a peer sent.
type ownError struct{ cause error }

func (e *ownError) Error() string { return e.cause.Error() }
func (e *ownError) Unwrap() error { return e.cause }

// take replays fetched blocks and makes durable, at once, those that are
// covered; the rest is to be given again with what follows.
func (m *Machine) take(blocks []*replicav1.FetchBlocksResponse, p pointer) (kept int, err error) {
	b := m.begin()
	before := m.tree
	m.tree = before.Clone()
	for _, fetched := range blocks {
		if err := b.replay(fetched); err != nil {
			m.tree = before
			var lost *storage.DataLossError
			if errors.As(err, &lost) {
				err = &ownError{err}
			}
			return 0, err
		}
	}
	reached := b.head.Height == p.height
	named := reached && !p.header.IsZero() // by whoever made the pointer
	if named && b.head.Header != p.header {
		m.tree = before
		return 0, fmt.Errorf("block %d has header %s, the pointer names %s", p.height, b.head.Header.Short(), p.header.Short())
	}
	batch := storage.Batch{AppliedIndex: m.AppliedIndex(), Blocks: b.pending.Blocks()}
	covered := b.head.CertifiedHeight
	if n := len(b.certificates); n > 0 {
		covered = max(covered, b.certificates[n-1].Height)
	}
	for kept = len(batch.Blocks); kept > 0 && !named && batch.Blocks[kept-1].Ref.Height > covered; {
		kept--
	}
	if reached && kept < len(batch.Blocks) {
		m.tree = before
		return 0, fmt.Errorf("no certificate up to block %d covers the blocks above %d", p.height, covered)
	}
	if batch.Blocks = batch.Blocks[:kept]; kept == 0 {
		m.tree = before
		return 0, nil
	}
	if err := b.keep(batch, reached); err != nil {
		return 0, &ownError{err}
	}
	return kept, nil
}

// keep commits fetched blocks, and then the certificates that came with them.
// Only the last of all is cosigned: others have certified those before it.
func (b *building) keep(batch storage.Batch, reached bool) (err error) {
	last := &batch.Blocks[len(batch.Blocks)-1]
	var signed *certify.Signed
	if reached && last.Lacking == 0 { // rule C2
		if signed, err = b.sign(last.Ref); err != nil {
			return err
		}
		if signed != nil {
			last.Lock, last.Cosignature = b.signer.Lock(), Lines(signed)
		}
	}
	b.visible.Store(last.Ref.Height)
	if err := b.store.Commit(batch); err != nil {
		return err
	}
	if b.tree.Size() != last.Ref.Size {
		if b.tree, err = b.store.Range(); err != nil {
			return err
		}
	}
	if err := b.setHead(last.Ref); err != nil {
		return err
	}
	if err := b.collector.Applied(last.Ref, signed); err != nil {
		return err
	}
	if signed != nil {
		b.publish(*signed)
	}
	return b.adopt(batch.Blocks)
}

// adopt keeps the certificates of committed blocks.
func (b *building) adopt(blocks []storage.Block) error {
	last := blocks[len(blocks)-1].Ref.Height
	own := slices.DeleteFunc(slices.Clone(b.certificates), func(c storage.Certificate) bool { return c.Height > last })
	if len(own) == 0 {
		return nil
	}
	if err := b.store.PutCertificates(own); err != nil {
		return err
	}
	newest := own[len(own)-1]
	b.collector.Adopt(certify.Certified{Block: blocks[newest.Height-blocks[0].Ref.Height].Ref, Text: newest.Note})
	return nil
}

func (b *building) replay(fetched *replicav1.FetchBlocksResponse) error {
	lacking, err := b.allowed(fetched)
	if err != nil {
		return err
	}
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
	if err := b.add(sealed, vectors, lacking, false); err != nil || len(fetched.GetCertificate()) == 0 {
		return err
	}
	certificate, err := tlog.ParseCertificate(fetched.GetCertificate())
	if err != nil {
		return fmt.Errorf("certificate of block %d: %w", b.head.Height, err)
	}
	if got := certificate.Checkpoint; got.Size != b.head.Size || got.Root != b.head.Root {
		return fmt.Errorf("certificate of block %d is of size %d and root %s, the block has size %d and root %s",
			b.head.Height, got.Size, got.Root.Short(), b.head.Size, b.head.Root.Short())
	}
	quorum, err := state.QuorumAt(b.pending, b.head.Height)
	if err != nil {
		return err
	}
	if err := quorum.Check(b.cache, certificate); err != nil {
		return fmt.Errorf("certificate of block %d: %w", b.head.Height, err)
	}
	b.certificates = append(b.certificates, storage.Certificate{Height: b.head.Height, Note: fetched.GetCertificate()})
	return nil
}

// placed assigns raw vectors, which come in the order of the measurements, to leaves;
// an empty one is left out.
func placed(leaves, raw [][]byte) ([]storage.RawVector, error) {
	var vectors []storage.RawVector
	measurements := 0
	for i, leaf := range leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			return nil, err
		}
		if r.GetMeasurement() == nil {
			continue
		}
		if measurements == len(raw) {
			return nil, fmt.Errorf("block has more measurements than its %d raw vectors", len(raw))
		}
		if len(raw[measurements]) > 0 {
			vectors = append(vectors, storage.RawVector{Leaf: i, Bytes: raw[measurements]})
		}
		measurements++
	}
	if measurements != len(raw) {
		return nil, fmt.Errorf("block has %d measurements and %d raw vectors", measurements, len(raw))
	}
	return vectors, nil
}

// OwnCosignature is this replica's newest cosignature in its exact bytes; nil
// before the first.
func (m *Machine) OwnCosignature() (*certify.Signed, error) { return CosignatureOf(m.store) }

// CosignatureOf is the newest cosignature in a store, whoever made it.
func CosignatureOf(store *storage.Store) (*certify.Signed, error) {
	lock := store.Lock()
	if lock.IsZero() {
		return nil, nil
	}
	config, err := state.GetConfig(store)
	if err != nil {
		return nil, err
	}
	logLine, rest, _ := strings.Cut(string(bytes.TrimSuffix(store.Cosignature(), []byte("\n"))), "\n")
	s := &certify.Signed{Height: lock.Height, Checkpoint: tlog.Checkpoint{Origin: config.Origin(), Size: lock.Size, Root: lock.Root}}
	if s.Log, err = tlog.ParseLogSignature(logLine); err != nil {
		return nil, reason.New(reason.DataLoss, "stored log signature: %v", err)
	}
	if s.Cosignature, err = tlog.ParseCosignature(rest); err != nil {
		return nil, reason.New(reason.DataLoss, "stored cosignature: %v", err)
	}
	quorum, err := state.QuorumAt(store, lock.Height)
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

// Package fsm applies what was ordered: it runs the ledger's one transition
// (core/state), keeps the result, and cosigns it.
//
// Source: architecture, rules C1, C2, C5, R2 and R4.
//
// Invariants:
//   - A batch of entries becomes durable in one storage.Commit, applied index,
//     entry digests, lock and cosignature included; only then does a
//     cosignature or an answer leave this package.
//   - Every block is built by core/state from the entry and the ledger before
//     it; no clock and no configuration file takes part. The clock enters only
//     into this replica's own cosignature.
//   - An error stops the node. An entry that makes no sense still applies.
package fsm

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Machine is this replica's state machine. ApplyBatch and RestorePointer belong
// to the ordering engine's goroutine; Head may be called from any.
type Machine struct {
	store     *storage.Store
	cache     *signature.Cache
	collector *certify.Collector
	signer    *certify.Signer
	publish   func(certify.Signed)                 // hands a durable cosignature to the peers
	fetch     Fetch                                // for RestorePointer
	committed func([]storage.Block, time.Duration) // may be nil
	hang      func(error)                          // ends the process; may be nil
	log       *slog.Logger

	tree     *tlog.Range // owned by the apply goroutine
	restored restoring   // owned by the apply goroutine
	cosigns  membership  // owned by the apply goroutine

	// Of fetched blocks, owned by the apply goroutine: raw vectors of lower ones may be
	// missing, by a decision that is held or was proven; whether a replica is still
	// looked for that kept them.
	expiredBelow uint64
	wantWhole    bool

	head    atomic.Pointer[Head]
	visible atomic.Uint64
	bad     atomic.Uint64 // proposals that applied as an empty block, since the start
	goal    atomic.Uint64 // height that blocks are being fetched up to; 0 when none are
	entries entryIndices

	expected expected
}

// Head is the newest applied block and what follows from it.
type Head struct {
	Block          state.BlockRef
	MaxUncertified uint32 // the limit of the configuration in force
	Config         bool   // the block brought that configuration (rule C6)
}

// Config is what a Machine is made of.
type Config struct {
	Store     *storage.Store // holds at least the genesis block
	Cache     *signature.Cache
	Collector *certify.Collector
	Signer    *certify.Signer
	Publish   func(certify.Signed)
	Fetch     Fetch
	Dir       string                                           // where a restoration that is under way is noted
	Committed func(blocks []storage.Block, took time.Duration) // told of every durable batch; decides nothing; may be nil
	Hang      func(error)                                      // ends the process, at once: a commit takes longer than a disk may (rule R3); may be nil
	Log       *slog.Logger
}

// New continues from what the store holds.
func New(c Config) (*Machine, error) {
	head, ok := c.Store.Head()
	if !ok {
		return nil, errors.New("state machine: the store has no genesis block")
	}
	tree, err := c.Store.Range()
	if err != nil {
		return nil, fmt.Errorf("state machine: %w", err)
	}
	if tree.Size() != head.Size || tree.Root() != head.Root {
		return nil, reason.New(reason.DataLoss, "the tree has size %d and root %s, block %d says size %d and root %s",
			tree.Size(), tree.Root().Short(), head.Height, head.Size, head.Root.Short())
	}
	m := &Machine{store: c.Store, cache: c.Cache, collector: c.Collector, signer: c.Signer,
		publish: c.Publish, fetch: c.Fetch, committed: c.Committed, hang: c.Hang, log: c.Log, tree: tree}
	m.visible.Store(head.Height)
	if m.restored, err = openRestoring(c.Dir); err != nil {
		return nil, err
	}
	if !m.Restoring() {
		m.entries.add(head.Height, m.AppliedIndex())
	}
	if err := m.setHead(head); err != nil {
		return nil, err
	}
	return m, nil
}

// Cache is the cache of signature checks, shared with whoever checks ahead.
func (m *Machine) Cache() *signature.Cache { return m.cache }

// Head is the newest applied block.
func (m *Machine) Head() Head { return *m.head.Load() }

// Visible is a height at or above every block of which a read of the store that
// returned before this call can have seen anything: rule C3 waits for it.
func (m *Machine) Visible() uint64 { return m.visible.Load() }

// BadProposals is how many proposals applied as an empty block since the start,
// because they were malformed or their certificate is not of this ledger. Either
// the replica that led then, or this one, is not what it should be.
func (m *Machine) BadProposals() uint64 { return m.bad.Load() }

func (m *Machine) setHead(block state.BlockRef) error {
	config, err := state.GetConfig(m.store)
	if err != nil {
		return err
	}
	m.head.Store(&Head{
		Block: block, MaxUncertified: config.Message.GetLimits().GetMaxUncertifiedBlocks(),
		Config: block.Height > 0 && config.Height == block.Height,
	})
	return nil
}

// AppliedIndex is the highest ordering index whose effects are durable.
func (m *Machine) AppliedIndex() uint64 { return m.store.AppliedIndex() }

// AppliedDigest is the digest of the entry that was applied at an index. A
// digest that cannot be read is given as zero, which no entry has: the engine
// then stops, as it must (rule R2).
func (m *Machine) AppliedDigest(index uint64) (digest.Digest, bool) {
	d, ok, err := m.store.EntryDigest(index)
	if err != nil {
		m.log.Error("the digest of an applied entry cannot be read", "index", index, "error", err)
		return digest.Zero, true
	}
	return d, ok
}

// ApplyBatch applies entries in order and makes all of them durable at once.
func (m *Machine) ApplyBatch(entries []ordering.Entry) (responses []any, err error) {
	err = fault.Around(fault.Apply, func() error {
		responses, err = m.applyBatch(entries)
		return err
	})
	return responses, err
}

func (m *Machine) applyBatch(entries []ordering.Entry) ([]any, error) {
	if err := m.finishedRestoring(); err != nil {
		return nil, err
	}
	begun := time.Now()
	b := m.begin()
	batch := storage.Batch{}
	results := make([]propose.Applied, len(entries))
	for i, entry := range entries {
		applied, err := b.applyOnce(entry)
		if err != nil {
			err = fmt.Errorf("apply entry %d: %w", entry.Index, err)
			if reason.Of(err) == reason.UnsupportedVersion && i > 0 {
				// What this build understands becomes durable; a later build goes on.
				err = errors.Join(err, b.commit(batch))
			}
			return nil, err
		}
		results[i] = applied
		batch.Entries = append(batch.Entries, storage.Entry{Index: entry.Index, Digest: entry.Digest})
		batch.AppliedIndex = entry.Index
	}
	if err := b.commit(batch); err != nil {
		return nil, err
	}
	ended := time.Now()
	responses := make([]any, len(results))
	for i, applied := range results {
		if applied.Ignored != errRestored { //nolint:errorlint // it is this very value.
			m.entries.add(applied.Height, entries[i].Index)
		}
		applied.Began, applied.Ended = begun, ended
		responses[i] = applied
	}
	return responses, m.restored.end(batch.AppliedIndex)
}

// applyOnce applies an entry unless its block came with a restoration.
func (b *building) applyOnce(entry ordering.Entry) (propose.Applied, error) {
	if entry.Index <= b.restored.applied {
		return propose.Applied{Height: b.head.Height, Ignored: errRestored}, nil
	}
	return b.apply(entry)
}

// building is a batch of blocks before they are durable.
type building struct {
	*Machine
	pending *storage.Pending
	signed  []*certify.Signed // one for each block; nil while rule C7 keeps quiet
	head    state.BlockRef

	certificates []storage.Certificate // that came with fetched blocks, checked
	refused      []storage.Certificate // that came in proposals, and that the transition refused
}

func (m *Machine) begin() *building {
	return &building{Machine: m, pending: m.store.Pending(), head: m.Head().Block}
}

// apply decides one entry (rule C5).
func (b *building) apply(entry ordering.Entry) (propose.Applied, error) {
	proposal, malformed := decode(entry.Data)
	options := state.Options{Verifier: b.cache}
	var block *state.Block
	err := malformed
	if malformed == nil {
		block, err = state.Begin(b.pending, b.head, options, proposal.GetCertifiedHeight(), proposal.GetCertificate())
	}
	ignored := err
	if malformed != nil || errors.Is(err, state.ErrBadProposal) {
		b.bad.Add(1)
		b.log.Error("a malformed proposal applies as an empty block", "index", entry.Index, "error", err,
			"certified_height", proposal.GetCertifiedHeight(), "certificate", string(proposal.GetCertificate()))
		if note := proposal.GetCertificate(); len(note) > 0 {
			b.refused = append(b.refused, storage.Certificate{Height: proposal.GetCertifiedHeight(), Note: note})
		}
		block, err = state.BeginEmpty(b.pending, b.head, options)
		proposal = nil
	}
	if errors.Is(err, state.ErrTooFarAhead) {
		return propose.Applied{Height: b.head.Height, Ignored: err}, nil
	}
	if err != nil {
		return propose.Applied{}, err
	}
	results := make([][]state.Outcome, len(proposal.GetSubmissions()))
	submissions := b.parse(proposal.GetSubmissions())
	if err := b.verify(block, submissions); err != nil {
		return propose.Applied{}, err
	}
	for i, s := range submissions {
		if results[i], err = block.Submit(s); err != nil {
			return propose.Applied{}, err
		}
	}
	sealed, err := block.Seal()
	if err != nil {
		return propose.Applied{}, err
	}
	if err := b.add(sealed, vectorsOf(sealed, proposal.GetSubmissions(), results), 0, true); err != nil {
		return propose.Applied{}, err
	}
	return propose.Applied{Height: b.head.Height, Results: results, Ignored: ignored}, nil
}

// add appends a sealed block to the tree and to the batch, and cosigns it if it
// is certain to be committed. It lacks so many raw vectors, which expired.
func (b *building) add(sealed *state.Sealed, vectors []storage.RawVector, lacking int, certain bool) error {
	nodes := storage.Extend(b.tree, sealed.LeafHashes)
	ref := sealed.Complete(b.tree.Root())
	block := storage.Block{Ref: ref, Leaves: sealed.Records, LeafHashes: sealed.LeafHashes,
		RawVectors: vectors, Lacking: lacking, Nodes: nodes, Writes: sealed.Writes}
	if err := b.pending.Add(block); err != nil {
		return err
	}
	var signed *certify.Signed
	if certain {
		var err error
		if signed, err = b.sign(ref); err != nil {
			return err
		}
		if signed != nil {
			if err := b.pending.Cosign(b.signer.Lock(), Lines(signed)); err != nil {
				return err
			}
		}
	}
	b.head, b.signed = ref, append(b.signed, signed)
	return nil
}

// sign cosigns the newest pending block (rules C1 and C2), unless this replica
// is of no configuration that its certificate asks: then its word counts
// nowhere, and it gives none.
func (b *building) sign(block state.BlockRef) (signed *certify.Signed, err error) {
	member, err := b.cosigns.at(b.pending, block, b.signer.Name())
	if err != nil || !member {
		return nil, err
	}
	err = fault.Around(fault.Cosign, func() (err error) {
		signed, err = b.signer.Sign(block, b.rootAt)
		return err
	})
	return signed, err
}

// rootAt is the root of this replica's own tree at an earlier size (rule C1).
// The lock is nearly always the head before, whose root is known without reading.
func (b *building) rootAt(size uint64) (digest.Digest, error) {
	if size == b.head.Size {
		return b.head.Root, nil
	}
	earlier, err := tlog.RangeAt(b.store, size)
	if err != nil {
		return digest.Zero, err
	}
	return earlier.Root(), nil
}

// commit makes the batch durable and then, and only then, tells of it.
func (b *building) commit(batch storage.Batch) error {
	batch.Blocks = b.pending.Blocks()
	b.visible.Store(b.head.Height)
	begun := time.Now()
	if err := watched(b.hang, func() error { return b.store.Commit(batch) }); err != nil {
		return err
	}
	if b.committed != nil {
		b.committed(batch.Blocks, time.Since(begun))
	}
	if len(batch.Blocks) == 0 {
		return b.judge()
	}
	if err := b.setHead(b.head); err != nil {
		return err
	}
	for i := range batch.Blocks {
		if err := b.collector.Applied(batch.Blocks[i].Ref, b.signed[i]); err != nil {
			return err
		}
		if b.signed[i] != nil {
			b.publish(*b.signed[i])
		}
	}
	return b.judge()
}

// judge has refused certificates looked at beside the apply, once its blocks are
// known: what they say decides nothing that was applied.
func (b *building) judge() error {
	for _, c := range b.refused {
		if err := b.collector.Refused(c.Height, c.Note); err != nil {
			return err
		}
	}
	return nil
}

// verify checks the signatures of all submissions at once and in parallel into
// the cache, where the transition finds them (rule B4).
func (b *building) verify(block *state.Block, submissions []*state.Submission) error {
	checks, err := block.Checks(submissions...)
	if err != nil {
		return err
	}
	b.cache.VerifyBatch(checks)
	return nil
}

// Parse decodes a submission and digests its raw vectors.
func Parse(s *replicav1.Submission) *state.Submission {
	raw := make([]state.RawVector, len(s.GetRawVectors()))
	for i, v := range s.GetRawVectors() {
		raw[i] = state.DescribeRaw(v)
	}
	return state.ParseSubmission(s.GetRecords(), raw)
}

// parse decodes submissions on every core, those that were not expected.
func (m *Machine) parse(list []*replicav1.Submission) []*state.Submission {
	parsed := make([]*state.Submission, len(list))
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(list)) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(list); i = int(next.Add(1)) - 1 {
				parsed[i] = m.expected.parse(list[i])
			}
		})
	}
	running.Wait()
	return parsed
}

// vectorsOf places the raw vectors of the accepted measurements among the leaves.
func vectorsOf(sealed *state.Sealed, submissions []*replicav1.Submission, results [][]state.Outcome) []storage.RawVector {
	var vectors []storage.RawVector
	for i, s := range submissions {
		if len(s.GetRawVectors()) != len(s.GetRecords())-1 {
			continue // not an endorsement set and its measurements: the transition took none
		}
		for j, raw := range s.GetRawVectors() {
			if outcome := results[i][1+j]; outcome.Accepted {
				vectors = append(vectors, storage.RawVector{Leaf: int(outcome.Index - sealed.Ref.FirstIndex), Bytes: raw})
			}
		}
	}
	return vectors
}

// Lines are the exact note lines of a cosignature, as the store keeps them.
func Lines(s *certify.Signed) []byte {
	return []byte(s.Log.Line() + "\n" + s.Cosignature.Line() + "\n")
}

// GenesisBlock builds block 0 for an empty store.
func GenesisBlock(genesis *recordv1.Genesis) (storage.Block, error) {
	block, err := state.Genesis(genesis.GetRecords(), genesis.GetBlockTimeUnixNano(), state.Options{})
	if err != nil {
		return storage.Block{}, fmt.Errorf("genesis: %w", err)
	}
	sealed, err := block.Seal()
	if err != nil {
		return storage.Block{}, fmt.Errorf("genesis: %w", err)
	}
	tree := tlog.NewRange()
	nodes := storage.Extend(tree, sealed.LeafHashes)
	return storage.Block{Ref: sealed.Complete(tree.Root()), Leaves: sealed.Records, LeafHashes: sealed.LeafHashes,
		Nodes: nodes, Writes: sealed.Writes}, nil
}

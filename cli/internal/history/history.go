// Package history reads every statement on a subject from a ledger: who signed
// what, in which block.
//
// Source: architecture, rules S4 (the chain of a subject) and S6 (a status is
// shown by all administrative records up to a checkpoint).
//
// Invariants:
//   - The replica is not trusted. Its blocks are replayed by the ledger's one
//     transition from the genesis on, without the measurements' content, and end
//     in a checkpoint that the trust bundle accepts: a statement that is forged,
//     left out or moved is an error.
//   - Nothing is told of blocks after that checkpoint.
//
// Known hole: a replica may serve an older certified ledger; the height and the
// time of its newest block are told.
package history

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// Entry is one statement.
type Entry struct {
	Index             uint64
	Height            uint64
	BlockTimeUnixNano int64
	Envelope          *envelope.Envelope
	Signers           []Signer // in the order of the envelope
}

// Signer is who signed, by the configuration of that time.
type Signer struct {
	KeyID string
	Who   string // empty where the signer stands in the state, such as a meter's old key
}

// History is a subject's chain, whole up to a certified block.
type History struct {
	Subject           string
	Entries           []Entry // ascending; the first has sequence 1
	CertifiedHeight   uint64
	BlockTimeUnixNano int64 // of that block
}

// ErrRefuted says that what the replica served is not the ledger of the trust bundle.
var ErrRefuted = errors.New("not the certified ledger")

// Read replays a replica's ledger up to what is certified when it begins.
func Read(ctx context.Context, client ledgerv1.LedgerServiceClient, bundle *trust.Bundle, subject string) (*History, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.StreamBlocks(ctx, &ledgerv1.StreamBlocksRequest{View: ledgerv1.StreamView_STREAM_VIEW_ADMINISTRATIVE, StopAtHead: true})
	if err != nil {
		return nil, err
	}
	l := &ledger{values: make(map[string][]byte), tree: tlog.NewRange(), subject: subject, verifier: signature.NewCache(1 << 10)}
	for {
		block, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := l.add(block); err != nil {
			return nil, fmt.Errorf("%w: block %d: %w", ErrRefuted, block.GetHeight(), err)
		}
	}
	return l.conclude(bundle)
}

// ledger is the administrative state so far.
type ledger struct {
	values   map[string][]byte
	blocks   []state.BlockRef
	tree     *tlog.Range
	verifier signature.Verifier

	subject     string
	entries     []Entry
	certificate []byte // of the newest block that came with one
	certified   uint64 // its height
}

// Get implements state.View.
func (l *ledger) Get(key []byte) ([]byte, error) { return l.values[string(key)], nil }

// Block implements state.View.
func (l *ledger) Block(height uint64) (state.BlockRef, bool, error) {
	if height >= uint64(len(l.blocks)) {
		return state.BlockRef{}, false, nil
	}
	return l.blocks[height], true, nil
}

// Record implements state.View; the administrative view has no records.
func (l *ledger) Record(index uint64) ([]byte, error) {
	return nil, reason.New(reason.NotFound, "the administrative view holds no records, record %d is asked for", index)
}

func (l *ledger) add(block *ledgerv1.StreamBlocksResponse) error {
	if want := uint64(len(l.blocks)); block.GetHeight() != want {
		return fmt.Errorf("block %d was due", want)
	}
	if err := l.collect(block); err != nil { // before its own configuration counts
		return err
	}
	sealed, err := l.replay(block.GetLeaves())
	if err != nil {
		return err
	}
	l.tree.Append(sealed.LeafHashes...)
	for _, w := range sealed.Writes {
		l.values[string(w.Key)] = w.Value
	}
	ref := sealed.Complete(l.tree.Root())
	l.blocks = append(l.blocks, ref)
	for i := len(l.entries) - 1; i >= 0 && l.entries[i].Height == ref.Height; i-- {
		l.entries[i].BlockTimeUnixNano = ref.BlockTimeUnixNano
	}
	if text := block.GetCertificate(); len(text) > 0 {
		l.certificate, l.certified = text, ref.Height
	}
	return nil
}

func (l *ledger) replay(served []*ledgerv1.Leaf) (*state.Sealed, error) {
	leaves, records := make([]state.Leaf, len(served)), make([][]byte, len(served))
	for i, leaf := range served {
		if records[i] = leaf.GetRecord(); records[i] != nil {
			leaves[i] = state.Leaf{Record: records[i]}
			continue
		}
		hash, err := digest.FromBytes(leaf.GetHash())
		if err != nil {
			return nil, fmt.Errorf("leaf %d: %w", i, err)
		}
		leaves[i] = state.Leaf{Hash: hash}
	}
	options := state.Options{Verifier: l.verifier}
	if len(leaves) == 0 {
		return nil, errors.New("it has no leaves")
	}
	if n := len(l.blocks); n > 0 {
		return state.ReplayAdministrative(l, l.blocks[n-1], options, leaves)
	}
	return state.ReplayGenesis(records, options)
}

// collect keeps the block's statements on the subject.
func (l *ledger) collect(block *ledgerv1.StreamBlocksResponse) error {
	for i, leaf := range block.GetLeaves() {
		if leaf.GetRecord() == nil {
			continue
		}
		r, err := record.Parse(leaf.GetRecord())
		if err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
		if r.GetStatement() == nil {
			continue
		}
		e := record.ToEnvelope(r.GetStatement())
		subject, err := state.SubjectOf(e)
		if err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
		if subject != l.subject {
			continue
		}
		entry := Entry{Index: l.tree.Size() + uint64(i), Height: block.GetHeight(), Envelope: e}
		if entry.Signers, err = l.signers(e); err != nil {
			return err
		}
		l.entries = append(l.entries, entry)
	}
	return nil
}

// signers names who signed. The replay judges whether they might.
func (l *ledger) signers(e *envelope.Envelope) ([]Signer, error) {
	who := make(map[string]string)
	config, err := state.GetConfig(l)
	if err != nil {
		return nil, err
	}
	if config != nil {
		if parties, err := state.Parties(config, e); err == nil {
			for _, p := range parties {
				for _, key := range p.Keys {
					who[key.ID()] = p.Who
				}
			}
		}
	}
	signers := make([]Signer, len(e.Signatures))
	for i, s := range e.Signatures {
		signers[i] = Signer{KeyID: s.KeyID, Who: who[s.KeyID]}
	}
	return signers, nil
}

// conclude wants the newest certificate to be one of the trust bundle on what
// was replayed.
func (l *ledger) conclude(bundle *trust.Bundle) (*History, error) {
	if l.certificate == nil {
		return nil, fmt.Errorf("%w: no block came with a certificate", ErrRefuted)
	}
	certificate, err := tlog.ParseCertificate(l.certificate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefuted, err)
	}
	if err := bundle.Check(l.verifier, certificate); err != nil {
		return nil, fmt.Errorf("%w: block %d: %w", ErrRefuted, l.certified, err)
	}
	ref := l.blocks[l.certified]
	if got := certificate.Checkpoint; got.Size != ref.Size || got.Root != ref.Root {
		return nil, fmt.Errorf("%w: certified are %d leaves with root %s, block %d ends at %d with root %s",
			ErrRefuted, got.Size, got.Root.Short(), l.certified, ref.Size, ref.Root.Short())
	}
	h := &History{Subject: l.subject, CertifiedHeight: ref.Height, BlockTimeUnixNano: ref.BlockTimeUnixNano}
	for _, e := range l.entries {
		if e.Height <= ref.Height {
			h.Entries = append(h.Entries, e)
		}
	}
	return h, nil
}

var _ state.View = (*ledger)(nil)

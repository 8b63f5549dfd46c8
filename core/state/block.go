package state

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

// Errors of Begin. Both leave the ledger as it was; the host decides by them
// what to do with the ordered entry, alike on every replica (rule C5).
var (
	// ErrTooFarAhead: the block would run further ahead of its certificates
	// than the limit, or its head brought a configuration that is not yet
	// certified by both quorums (rule C6). The entry applies as nothing.
	ErrTooFarAhead = errors.New("the ledger may not run further ahead of its certificates")
	// ErrBadProposal: the proposal's certificate is not one of this ledger. The
	// entry applies as an empty block, see BeginEmpty.
	ErrBadProposal = errors.New("bad proposal")
)

// Options are what a transition is given besides the state.
type Options struct {
	// Verifier answers signature checks; nil computes each (rule B4 lets it
	// cache them).
	Verifier signature.Verifier
}

// Outcome is what became of one record.
type Outcome struct {
	Accepted bool
	Index    uint64        // of the leaf; with Duplicate and AlreadyReported of the earlier one
	Reason   reason.Reason // empty when accepted
	Detail   string        // both sides of what did not match
}

// Block is a block under construction. It is used by one goroutine, and not
// after Seal or after an error.
type Block struct {
	*reader           // the state as it is with this block's writes so far
	verifier          signature.Verifier
	head              BlockRef // the block before; zero for genesis
	height            uint64
	blockTimeUnixNano int64
	certifiedHeight   uint64
	certificate       []byte
	config            *Config // in force; nil until the genesis configuration
	configChanged     bool    // this block brought one: it takes no more records (rule C6)
	recovering        bool    // this block holds a recovery and nothing else (rule C8)
	trial             bool    // see Refused
	administrative    bool    // a follower's replay: of measurements it sees the hashes only
	admin             digest.Digest
	leaves            [][]byte // the records so far; nil where only the hash is known
	hashes            []digest.Digest
	turned            []string // keys of full pages of counters, whose meters began the next
}

// Height is the block's height.
func (b *Block) Height() uint64 { return b.height }

// BlockTimeUnixNano is the block's time (rule C4).
func (b *Block) BlockTimeUnixNano() int64 { return b.blockTimeUnixNano }

// Len is the number of leaves so far, without the header.
func (b *Block) Len() int { return len(b.hashes) }

// Begin starts the block after head, the newest block of the view, with the
// certificate that a proposal carries. Block time is the larger of the head's
// and the certificate's, see Quorum.Time (rule C4).
//
// The certificate must be of a block of this ledger, by the quorum of the
// configuration in force at its height, and for a block that brought a
// configuration by the old and the new quorum (rule C6). Two cases need none:
// an empty certificate stands for the one named by the head's header, given
// certifiedHeight equals the head's; and one of a lower height than the head's
// adds nothing and is dropped unread. The header then has the head's certified
// height and no certificate.
//
// A configuration that names a record version which this code does not know is
// the last thing that this code understands: what follows is for a later build
// (docs/adr/0008).
//
// Errors: ErrTooFarAhead, ErrBadProposal, a *reason.Error of UnsupportedVersion,
// or a failure to read the view.
func Begin(view View, head BlockRef, opts Options, certifiedHeight uint64, certificate []byte) (*Block, error) {
	b := newBlock(view, opts)
	b.head, b.height, b.blockTimeUnixNano = head, head.Height+1, head.BlockTimeUnixNano
	b.admin = head.Admin
	config, err := b.loadConfig()
	if err != nil {
		return nil, err
	}
	if config == nil {
		return nil, corrupt("no configuration at height %d", head.Height)
	}
	if err := checkVersion(config.Message); err != nil {
		return nil, err
	}
	b.config = config
	b.certifiedHeight = head.CertifiedHeight
	if certifiedHeight > head.Height {
		return nil, fmt.Errorf("%w: certificate of height %d, the head has %d", ErrBadProposal, certifiedHeight, head.Height)
	}
	switch {
	case certifiedHeight < head.CertifiedHeight: // nothing new
	case len(certificate) == 0 && certifiedHeight == head.CertifiedHeight: // nothing new
	case len(certificate) == 0:
		return nil, fmt.Errorf("%w: no certificate for height %d", ErrBadProposal, certifiedHeight)
	default:
		if err := b.checkCertificate(certifiedHeight, certificate); err != nil {
			return nil, err
		}
	}
	// A configuration is certified by both quorums before anything follows it.
	// The header of its own block names an older certificate, so here
	// certifiedHeight can only have come from the proposal, checked above.
	if config.Height == head.Height && head.Height > 0 && b.certifiedHeight != head.Height {
		return nil, fmt.Errorf("%w: block %d brought a configuration, the certificate is of height %d", ErrTooFarAhead, head.Height, b.certifiedHeight)
	}
	if ahead, limit := b.height-b.certifiedHeight, uint64(config.Message.GetLimits().GetMaxUncertifiedBlocks()); ahead > limit {
		return nil, fmt.Errorf("%w: block %d on a certificate of height %d, the limit is %d", ErrTooFarAhead, b.height, b.certifiedHeight, limit)
	}
	return b, nil
}

// BeginEmpty starts the header-only block that a malformed proposal applies as
// (rule C5): nothing is submitted to it before Seal. The error is
// ErrTooFarAhead or a failure to read the view.
func BeginEmpty(view View, head BlockRef, opts Options) (*Block, error) {
	return Begin(view, head, opts, head.CertifiedHeight, nil)
}

func newBlock(view View, opts Options) *Block {
	verifier := opts.Verifier
	if verifier == nil {
		verifier = signature.Direct{}
	}
	return &Block{reader: newReader(view), verifier: verifier}
}

// checkCertificate judges the proposal's certificate and takes its time.
func (b *Block) checkCertificate(height uint64, text []byte) error {
	refuse := func(err error) error {
		return fmt.Errorf("%w: certificate of height %d: %w", ErrBadProposal, height, err)
	}
	certificate, err := tlog.ParseCertificate(text)
	if err != nil {
		return refuse(err)
	}
	ref, ok, err := b.view.Block(height)
	if err != nil {
		return fmt.Errorf("read block %d: %w", height, err)
	}
	if !ok {
		return corrupt("block %d is missing below head %d", height, b.head.Height)
	}
	if c := certificate.Checkpoint; c.Size != ref.Size || c.Root != ref.Root {
		return refuse(fmt.Errorf("it is of size %d and root %s, block %d has size %d and root %s",
			c.Size, c.Root.Short(), height, ref.Size, ref.Root.Short()))
	}
	quorum, err := quorumAt(b.config, height)
	if err != nil {
		return err
	}
	if err := quorum.Check(b.verifier, certificate); err != nil {
		return refuse(err)
	}
	b.certifiedHeight, b.certificate = height, text
	b.blockTimeUnixNano = max(b.blockTimeUnixNano, unixNano(quorum.Time(certificate)))
	return nil
}

// unixNano converts seconds and stays in range whatever a quorum signed.
func unixNano(seconds uint64) int64 {
	const last = math.MaxInt64 / 1_000_000_000
	return int64(min(seconds, last)) * 1_000_000_000
}

// nextIndex is the log index of the next leaf.
func (b *Block) nextIndex() uint64 { return b.head.Size + uint64(len(b.hashes)) }

// append makes the record a leaf and returns its index.
func (b *Block) append(record []byte) uint64 {
	index := b.nextIndex()
	b.leaves = append(b.leaves, record)
	b.hashes = append(b.hashes, tlog.LeafHash(record))
	return index
}

// appendHidden counts a leaf of which only the hash is known.
func (b *Block) appendHidden(hash digest.Digest) {
	b.leaves = append(b.leaves, nil)
	b.hashes = append(b.hashes, hash)
}

// recordAt reads a leaf, also one of this block.
func (b *Block) recordAt(index uint64) ([]byte, error) {
	if index >= b.nextIndex() {
		return nil, corrupt("leaf %d is named, the log has %d", index, b.nextIndex())
	}
	if index >= b.head.Size {
		return b.leaves[index-b.head.Size], nil
	}
	record, err := b.view.Record(index)
	if err != nil {
		return nil, fmt.Errorf("read leaf %d: %w", index, err)
	}
	return record, nil
}

// Submit decides one submission and returns an outcome for each record, in
// order. Accepted records are leaves from now on; nothing of the refused ones
// stays. The error is never the submission's fault.
func (b *Block) Submit(s *Submission) ([]Outcome, error) {
	outcomes := make([]Outcome, len(s.items))
	if len(s.items) == 0 {
		return outcomes, nil
	}
	if b.configChanged {
		refused := reason.New(reason.WrongPlace, "a network configuration is alone in block %d; submit again", b.height)
		for i := range outcomes {
			outcomes[i] = refusal(refused)
		}
		return outcomes, nil
	}
	for i := range s.items {
		if err := s.items[i].err; err != nil {
			outcomes[i] = refusal(err)
		}
	}
	var err error
	switch first := &s.items[0]; {
	case s.pulses && b.height > 0:
		err = b.submitPulses(s, outcomes)
	case first.err == nil && b.height == 0 && first.statement == nil:
		refused := reason.New(reason.WrongPlace, "a genesis block holds statements only")
		for i := range outcomes {
			outcomes[i] = refusal(refused)
		}
	case first.err == nil && first.statement != nil:
		outcomes[0], err = b.submitStatement(first)
	case first.err == nil && first.event != nil:
		outcomes[0], err = b.submitEvent(first)
	case first.err == nil:
		err = b.submitMeasurements(s, outcomes)
	default:
		setRefused := reason.New(reason.WrongPlace, "the endorsement set was refused")
		for i := 1; i < len(outcomes); i++ {
			if outcomes[i].Reason == "" {
				outcomes[i] = refusal(setRefused)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// Refused is Submit for those who only ask: it gives the outcomes of a
// submission of which nothing would be accepted, and nil at the first record
// that would. The block serves for nothing afterwards.
func (b *Block) Refused(s *Submission) ([]Outcome, error) {
	b.trial = true
	outcomes, err := b.Submit(s)
	if err != nil || slices.ContainsFunc(outcomes, func(o Outcome) bool { return o.Accepted }) {
		return nil, err
	}
	return outcomes, nil
}

// refusal is the outcome for an error that is the record's fault.
func refusal(err error) Outcome {
	var e *reason.Error
	if errors.As(err, &e) {
		return Outcome{Reason: e.Reason, Detail: e.Detail}
	}
	return Outcome{Reason: reason.Malformed, Detail: err.Error()}
}

// settle tells a record's fault from a failure of the view.
func settle(err error) (Outcome, error) {
	var e *reason.Error
	if errors.As(err, &e) {
		return refusal(e), nil
	}
	return Outcome{}, err
}

// corrupt is the error for a state that no transition wrote.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("corrupt state: "+format, args...)
}

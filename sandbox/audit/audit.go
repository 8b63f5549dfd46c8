package audit

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/sandbox"
)

// MaxFindings bounds the findings that a report keeps; the others are counted.
const MaxFindings = 1000

// signatureCacheEntries lets a certificate that stands in a block and again in
// a later header cost its verification once.
const signatureCacheEntries = 1 << 14

// Options tune an audit. Trust is needed for a verdict; the rest has usable
// zero values.
type Options struct {
	// Trust says who certifies. Without it all blocks stay uncertified.
	Trust *trust.Bundle
	// Modules finds a module by its SHA-256; false when it is not at hand. One
	// that the approval in force withholds is not asked for here: whatever else
	// knows its bytes, the auditor was not given them.
	Modules func(module digest.Digest) ([]byte, bool)
	// Escrow finds the escrowed copy of a withheld module, which the notified body
	// lent; nil has none.
	Escrow func(module digest.Digest) ([]byte, bool)
	// LedgerOnly replays and compares with certificates, and neither reads raw
	// vectors nor runs modules: for a source that has none.
	LedgerOnly bool
	// Since is the first height whose raw vectors are checked and whose
	// measurements are re-executed. Blocks below are replayed all the same.
	Since uint64
	// SamplePermille is the share of measurements to re-execute; 0 means all.
	SamplePermille int
	// Seed chooses the sample; 0 draws one. It is in the report. It must not be
	// known beforehand to those who are audited.
	Seed uint64
	// Resume continues after an earlier audit, whose findings are not repeated.
	// It is not changed.
	Resume *State
	// Engine configures the sandbox, its cross-checks first of all.
	Engine sandbox.Config
	// Workers is the number of concurrent re-executions; 0 means GOMAXPROCS.
	Workers int
	// Replayed, if set, is called with each block that replayed and that its
	// certificates, if any, are on, and with the state after it; on Run's
	// goroutine. It changes neither. The view stays good after Run.
	Replayed func(b *Block, after state.View)
	// Progress, if set, is called after each block, on Run's goroutine.
	Progress func(Progress)
}

// Progress is how far an audit is.
type Progress struct {
	Height       uint64
	Records      uint64
	Measurements uint64
	ReExecuted   uint64
	Findings     uint64
}

// Run audits a source from genesis, or from Options.Resume, to its newest
// block. What is wrong with the ledger is a finding, not an error; where a block
// does not replay, the audit ends with it. An error means that the audit could
// not go on (the source failed, the context ended, no engine): the report then
// holds what was found up to there, and a State to resume from if all of its
// blocks were judged to the end.
func Run(ctx context.Context, source Source, options Options) (*Report, error) {
	if options.SamplePermille < 0 || options.SamplePermille > 1000 {
		return nil, fmt.Errorf("audit: sample of %d per mille, want 0 (all) to 1000", options.SamplePermille)
	}
	if options.SamplePermille == 0 {
		options.SamplePermille = 1000
	}
	if options.Seed == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		options.Seed = binary.BigEndian.Uint64(b[:]) | 1
	}
	if options.Workers <= 0 {
		options.Workers = runtime.GOMAXPROCS(0)
	}
	a := &auditor{
		Options: options, signatures: signature.NewCache(signatureCacheEntries), state: newState(),
		parameters: make(map[digest.Digest]*claim.Parameters), disclosures: make(map[digest.Digest]approval.Disclosure),
		report: &Report{
			SamplePermille: options.SamplePermille, Seed: options.Seed,
			Codes: make(map[uint32]uint64), Computations: make(map[string]uint64),
		},
	}
	if options.Resume != nil {
		a.state = options.Resume.clone()
	}
	a.report.FromHeight = a.state.Next()
	if !options.LedgerOnly && (options.Modules != nil || options.Escrow != nil) {
		pool, err := newRunners(ctx, &options, a.find)
		if err != nil {
			return nil, err
		}
		a.runners = pool
	}
	err := a.blocks(ctx, source)
	if a.runners != nil {
		failure := a.runners.finish(ctx)
		a.partial = a.partial || failure != nil || ctx.Err() != nil // jobs may have been dropped
		err = errors.Join(err, failure)
	}
	a.cut = err != nil
	return a.finish(), err
}

// auditor is one run.
type auditor struct {
	Options
	signatures  *signature.Cache
	state       *State
	parameters  map[digest.Digest]*claim.Parameters
	disclosures map[digest.Digest]approval.Disclosure // by approval
	runners     *runners                              // nil when nothing is re-executed
	trustEnded  string                                // why certificates could not be judged
	ended       bool                                  // at a block that does not hold
	partial     bool                                  // some block was not judged to the end
	cut         bool                                  // the audit could not go on to the newest block
	report      *Report
	findings    findings
	absences    absences // of raw vectors
}

func (a *auditor) find(f Finding) { a.findings.add(f) }

// blocks replays until the source ends, a block does not hold, or an error.
func (a *auditor) blocks(ctx context.Context, source Source) error {
	for b, err := range source.Blocks(ctx, a.state.Next()) {
		if err != nil {
			return fmt.Errorf("audit: block %d: %w", a.state.Next(), err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.Height != a.state.Next() {
			a.find(Finding{Kind: MissingBlock, Verdict: receipt.Refuted, Height: a.state.Next(), Index: a.state.tree.Size(),
				Detail: fmt.Sprintf("the source gives block %d where block %d comes next", b.Height, a.state.Next())})
			a.ended = true
			return nil
		}
		ok, err := a.block(ctx, source, b)
		if err != nil || !ok {
			a.ended, a.partial = !ok && err == nil, err != nil
			return err
		}
		if a.Replayed != nil {
			a.Replayed(b, a.state.ViewFrom(ctx, source))
		}
		if a.Progress != nil {
			a.Progress(Progress{
				Height: b.Height, Records: a.report.Records, Measurements: a.report.Measurements,
				ReExecuted: a.reExecuted(), Findings: a.findings.total(),
			})
		}
	}
	return ctx.Err()
}

func (a *auditor) reExecuted() uint64 {
	if a.runners == nil {
		return 0
	}
	return a.runners.done.Load()
}

// block audits one block; false means that no later block can be judged.
func (a *auditor) block(ctx context.Context, source Source, b *Block) (bool, error) {
	checkRaw := !a.LedgerOnly && b.Height >= a.Since
	measured := a.measurements(b)
	intact := make(map[int]state.RawVector) // described and as signed
	if checkRaw {
		for _, m := range measured {
			raw := b.raw(m.leaf)
			switch described := state.DescribeRaw(raw); {
			case raw == nil:
				a.absences.add(m.finding(DataLoss, "the raw vector is absent, and no record lets it go"), a.decided)
			case described.Digest != m.Sample.RawDigest:
				f := m.finding(RawVectorAltered, "the raw vector is not the one that the meter signed")
				f.Claimed, f.Found = m.Sample.RawDigest.String(), sample.DigestRaw(raw).String()
				a.find(f)
			default:
				intact[m.leaf] = described
			}
		}
	}
	v := a.state.ViewFrom(ctx, source)
	sealed, err := a.replay(v, b, intact)
	if err != nil {
		var unread *sourceError
		if errors.As(err, &unread) {
			return false, fmt.Errorf("audit: block %d: %w", b.Height, err)
		}
		a.invalidBlock(b, measured, err)
		return false, nil
	}
	ref := a.state.apply(sealed)
	a.report.Records += uint64(len(b.Leaves))
	if b.Height == 0 && !a.checkNetwork(v) {
		return false, nil
	}
	if !a.certificates(b, ref, sealed) {
		return false, nil
	}
	return true, a.account(ctx, v, b, measured, intact, checkRaw)
}

func (a *auditor) replay(v state.View, b *Block, intact map[int]state.RawVector) (*state.Sealed, error) {
	options := state.Options{Verifier: a.signatures}
	if len(b.Leaves) == 0 {
		return nil, errors.New("a block has at least its header, this one has no leaf")
	}
	if b.Height == 0 {
		return state.ReplayGenesis(b.Leaves, options)
	}
	return state.Replay(v, a.state.head(), options, b.Leaves, func(leaf int) (state.RawVector, bool) {
		raw, ok := intact[leaf]
		return raw, ok
	})
}

// invalidBlock names what does not replay. Whether the fault is the source's
// copy or the replicas' shows in the certificate: does it cover these leaves?
func (a *auditor) invalidBlock(b *Block, measured []*measurement, err error) {
	f := Finding{Kind: InvalidBlock, Verdict: receipt.Refuted, Height: b.Height, Index: a.state.tree.Size(), Detail: err.Error()}
	var replay *state.ReplayError
	if errors.As(err, &replay) {
		f.Index = replay.Index
		for _, m := range measured {
			// A set is refused when none of its measurements stands: then the first
			// of them is named.
			if m.leaf == replay.Leaf || m.leaf == replay.Leaf+1 && record.Digest(b.Leaves[replay.Leaf]) == m.EndorsementSet {
				f.Meter, f.Counter = m.Sample.MeterID, m.Sample.Counter
			}
		}
	}
	tree := a.state.tree.Clone()
	for _, leaf := range b.Leaves {
		tree.Append(tlog.LeafHash(leaf))
	}
	if c, err := tlog.ParseCertificate(b.Certificate); err == nil && a.Trust != nil && a.Trust.Check(a.signatures, c) == nil {
		if f.Claimed, f.Found = "certified root "+c.Checkpoint.Root.String(), "root "+tree.Root().String(); c.Checkpoint.Root == tree.Root() {
			f.Cosigners = cosigners(c)
			f.Detail += "; the replicas certified it as it stands"
		} else {
			f.Detail += "; the replicas certified another block than this copy"
		}
	}
	a.find(f)
}

// checkNetwork compares the genesis with the trust bundle's origin.
func (a *auditor) checkNetwork(v state.View) bool {
	if a.Trust == nil {
		return true
	}
	config, err := state.GetConfig(v)
	if err != nil || config == nil { // it was just founded
		panic(fmt.Sprintf("audit: a replayed genesis without a configuration: %v", err))
	}
	if config.Origin() == a.Trust.Origin() {
		return true
	}
	a.find(Finding{Kind: WrongNetwork, Verdict: receipt.Refuted, Detail: "the genesis block founds another network than the trust bundle is about",
		Claimed: config.Origin(), Found: a.Trust.Origin()})
	return false
}

// certificates compares the tree with the block's own certificate, and takes
// the older one in its header, which the transition already compared with the
// tree, as one more. False means that the tree is not the certified one.
func (a *auditor) certificates(b *Block, ref state.BlockRef, sealed *state.Sealed) bool {
	if text := sealed.Header.GetCertificate(); len(text) > 0 {
		if c, err := tlog.ParseCertificate(text); err == nil { // it replayed, so it is one
			a.certificate(sealed.Header.GetCertifiedHeight(), a.state.blocks[sealed.Header.GetCertifiedHeight()], c)
		}
	}
	if len(b.Certificate) == 0 {
		return true
	}
	c, err := tlog.ParseCertificate(b.Certificate)
	if err != nil {
		a.find(Finding{Kind: BadCertificate, Verdict: receipt.Refuted, Height: b.Height, Index: ref.FirstIndex, Detail: err.Error()})
		return true
	}
	return a.certificate(b.Height, ref, c)
}

func (a *auditor) certificate(height uint64, ref state.BlockRef, c *tlog.Certificate) bool {
	if a.Trust == nil {
		a.trustEnded = "there is no trust bundle"
		return true
	}
	bad := Finding{Kind: BadCertificate, Verdict: receipt.Refuted, Height: height, Index: ref.FirstIndex}
	if c.Checkpoint.Size != ref.Size {
		bad.Detail = fmt.Sprintf("the certificate is of size %d, the block ends at %d", c.Checkpoint.Size, ref.Size)
		a.find(bad)
		return true
	}
	if c.Checkpoint.Origin == a.Trust.Origin() {
		if _, err := a.Trust.Policy(c.Checkpoint.Size); err != nil {
			a.trustEnded = err.Error() // a newer trust bundle may answer for it
			return true
		}
	}
	if err := a.Trust.Check(a.signatures, c); err != nil {
		bad.Detail = err.Error()
		a.find(bad)
		return true
	}
	if c.Checkpoint.Root != ref.Root {
		a.find(Finding{Kind: WrongRoot, Verdict: receipt.Refuted, Height: height, Index: ref.FirstIndex, Cosigners: cosigners(c),
			Detail:  fmt.Sprintf("the first %d leaves are not those that were certified", ref.Size),
			Claimed: c.Checkpoint.Root.String(), Found: ref.Root.String()})
		return false
	}
	a.state.certify(height)
	return true
}

func cosigners(c *tlog.Certificate) []string {
	names := make([]string, len(c.Cosignatures))
	for i, s := range c.Cosignatures {
		names[i] = s.Name
	}
	return names
}

// chosen says whether a measurement is in the sample.
func (a *auditor) chosen(index uint64) bool {
	if a.SamplePermille == 1000 {
		return true
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], a.Seed)
	binary.BigEndian.PutUint64(b[8:], index)
	sum := sha256.Sum256(b[:])
	return int(binary.BigEndian.Uint64(sum[:])%1000) < a.SamplePermille
}

// finish draws the conclusion.
func (a *auditor) finish() *Report {
	r, s := a.report, a.state
	r.Certified, r.CertifiedHeight, r.ReExecuted = s.certified, s.certifiedHeight, a.reExecuted()
	if !a.ended && !a.partial && s.Next() > 0 {
		r.State = s
	}
	if s.Next() > 0 {
		r.Height, r.TreeSize = s.head().Height, s.tree.Size()
		copy(r.Network[:], s.values[state.KeyNetwork])
		if !a.ended && (!s.certified || s.certifiedHeight < r.Height) {
			first := uint64(0)
			if s.certified {
				first = s.certifiedHeight + 1
			}
			f := Finding{Kind: Uncertified, Verdict: receipt.Undecidable, Height: first, Index: s.blocks[first].FirstIndex,
				Detail: fmt.Sprintf("no certificate covers blocks %d to %d", first, r.Height)}
			if a.trustEnded != "" {
				f.Detail += ": " + a.trustEnded
			}
			a.find(f)
		}
	} else if a.findings.total() == 0 {
		a.find(Finding{Kind: MissingBlock, Verdict: receipt.Undecidable, Detail: "the source has no block"})
	}
	a.expired()
	r.Findings, r.Omitted = a.findings.sorted()
	r.conclude(a.runners != nil)
	return r
}

// byPlace orders findings.
func byPlace(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.Height, b.Height), cmp.Compare(a.Index, b.Index), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Detail, b.Detail))
}

func sortFindings(list []Finding) { slices.SortFunc(list, byPlace) }

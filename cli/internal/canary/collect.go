package canary

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// Options of a list. Trust is needed.
type Options struct {
	Trust *trust.Bundle
	// AtUnixNano is the block time of which the list is; 0 for the newest certified
	// block's. What came later is left out.
	AtUnixNano int64
	Overdue    time.Duration // how long a commitment may stay open
	// Resume goes on after an earlier replay. The blocks before are read again and
	// compared with what was replayed, and not replayed. It is not changed.
	Resume *audit.State
	// Raw is where the raw vector of a mismatch is read; nil for the source.
	Raw audit.Source
	// Modules finds a module by its SHA-256, and Runner runs it, where a result is
	// not the expected one: so it shows whose it is.
	Modules  func(module digest.Digest) ([]byte, bool)
	Runner   receipt.Runner
	Progress func(audit.Progress)
}

// Of lists all canaries of a ledger: it replays all of it, or what came after
// Options.Resume, which judges each revealed verdict again, and compares it with
// its certificates. The list is nil
// when the audit finds that something does not hold; the report then says what.
// An error means that it could not go on.
func Of(ctx context.Context, source audit.Source, o Options) (*List, *audit.Report, error) {
	c := &collector{Options: o, ctx: ctx, reports: map[vectorKey][]uint64{}}
	if c.Raw == nil {
		c.Raw = source
	}
	if o.Resume != nil {
		before := o.Resume.ViewFrom(ctx, source)
		if err := o.Resume.Again(ctx, source, func(b *audit.Block) { c.block(b, before) }); err != nil {
			return nil, nil, err
		}
	}
	report, err := audit.Run(ctx, source, audit.Options{Trust: o.Trust, LedgerOnly: true, Resume: o.Resume, Replayed: c.block, Progress: o.Progress})
	if err != nil {
		return nil, report, err
	}
	if report.Verdict == receipt.Refuted || !report.Certified {
		return nil, report, nil
	}
	l, err := c.list(report)
	if err != nil {
		return nil, report, fmt.Errorf("canary: %w", err)
	}
	return l, report, nil
}

// collector keeps what is said of canaries. Measurements are read again
// afterwards: the view sees to it that they are the same.
type collector struct {
	Options
	ctx context.Context

	view        state.View
	commitments []stated[*recordv1.CanaryCommitment]
	reveals     []stated[*recordv1.CanaryReveal]
	reports     map[vectorKey][]uint64 // indices of events in which endorsers disagree
	size        uint64                 // leaves that count
}

// stated is a statement and where it stands.
type stated[M any] struct {
	message M
	index   uint64
	ref     state.BlockRef
}

// block is called with each block that replayed.
func (c *collector) block(b *audit.Block, after state.View) {
	c.view = after
	ref, _, err := after.Block(b.Height)
	if err != nil {
		panic(fmt.Sprintf("canary: block %d replayed and is not there: %v", b.Height, err)) // it lies in memory
	}
	for i, leaf := range b.Leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			continue // it replayed, so there is none
		}
		at := ref.FirstIndex + uint64(i)
		switch {
		case r.GetStatement().GetPayloadType() == record.TypeCanaryCommitment:
			m := new(recordv1.CanaryCommitment)
			if record.Decode(r.GetStatement().GetPayload(), record.MaxBytes, m) == nil {
				c.commitments = append(c.commitments, stated[*recordv1.CanaryCommitment]{m, at, ref})
			}
		case r.GetStatement().GetPayloadType() == record.TypeCanaryReveal:
			m := new(recordv1.CanaryReveal)
			if record.Decode(r.GetStatement().GetPayload(), record.MaxBytes, m) == nil {
				c.reveals = append(c.reveals, stated[*recordv1.CanaryReveal]{m, at, ref})
			}
		case r.GetSecurityEvent() != nil:
			if report := disagreement(r.GetSecurityEvent()); report != nil {
				key := vectorKey{strings.TrimPrefix(report.GetSubject(), "meter/"), report.GetCounter()}
				c.reports[key] = append(c.reports[key], at)
			}
		}
	}
}

// disagreement is the report of endorsers that disagree; nil for other events.
func disagreement(e *recordv1.SecurityEvent) *recordv1.EventReport {
	report := new(recordv1.EventReport)
	if record.Decode(e.GetReport(), record.MaxBytes, report) != nil || report.GetKind() != recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE {
		return nil
	}
	return report
}

// list puts together what is certified and not later than the time of the list.
func (c *collector) list(report *audit.Report) (*List, error) {
	newest, _, err := c.view.Block(report.CertifiedHeight)
	if err != nil {
		return nil, err
	}
	if c.AtUnixNano == 0 {
		c.AtUnixNano = newest.BlockTimeUnixNano
	}
	counts := func(ref state.BlockRef) bool {
		return ref.Height <= report.CertifiedHeight && ref.BlockTimeUnixNano <= c.AtUnixNano
	}
	l := &List{Network: report.Network, CertifiedHeight: report.CertifiedHeight, At: timeText(c.AtUnixNano), OverdueAfter: c.Overdue.String(), Canaries: []Canary{}}
	for height := report.CertifiedHeight; c.size == 0 && height > 0; height-- { // before the genesis there is nothing
		ref, _, err := c.view.Block(height)
		if err != nil {
			return nil, err
		}
		if counts(ref) {
			c.size = ref.Size
		}
	}
	for _, m := range c.commitments {
		if !counts(m.ref) {
			continue
		}
		one := Canary{
			ID: m.message.GetCanaryId(), NotifiedBody: m.message.GetNotifiedBody(), Commitment: digest.Digest(m.message.GetCommitment()),
			CommittedIndex: m.index, CommittedAt: timeText(m.ref.BlockTimeUnixNano), Standing: Open, Vectors: []Judged{}, Remarks: []string{},
		}
		open := c.AtUnixNano - m.ref.BlockTimeUnixNano
		reveal := slices.IndexFunc(c.reveals, func(r stated[*recordv1.CanaryReveal]) bool {
			return r.message.GetCanaryId() == one.ID && counts(r.ref)
		})
		switch {
		case reveal >= 0:
			open = c.reveals[reveal].ref.BlockTimeUnixNano - m.ref.BlockTimeUnixNano
			if err := c.revealed(&one, m.ref.Height, &c.reveals[reveal]); err != nil {
				return nil, fmt.Errorf("%s: %w", one.ID, err)
			}
		case open > int64(c.Overdue):
			one.Standing = Overdue
		}
		one.OpenFor = spanText(open)
		l.Canaries = append(l.Canaries, one)
	}
	l.count()
	l.remark()
	return l, nil
}

const match = "match"

// Name is a verdict in a word: match, mismatch or missing.
func Name(v recordv1.CanaryVerdict) string {
	return strings.ToLower(strings.TrimPrefix(v.String(), "CANARY_VERDICT_"))
}

// revealed adds the vectors. The replay found the expectation to be what was
// committed to, and the verdicts to be the ledger's.
func (c *collector) revealed(one *Canary, committedHeight uint64, reveal *stated[*recordv1.CanaryReveal]) error {
	one.Standing, one.RevealedIndex, one.RevealedAt = Revealed, reveal.index, timeText(reveal.ref.BlockTimeUnixNano)
	e, err := state.ParseCanaryExpectation(reveal.message.GetExpectation())
	if err != nil {
		return err
	}
	for i, v := range e.GetVectors() {
		verdict := reveal.message.GetVerdicts()[i]
		j := Judged{Meter: v.GetMeterId(), Counter: v.GetCounter(), Verdict: Name(verdict), Organisations: []string{}}
		switch verdict {
		case recordv1.CanaryVerdict_CANARY_VERDICT_MATCH:
			one.Match++
		case recordv1.CanaryVerdict_CANARY_VERDICT_MISSING:
			one.Missing++
		default:
			one.Mismatch++
		}
		if err := c.judge(&j, v, verdict, committedHeight, reveal.index); err != nil {
			return err
		}
		one.Vectors = append(one.Vectors, j)
	}
	return nil
}

// judge adds what the ledger holds of a vector.
func (c *collector) judge(j *Judged, v *recordv1.CanaryVector, verdict recordv1.CanaryVerdict, committedHeight, revealIndex uint64) error {
	for _, index := range c.reports[vectorKey{j.Meter, j.Counter}] {
		if index >= c.size {
			continue
		}
		leaf, err := c.view.Record(index)
		if err != nil {
			return err
		}
		if r, err := record.Parse(leaf); err == nil {
			report := disagreement(r.GetSecurityEvent())
			j.Disagreements = append(j.Disagreements, report.GetReporter()+": "+report.GetDetail())
		}
	}
	index, ok, err := state.IndexOf(c.view, j.Meter, j.Counter)
	if err != nil || !ok || index >= c.size {
		return err
	}
	leaf, err := c.view.Record(index)
	if err != nil {
		return err
	}
	m, err := receipt.ParseMeasurement(leaf)
	if err != nil {
		return err
	}
	j.Index, j.AfterReveal = index, index > revealIndex
	if j.Organisations, err = c.organisations(index, m.EndorsementSet); err != nil {
		return err
	}
	j.SignedAfter = m.Sample.KnownHeight >= committedHeight
	if verdict == recordv1.CanaryVerdict_CANARY_VERDICT_MISMATCH {
		return c.blame(j, v, m)
	}
	return nil
}

// blame says whose a mismatch is, by running the module again.
func (c *collector) blame(j *Judged, v *recordv1.CanaryVector, m *receipt.Measurement) error {
	j.Detail = fmt.Sprintf("expected %s, endorsed %s", described(v.GetResult()), described(m.Claim.Result))
	other := !bytes.Equal(m.Sample.RawDigest[:], v.GetRawDigest())
	j.Cause = NotRun
	if other {
		j.Cause = OtherVector
	}
	module, ok := []byte(nil), false
	if c.Modules != nil && c.Runner != nil {
		module, ok = c.Modules(m.Claim.Algorithm)
	}
	raw, err := c.raw(j.Index)
	if err != nil {
		return err
	}
	if !ok || len(raw) == 0 {
		j.Detail += fmt.Sprintf("; module %s or the raw vector is not at hand", m.Claim.Algorithm.Short())
		return nil
	}
	meter, err := state.GetMeter(c.view, m.Sample.MeterID)
	if err != nil {
		return err
	}
	parameters, err := state.ParametersAt(meter, m.Sample.CapturedAtUnixNano)
	if err != nil {
		return err
	}
	input, err := claim.Input(parameters, m.Sample, raw)
	if err != nil {
		j.Detail += "; the raw vector gives no input: " + err.Error()
		return nil //nolint:nilerr // the source's copy of the vector is damaged, and that is said.
	}
	result, _, err := c.Runner.Run(module, input, m.Claim.FuelLimit)
	if err != nil {
		return err
	}
	j.Detail += "; run again " + described(result)
	switch {
	case !bytes.Equal(result, m.Claim.Result):
		j.Cause = WrongResult
	case !other:
		j.Cause = WrongExpectation
	}
	return nil
}

// described shows result bytes.
func described(result []byte) string {
	out, err := claim.ParseResult(result)
	if err != nil {
		return fmt.Sprintf("%x", result)
	}
	return fmt.Sprintf("code %d, values %v", out.Code, out.Values)
}

// organisations are those that endorsed a measurement's set, which stands before
// it in the same block (rule S5); ascending.
func (c *collector) organisations(index uint64, of digest.Digest) ([]string, error) {
	for ; ; index-- { // the transition found it, so it is found
		leaf, err := c.view.Record(index)
		if err != nil {
			return nil, err
		}
		r, err := record.Parse(leaf)
		if err != nil {
			return nil, err
		}
		set := r.GetEndorsementSet()
		if set == nil || record.Digest(leaf) != of {
			continue
		}
		list := make([]string, len(set.GetEndorsements()))
		for i, e := range set.GetEndorsements() {
			node, err := state.GetNode(c.view, e.GetNodeId())
			if err != nil {
				return nil, err
			}
			list[i] = node.GetOrganisation()
		}
		slices.Sort(list)
		return slices.Compact(list), nil
	}
}

// raw reads the raw vector of a leaf: nil when the source has none.
func (c *collector) raw(index uint64) ([]byte, error) {
	var ref state.BlockRef
	for height := uint64(0); ref.Size <= index; height++ {
		var err error
		if ref, _, err = c.view.Block(height); err != nil {
			return nil, err
		}
	}
	for b, err := range c.Raw.Blocks(c.ctx, ref.Height) {
		if at := index - ref.FirstIndex; err == nil && at < uint64(len(b.Raw)) {
			return b.Raw[at], nil
		}
		return nil, err
	}
	return nil, nil
}

// Package completeness collects, from a replayed ledger, the file that shows a
// meter's consecutive samples (package core/completeness).
//
// Source: architecture, rule S6.
//
// Invariants:
//   - The ledger is replayed and compared with its certificates first; of a
//     ledger that does not hold, or of which nothing is certified, there is no file.
//   - All proofs lead to one certificate: the newest that the source has.
package completeness

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/lacre-metrology/lacre/core/completeness"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// Options choose the span: by counters, or by capture times where First is 0.
type Options struct {
	Trust                       *trust.Bundle // needed
	Meter                       string
	First, Last                 uint64 // inclusive
	FromUnixNano, UntilUnixNano int64  // capture times; the end is not included, 0 is open
	// Resume goes on after an earlier replay. The blocks before are read again and
	// compared with what was replayed, and not replayed. It is not changed.
	Resume   *audit.State
	Progress func(audit.Progress)
}

// MaxFiles bounds what one span is shown by.
const MaxFiles = 4096

// Of collects as many files as the span needs, ascending. There is none when the
// audit finds that something does not hold; the report then says what. By capture
// times the span begins with the sample before them and ends with the one after,
// where there are such: only so nothing is missing at its ends. Errors are
// *reason.Error for a meter or a span that the ledger has not, or why the source
// could not be read.
func Of(ctx context.Context, source audit.Source, o Options) ([][]byte, *audit.Report, error) {
	c := &collector{Options: o, measurements: map[uint64]item{}}
	if o.Resume != nil {
		if err := o.Resume.Again(ctx, source, c.block); err != nil {
			return nil, nil, err
		}
	}
	report, err := audit.Run(ctx, collected{source, c}, audit.Options{Trust: o.Trust, LedgerOnly: true, Resume: o.Resume, Progress: o.Progress})
	if err != nil {
		return nil, report, err
	}
	if report.Verdict == receipt.Refuted || !report.Certified {
		return nil, report, nil
	}
	files, err := c.files(report.CertifiedHeight)
	if err != nil {
		return nil, report, err
	}
	list := make([][]byte, len(files))
	for i, f := range files {
		if list[i], err = completeness.Build(f); err != nil {
			return nil, report, err
		}
	}
	return list, report, nil
}

// collected hands the source's blocks to the auditor, and to the collector once
// the auditor has taken them.
type collected struct {
	audit.Source
	collector *collector
}

// Blocks implements audit.Source.
func (c collected) Blocks(ctx context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for b, err := range c.Source.Blocks(ctx, from) {
			if !yield(b, err) || err != nil {
				return // also for a block that does not hold
			}
			c.collector.block(b)
		}
	}
}

// item is a leaf at its place.
type item struct {
	index uint64
	leaf  []byte
}

// certified is a tree that a block's certificate is on.
type certified struct {
	height, size uint64
	text         []byte
}

// collector keeps every leaf's hash, and of the meter what the span needs. It is
// used by the audit's goroutine.
type collector struct {
	Options
	hashes       []digest.Digest
	certificates []certified // ascending; the last few
	registration item
	rollovers    []item
	measurements map[uint64]item // by counter
	before       uint64          // by capture times: the highest counter captured before them; 0 for none
	after        uint64          // the lowest captured after them
}

// keptCertificates bounds how many of the newest are kept: as many as a ledger
// may run ahead of its certificates.
const keptCertificates = 1024

func (c *collector) block(b *audit.Block) {
	for _, leaf := range b.Leaves {
		index := uint64(len(c.hashes))
		c.hashes = append(c.hashes, tlog.LeafHash(leaf))
		r, err := record.Parse(leaf)
		if err != nil {
			continue // it replayed, so there is none
		}
		if r.GetStatement() != nil {
			c.statement(r.GetStatement(), item{index, leaf})
		}
		if m, err := receipt.ParseMeasurement(leaf); r.GetMeasurement() != nil && err == nil && m.Sample.MeterID == c.Meter &&
			c.wants(m.Sample.Counter, m.Sample.CapturedAtUnixNano) {
			c.measurements[m.Sample.Counter] = item{index, leaf}
		}
	}
	if len(b.Certificate) > 0 {
		c.certificates = append(c.certificates, certified{b.Height, uint64(len(c.hashes)), b.Certificate})
		if len(c.certificates) > 2*keptCertificates {
			c.certificates = slices.Clone(c.certificates[keptCertificates:])
		}
	}
}

// wants reports whether a sample belongs to the span. Of those outside of a span
// of capture times it keeps the two that are next to it.
func (c *collector) wants(counter uint64, capturedAtUnixNano int64) bool {
	switch {
	case c.First > 0:
		return counter >= c.First && counter <= c.Last
	case capturedAtUnixNano < c.FromUnixNano:
		if counter < c.before {
			return false
		}
		delete(c.measurements, c.before)
		c.before = counter
	case c.UntilUnixNano != 0 && capturedAtUnixNano >= c.UntilUnixNano:
		if c.after != 0 && counter > c.after {
			return false
		}
		delete(c.measurements, c.after)
		c.after = counter
	}
	return true
}

// statement keeps the meter's registration and rollovers.
func (c *collector) statement(e *recordv1.Envelope, at item) {
	switch e.GetPayloadType() {
	case record.TypeMeterRegistration:
		m := new(recordv1.MeterRegistration)
		if record.Decode(e.GetPayload(), record.MaxBytes, m) == nil && m.GetMeterId() == c.Meter {
			c.registration = at
		}
	case record.TypeMeterKeyRollover:
		m := new(recordv1.MeterKeyRollover)
		if record.Decode(e.GetPayload(), record.MaxBytes, m) == nil && m.GetMeterId() == c.Meter {
			c.rollovers = append(c.rollovers, at)
		}
	}
}

// check judges the certificate of a block that was read again, which no audit did.
func (c *collector) check(tree certified) error {
	certificate, err := tlog.ParseCertificate(tree.text)
	if err != nil {
		return err
	}
	if root := tlog.RootOf(c.hashes[:tree.size]); certificate.Checkpoint.Size != tree.size || certificate.Checkpoint.Root != root {
		return fmt.Errorf("it is of size %d and root %s, the block ends at %d with root %s",
			certificate.Checkpoint.Size, certificate.Checkpoint.Root.Short(), tree.size, root.Short())
	}
	return c.Trust.Check(signature.Direct{}, certificate)
}

type nodes map[tlog.NodeID]digest.Digest

// Node implements tlog.Nodes.
func (n nodes) Node(id tlog.NodeID) (digest.Digest, error) { return n[id], nil }

// files prove what was collected under the newest certificate up to a height.
func (c *collector) files(height uint64) ([]*recordv1.Completeness, error) {
	newest := slices.IndexFunc(c.certificates, func(x certified) bool { return x.height > height }) - 1
	if newest == -2 { // none is above
		newest = len(c.certificates) - 1
	}
	if newest < 0 {
		return nil, fmt.Errorf("completeness: the source gives no certificate up to height %d, to which the proofs could lead", height)
	}
	tree := c.certificates[newest]
	if err := c.check(tree); err != nil {
		return nil, fmt.Errorf("completeness: the certificate that the source gives of block %d: %w", tree.height, err)
	}
	if c.registration.leaf == nil || c.registration.index >= tree.size {
		return nil, reason.New(reason.UnknownMeter, "no registration of meter %s is certified", c.Meter)
	}
	all := nodes{}
	tlog.NewRange().AppendVisit(c.hashes[:tree.size], func(id tlog.NodeID, h digest.Digest) { all[id] = h })
	var failed error
	prove := func(at item) *recordv1.ProvenRecord {
		path, err := tlog.InclusionProof(all, at.index, tree.size)
		if err != nil {
			failed = err
		}
		return receipt.Prove(at.leaf, at.index, path)
	}
	registration := prove(c.registration)
	var rollovers []*recordv1.ProvenRecord
	for _, at := range c.rollovers {
		if at.index < tree.size {
			rollovers = append(rollovers, prove(at))
		}
	}
	first, last, counters, err := c.span(tree.size)
	if err != nil {
		return nil, err
	}
	var list []*recordv1.Completeness
	for ; first <= last; first += completeness.MaxMeasurements {
		f := &recordv1.Completeness{Certificate: tree.text, FirstCounter: first, LastCounter: min(last, first+completeness.MaxMeasurements-1),
			Registration: registration, Rollovers: rollovers}
		for len(counters) > 0 && counters[0] <= f.GetLastCounter() {
			f.Measurements = append(f.Measurements, prove(c.measurements[counters[0]]))
			counters = counters[1:]
		}
		list = append(list, f)
	}
	return list, failed
}

// span is what is asked for, and the counters of it that are in a tree.
func (c *collector) span(size uint64) (first, last uint64, counters []uint64, err error) {
	inside := false
	for counter, at := range c.measurements {
		if at.index < size {
			counters = append(counters, counter)
			inside = inside || counter != c.before && counter != c.after
		}
	}
	slices.Sort(counters)
	first, last = c.First, c.Last
	if c.First == 0 {
		if !inside {
			return 0, 0, nil, reason.New(reason.NotFound, "meter %s has no certified measurement in that time", c.Meter)
		}
		first, last = counters[0], counters[len(counters)-1]
	}
	if last-first >= MaxFiles*completeness.MaxMeasurements {
		return 0, 0, nil, reason.New(reason.TooLarge, "counters %d to %d, %d files of %d counters show at most %d", first, last,
			MaxFiles, completeness.MaxMeasurements, MaxFiles*completeness.MaxMeasurements)
	}
	return first, last, counters, nil
}

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
	Progress                    func(audit.Progress)
}

// Of collects the file. It is nil when the audit finds that something does not
// hold; the report then says what. Errors are *reason.Error for a meter or a
// span that the ledger has not, or why the source could not be read.
func Of(ctx context.Context, source audit.Source, o Options) ([]byte, *audit.Report, error) {
	c := &collector{Options: o, measurements: map[uint64]item{}}
	report, err := audit.Run(ctx, collected{source, c}, audit.Options{Trust: o.Trust, LedgerOnly: true, Progress: o.Progress})
	if err != nil {
		return nil, report, err
	}
	if report.Verdict == receipt.Refuted || !report.Certified {
		return nil, report, nil
	}
	file, err := c.file(report.CertifiedHeight)
	if err != nil {
		return nil, report, err
	}
	encoded, err := completeness.Build(file)
	return encoded, report, err
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
			c.within(m.Sample.Counter, m.Sample.CapturedAtUnixNano) {
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

func (c *collector) within(counter uint64, capturedAtUnixNano int64) bool {
	if c.First > 0 {
		return counter >= c.First && counter <= c.Last
	}
	return capturedAtUnixNano >= c.FromUnixNano && (c.UntilUnixNano == 0 || capturedAtUnixNano < c.UntilUnixNano)
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

type nodes map[tlog.NodeID]digest.Digest

// Node implements tlog.Nodes.
func (n nodes) Node(id tlog.NodeID) (digest.Digest, error) { return n[id], nil }

// file proves what was collected under the newest certificate up to a height.
func (c *collector) file(height uint64) (*recordv1.Completeness, error) {
	newest := slices.IndexFunc(c.certificates, func(x certified) bool { return x.height > height }) - 1
	if newest == -2 { // none is above
		newest = len(c.certificates) - 1
	}
	if newest < 0 {
		return nil, fmt.Errorf("completeness: the source gives no certificate up to height %d, to which the proofs could lead", height)
	}
	tree := c.certificates[newest]
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
	out := &recordv1.Completeness{Certificate: tree.text, FirstCounter: c.First, LastCounter: c.Last, Registration: prove(c.registration)}
	for _, at := range c.rollovers {
		if at.index < tree.size {
			out.Rollovers = append(out.Rollovers, prove(at))
		}
	}
	counters := make([]uint64, 0, len(c.measurements))
	for counter, at := range c.measurements {
		if at.index < tree.size {
			counters = append(counters, counter)
		}
	}
	slices.Sort(counters)
	if c.First == 0 {
		if len(counters) == 0 {
			return nil, reason.New(reason.NotFound, "meter %s has no certified measurement in that time", c.Meter)
		}
		out.FirstCounter, out.LastCounter = counters[0], counters[len(counters)-1]
	}
	if span := out.LastCounter - out.FirstCounter; span >= completeness.MaxMeasurements {
		return nil, reason.New(reason.TooLarge, "counters %d to %d, a file covers at most %d: make several, the last counter of one the first of the next",
			out.FirstCounter, out.LastCounter, completeness.MaxMeasurements)
	}
	for _, counter := range counters {
		out.Measurements = append(out.Measurements, prove(c.measurements[counter]))
	}
	return out, failed
}

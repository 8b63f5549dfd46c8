package audit

import (
	"context"
	"fmt"
	"sync"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
)

// measurement is a Measurement leaf of the block under audit.
type measurement struct {
	*receipt.Measurement
	height    uint64
	leaf      int // in the block
	index     uint64
	nodes     []string           // who endorsed, by the set before it
	endorsers []receipt.Endorser // the same with their organisations, once the block replayed
}

func (m *measurement) finding(kind Kind, format string, args ...any) Finding {
	return Finding{
		Kind: kind, Verdict: receipt.Refuted, Height: m.height, Index: m.index,
		Meter: m.Sample.MeterID, Counter: m.Sample.Counter, Detail: fmt.Sprintf(format, args...),
	}
}

// measurements decodes the measurements of a block. A leaf that is none, or not
// well formed, is for the replay to judge.
func (a *auditor) measurements(b *Block) []*measurement {
	var list []*measurement
	var set digest.Digest
	var nodes []string
	for i, leaf := range b.Leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			continue
		}
		if s := r.GetEndorsementSet(); s != nil {
			set, nodes = record.Digest(leaf), nil
			for _, e := range s.GetEndorsements() {
				nodes = append(nodes, e.GetNodeId())
			}
		}
		if r.GetMeasurement() == nil {
			continue
		}
		parsed, err := receipt.ParseMeasurement(leaf)
		if err != nil {
			continue
		}
		m := &measurement{Measurement: parsed, height: b.Height, leaf: i, index: a.state.tree.Size() + uint64(i)}
		if parsed.EndorsementSet == set {
			m.nodes = nodes
		}
		list = append(list, m)
	}
	return list
}

// account counts a replayed block's measurements and queues those that are to
// be re-executed.
func (a *auditor) account(ctx context.Context, v state.View, b *Block, measured []*measurement, intact map[int]state.RawVector, reExecute bool) error {
	organisations := make(map[string]string)
	for _, m := range measured {
		a.report.Measurements++
		a.report.Codes[m.Result.Code]++
		for _, id := range m.nodes {
			if _, known := organisations[id]; !known {
				node, err := state.GetNode(v, id)
				if err != nil {
					return fmt.Errorf("audit: block %d: %w", b.Height, err)
				}
				organisations[id] = node.GetOrganisation()
			}
			m.endorsers = append(m.endorsers, receipt.Endorser{Node: id, Organisation: organisations[id]})
		}
		counted := make(map[string]bool, len(m.endorsers))
		for _, e := range m.endorsers {
			if !counted[e.Organisation] {
				counted[e.Organisation] = true
				a.report.Computations[e.Organisation]++
			}
		}
		if _, ok := intact[m.leaf]; !ok || !reExecute || a.runners == nil || !a.chosen(m.index) {
			continue
		}
		parameters, err := a.parametersOf(v, m)
		if err != nil {
			return fmt.Errorf("audit: block %d: %w", b.Height, err)
		}
		withheld, err := a.withheld(v, m.Claim.Algorithm)
		if err != nil {
			return fmt.Errorf("audit: block %d: %w", b.Height, err)
		}
		if err := a.runners.submit(ctx, job{measurement: m, parameters: parameters, raw: b.raw(m.leaf), withheld: withheld}); err != nil {
			return err
		}
	}
	return nil
}

// parametersOf are those that the claim names; the replay compared them with
// those in force at the capture.
func (a *auditor) parametersOf(v state.View, m *measurement) (*claim.Parameters, error) {
	if known := a.parameters[m.Claim.Registration]; known != nil {
		return known, nil
	}
	meter, err := state.GetMeter(v, m.Sample.MeterID)
	if err != nil {
		return nil, err
	}
	parameters, err := state.GetParameters(v, meter, m.Sample.CapturedAtUnixNano)
	if err != nil {
		return nil, err
	}
	a.parameters[parameters.Statement] = parameters
	return parameters, nil
}

// withheld reports whether the approval in force withholds a module: then the
// escrowed copy is needed, also of a module whose bytes are known elsewhere.
func (a *auditor) withheld(v state.View, module digest.Digest) (bool, error) {
	value, err := state.GetAlgorithm(v, module)
	if err != nil || value == nil {
		return false, err
	}
	at := digest.Digest(value.GetApproval())
	if known, ok := a.disclosures[at]; ok {
		return known == approval.Withheld, nil
	}
	terms, err := approval.ParseAccepted(value.GetApprovalPayload())
	if err != nil {
		return false, err
	}
	a.disclosures[at] = terms.Disclosure
	return terms.Disclosure == approval.Withheld, nil
}

// findings collects from the replay and from the workers.
type findings struct {
	mu      sync.Mutex
	list    []Finding // guarded by mu
	omitted uint64    // guarded by mu
}

func (f *findings) add(found Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) < MaxFindings {
		f.list = append(f.list, found)
		return
	}
	// The first by place are kept, so that workers' order does not show.
	f.omitted++
	last := 0
	for i := range f.list {
		if byPlace(f.list[i], f.list[last]) > 0 {
			last = i
		}
	}
	if byPlace(found, f.list[last]) < 0 {
		f.list[last] = found
	}
}

func (f *findings) total() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.list)) + f.omitted
}

func (f *findings) sorted() ([]Finding, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sortFindings(f.list)
	return f.list, f.omitted
}

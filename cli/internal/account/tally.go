package account

import (
	"fmt"
	"slices"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// maxAhead is how many blocks a ledger may run ahead of its certificates, in
// any configuration (NetworkConfig.limits). Counts of older blocks are settled.
const maxAhead = 1024

// tally counts blocks that replayed, in their order. It is used by the audit's
// goroutine.
type tally struct {
	Options
	after   state.View               // the newest block's; of Resume before the first
	sites   map[digest.Digest]string // by the statement that gives a meter's parameters
	rows    map[string]*Row          // of settled blocks
	settled uint64                   // height up to which rows count
	pending []block                  // above it, ascending
	failed  error                    // the first; it ends the account
}

// block is what one block adds.
type block struct {
	height uint64
	rows   map[string]*Row
}

func newTally(o Options) *tally {
	return &tally{Options: o, sites: map[digest.Digest]string{}, rows: map[string]*Row{}}
}

// block counts a block. The replay found each record well formed, and each
// measurement's set before it.
func (t *tally) block(b *audit.Block, after state.View) {
	t.after = after
	ref, _, err := after.Block(b.Height)
	if err != nil {
		t.fail(err)
		return
	}
	added := block{height: b.Height, rows: map[string]*Row{}}
	if t.within(ref.BlockTimeUnixNano) {
		t.measurements(added.rows, b.Leaves, ref.BlockTimeUnixNano)
	}
	t.pending = append(t.pending, added)
	for len(t.pending) > maxAhead {
		t.settle()
	}
}

func (t *tally) fail(err error) {
	if t.failed == nil {
		t.failed = fmt.Errorf("account: %w", err)
	}
}

// measurements counts a block's leaves.
func (t *tally) measurements(rows map[string]*Row, leaves [][]byte, at int64) {
	var endorsers []string // organisations of the newest set
	for _, leaf := range leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			continue
		}
		if set := r.GetEndorsementSet(); set != nil {
			endorsers = t.organisations(set)
		}
		if r.GetMeasurement() == nil {
			continue
		}
		if m, err := receipt.ParseMeasurement(leaf); err == nil {
			t.measurement(rows, m, endorsers, at)
		}
	}
}

// organisations are those whose nodes signed a set.
func (t *tally) organisations(set *recordv1.EndorsementSet) []string {
	var list []string
	for _, e := range set.GetEndorsements() {
		node, err := state.GetNode(t.after, e.GetNodeId())
		if err != nil {
			t.fail(err)
		}
		if organisation := node.GetOrganisation(); !slices.Contains(list, organisation) { // twice is once
			list = append(list, organisation)
		}
	}
	return list
}

func (t *tally) within(blockTimeUnixNano int64) bool {
	return blockTimeUnixNano >= t.FromUnixNano && (t.UntilUnixNano == 0 || blockTimeUnixNano < t.UntilUnixNano)
}

// settle adds the oldest pending block.
func (t *tally) settle() {
	oldest := t.pending[0]
	t.pending = t.pending[1:]
	t.settled = oldest.height
	for key, r := range oldest.rows {
		row(t.rows, key).add(r)
	}
}

func (t *tally) measurement(rows map[string]*Row, m *receipt.Measurement, endorsers []string, at int64) {
	one := Row{Measurements: 1, Computations: map[string]uint64{}}
	if m.Result.Code != abi.CodeValid {
		one.Refused = 1
	}
	if m.Message.GetDisposition() == recordv1.Disposition_DISPOSITION_LATE {
		one.Late = 1
	}
	for _, organisation := range endorsers {
		one.Computations[organisation] = 1
	}
	if t.By == Organisation {
		for organisation := range one.Computations { // each its own row: the order does not show
			row(rows, organisation).add(&Row{
				Measurements: 1, Refused: one.Refused, Late: one.Late, Computations: map[string]uint64{organisation: 1},
			})
		}
		return
	}
	row(rows, t.key(m, at)).add(&one)
}

// key is the row that a measurement belongs to.
func (t *tally) key(m *receipt.Measurement, at int64) string {
	switch t.By {
	case Meter:
		return m.Sample.MeterID
	case Site:
		return t.site(m)
	case Owner:
		if owner := t.Owners[m.Sample.MeterID]; owner != "" {
			return owner
		}
		return Unlisted
	}
	return time.Unix(0, at).UTC().Format(layouts[t.Period])
}

// site is where the meter stood at the capture. The claim names the statement
// that says it: the replay compared it with the parameters in force.
func (t *tally) site(m *receipt.Measurement) string {
	if known, ok := t.sites[m.Claim.Registration]; ok {
		return known
	}
	meter, err := state.GetMeter(t.after, m.Sample.MeterID)
	if err != nil {
		t.fail(err)
		return ""
	}
	parameters, err := state.ParametersAt(meter, m.Sample.CapturedAtUnixNano)
	if err != nil {
		t.fail(err)
		return ""
	}
	t.sites[parameters.Statement] = parameters.Site.GetName()
	return parameters.Site.GetName()
}

// Unlisted is the owner of meters that the list does not name.
const Unlisted = "(not listed)"

var layouts = map[string]string{"day": time.DateOnly, "month": "2006-01", "year": "2006"}

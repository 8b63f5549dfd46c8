package account

import (
	"time"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
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
	nodes    map[string]string // organisation by node id
	sites    map[string]string // by meter id
	rows     map[string]*Row   // of settled blocks
	settled  uint64            // height up to which rows count
	pending  []block           // above it, ascending
	blockEnd map[uint64]int64  // block time by height, of pending blocks
}

// block is what one block adds.
type block struct {
	height uint64
	rows   map[string]*Row
}

func newTally(o Options) *tally {
	return &tally{Options: o, nodes: map[string]string{}, sites: map[string]string{}, rows: map[string]*Row{}, blockEnd: map[uint64]int64{}}
}

// block counts a block. The replay found each record well formed, and each
// measurement's set before it.
func (t *tally) block(b *audit.Block) {
	added := block{height: b.Height, rows: map[string]*Row{}}
	records := make([]*recordv1.Record, 0, len(b.Leaves))
	for _, leaf := range b.Leaves {
		if r, err := record.Parse(leaf); err == nil {
			records = append(records, r)
		}
	}
	at := int64(0)
	if n := len(records); n > 0 {
		at = records[n-1].GetBlockHeader().GetBlockTimeUnixNano()
	}
	var set *recordv1.EndorsementSet
	for i, r := range records {
		switch {
		case r.GetStatement() != nil:
			t.statement(r.GetStatement())
		case r.GetEndorsementSet() != nil:
			set = r.GetEndorsementSet()
		case r.GetMeasurement() != nil && t.within(at):
			if m, err := receipt.ParseMeasurement(b.Leaves[i]); err == nil {
				t.measurement(added.rows, m, set, at)
			}
		}
	}
	t.blockEnd[b.Height] = at
	t.pending = append(t.pending, added)
	for len(t.pending) > maxAhead {
		t.settle()
	}
}

func (t *tally) within(blockTimeUnixNano int64) bool {
	return blockTimeUnixNano >= t.FromUnixNano && (t.UntilUnixNano == 0 || blockTimeUnixNano < t.UntilUnixNano)
}

// settle adds the oldest pending block.
func (t *tally) settle() {
	oldest := t.pending[0]
	t.pending = t.pending[1:]
	t.settled = oldest.height
	delete(t.blockEnd, oldest.height)
	for key, r := range oldest.rows {
		row(t.rows, key).add(r)
	}
}

// statement notes whose a node is and where a meter stands.
func (t *tally) statement(e *recordv1.Envelope) {
	switch e.GetPayloadType() {
	case record.TypeNodeRegistration:
		m := new(recordv1.NodeRegistration)
		if record.Decode(e.GetPayload(), record.MaxBytes, m) == nil {
			t.nodes[m.GetNodeId()] = m.GetOrganisation()
		}
	case record.TypeMeterRegistration:
		m := new(recordv1.MeterRegistration)
		if record.Decode(e.GetPayload(), record.MaxBytes, m) == nil {
			t.sites[m.GetMeterId()] = m.GetSite().GetName()
		}
	}
}

func (t *tally) measurement(rows map[string]*Row, m *receipt.Measurement, set *recordv1.EndorsementSet, at int64) {
	one := Row{Measurements: 1, Computations: map[string]uint64{}}
	if m.Result.Code != abi.CodeValid {
		one.Refused = 1
	}
	if m.Message.GetDisposition() == recordv1.Disposition_DISPOSITION_LATE {
		one.Late = 1
	}
	for _, e := range set.GetEndorsements() {
		one.Computations[t.nodes[e.GetNodeId()]] = 1 // twice is once
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
		return t.sites[m.Sample.MeterID]
	case Owner:
		if owner := t.Owners[m.Sample.MeterID]; owner != "" {
			return owner
		}
		return Unlisted
	}
	return time.Unix(0, at).UTC().Format(layouts[t.Period])
}

// Unlisted is the owner of meters that the list does not name.
const Unlisted = "(not listed)"

var layouts = map[string]string{"day": time.DateOnly, "month": "2006-01", "year": "2006"}

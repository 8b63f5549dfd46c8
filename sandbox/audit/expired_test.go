package audit_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// decided is a ledger whose raw vectors below two heights expired, and the blocks
// with measurements.
func decided(t *testing.T) (n *receipttest.Network, measured []uint64) {
	t.Helper()
	n = network(t)
	n.KeepRawVectors(statetest.Second)
	for range 5 {
		n.Measure([]int{0, 1}, pulse("m-1", 900), pulse("m-2", 800))
		measured = append(measured, n.Store.Head().Height)
	}
	n.NowUnix += 5
	n.Apply(n.Begin())
	n.Accept(n.Expiry(measured[0]+1, "org-00", "org-01", "org-02"))
	n.Accept(n.Expiry(measured[2]+1, "org-01", "org-02", "org-03"))
	return n, measured
}

// without is a copy that gives no raw vectors of some blocks.
func without(n *receipttest.Network, heights ...uint64) *source {
	s := copyOf(n)
	for _, height := range heights {
		s.blocks[height].Raw = nil
	}
	return s
}

// Raw vectors that a decision lets go are no finding: the audit passes, and says what
// was not re-executed, and by which decisions.
func TestS4_AuditPassesOverWhatExpired(t *testing.T) {
	n, measured := decided(t)
	whole := run(t, copyOf(n), options(n))
	if whole.Verdict != receipt.Verified || whole.Expired.RawVectors != 0 || whole.ReExecuted != 10 {
		t.Fatalf("with all raw vectors:\n%s", whole)
	}
	r := run(t, without(n, measured[0], measured[1], measured[2]), options(n))
	e := r.Expired
	if r.Verdict != receipt.Verified || len(r.Findings) != 0 || r.ReExecuted != 4 || r.Measurements != 10 ||
		e.RawVectors != 6 || e.FromHeight != measured[0] || e.ToHeight != measured[2] || len(e.Decisions) != 2 {
		t.Fatalf("without what expired:\n%s", r)
	}
	for i, want := range []struct {
		rawVectors uint64
		by         string
	}{{2, "org-00, org-01, org-02"}, {4, "org-01, org-02, org-03"}} {
		if d := e.Decisions[i]; d.RawVectors != want.rawVectors || d.Sequence != uint64(i)+1 || strings.Join(d.Organisations, ", ") != want.by || d.Rule != "storage limitation" {
			t.Errorf("decision %d is %+v", i+1, d)
		}
	}
	for _, says := range []string{"the raw vectors of 6 measurements of blocks", "statement 2 on raw-vectors", "4 of 10 measurements were re-executed", "6 expired by decisions on the ledger"} {
		if !strings.Contains(r.String(), says) {
			t.Errorf("the report does not say %q:\n%s", says, r)
		}
	}
}

// What no decision covers stays lost, and is named.
func TestS4_AuditFindsWhatIsGoneWithoutADecision(t *testing.T) {
	n, measured := decided(t)
	r := run(t, without(n, measured[1], measured[3]), options(n))
	if r.Verdict != receipt.Refuted || len(r.Findings) != 2 || r.Expired.RawVectors != 2 {
		t.Fatalf("a block too many:\n%s", r)
	}
	for _, f := range r.Findings {
		if f.Kind != audit.DataLoss || f.Height != measured[3] || f.Meter == "" {
			t.Errorf("found %s", f)
		}
	}
	none := honest(t)
	first := without(none)
	first.block(-1).Raw = nil
	for _, b := range first.blocks {
		b.Raw = nil
	}
	if r := run(t, first, options(none)); r.Verdict != receipt.Refuted || len(r.Findings) != 4 || r.Expired.RawVectors != 0 {
		t.Errorf("no decision at all:\n%s", r)
	}
}

// An audit that is cut short before the decision says that it cannot tell.
func TestAuditCutShortBeforeTheDecisionIsUndecidable(t *testing.T) {
	n, measured := decided(t)
	s := without(n, measured[0])
	s.blocks, s.fail = s.blocks[:measured[1]+1], errors.New("the line is cut")
	r, err := audit.Run(t.Context(), s, options(n))
	if err == nil || r.Verdict != receipt.Undecidable || len(r.Findings) != 2 || r.Findings[0].Kind != audit.DataLoss {
		t.Errorf("cut short: %v\n%s", err, r)
	}
}

// However much expired, what is kept of it is bounded, and nothing is lost of what is
// not covered.
func TestManyAbsentRawVectors(t *testing.T) {
	n := network(t)
	n.KeepRawVectors(statetest.Second)
	captures := make([]receipttest.Capture, 40)
	for i := range captures {
		captures[i] = pulse("m-1", 900)
	}
	var heights []uint64
	for range 30 {
		n.Measure([]int{0, 1}, captures...)
		heights = append(heights, n.Store.Head().Height)
	}
	n.NowUnix += 5
	n.Apply(n.Begin())
	n.Accept(n.Expiry(heights[10]+1, "org-00", "org-01", "org-02"))
	o := options(n)
	o.Modules = nil
	r := run(t, without(n, heights...), o)
	if r.Expired.RawVectors != 11*40 || r.Verdict != receipt.Refuted {
		t.Fatalf("%d expired:\n%s", r.Expired.RawVectors, r.Conclusion)
	}
	named, counted := 0, 0
	for _, f := range r.Findings {
		if f.Height <= heights[10] {
			t.Fatalf("what expired is called lost: %s", f)
		}
		if f.Meter != "" {
			named++
		} else {
			counted++
		}
	}
	if named == 0 || counted == 0 {
		t.Errorf("%d are named and %d blocks counted", named, counted)
	}
}

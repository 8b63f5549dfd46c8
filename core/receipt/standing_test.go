package receipt_test

import (
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func act(n *receipttest.Network, id string, action recordv1.MeterAction, at int64) {
	n.Accept(n.Sign(&recordv1.MeterStatus{
		Header: n.Header(record.SubjectMeter(id)), MeterId: id, Action: action, EffectiveAtUnixNano: at, Reason: "a test",
	}, statetest.Body()))
}

// S2: what followed a measurement changes the meter's standing at the
// checkpoint, and not that at the measurement.
func TestS2_StandingAtTheMeasurementAndToday(t *testing.T) {
	for _, c := range []struct {
		name  string
		after func(n *receipttest.Network)
		today string
	}{
		{"nothing", func(*receipttest.Network) {}, "in service"},
		{"seal broken", func(n *receipttest.Network) { act(n, "m-1", recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0) }, "barred"},
		{"suspended", func(n *receipttest.Network) {
			act(n, "m-1", recordv1.MeterAction_METER_ACTION_SUSPEND, n.NowUnix*statetest.Second)
		}, "suspended"},
		{"decommissioned", func(n *receipttest.Network) {
			act(n, "m-1", recordv1.MeterAction_METER_ACTION_DECOMMISSION, n.NowUnix*statetest.Second)
		}, "decommissioned"},
		{"verification ended", func(n *receipttest.Network) { n.NowUnix = statetest.GenesisUnix + 300*86_400 }, "out of verification"},
	} {
		n, first, _ := ledger(t)
		c.after(n)
		n.Apply(n.Begin())
		for at, want := range map[uint64]struct {
			certificate, seal string
			version           uint32
		}{first[0]: {"certificate", "seal", 1}, first[2]: {"next certificate", "seal again", 2}} {
			contents, report := verify(t, n, n.Bundle(at), nil)
			if report.Verdict != receipt.Verified {
				t.Fatalf("%s: %s", c.name, report.String())
			}
			s := receipt.Describe(contents.Receipt, contents)
			got := s.Standing
			if got.AtMeasurement != "in service" || got.AtCheckpoint != c.today || got.Certificate != want.certificate || got.Seal != want.seal || got.Parameters != want.version {
				t.Errorf("%s: %+v, want %s today under %+v", c.name, got, c.today, want)
			}
			if text := s.String(); !strings.Contains(text, "at the measurement: in service; at the checkpoint of") || !strings.Contains(text, "not that none followed") {
				t.Errorf("%s: the text says\n%s", c.name, text)
			}
		}
	}
}

// S4: a statement that is left out shows, unless it is the last.
func TestS4_AHiddenStatementShows(t *testing.T) {
	n, first, _ := ledger(t)
	b := n.Bundle(first[2])
	b.History = nil // the verification before the parameters
	contents, report := verify(t, n, b, nil)
	if step := report.Step(receipt.StepHistory); report.Verdict != receipt.Undecidable || step.Verdict != receipt.Undecidable || !strings.Contains(step.Detail, "statement 3") {
		t.Error(report.String())
	}
	if s := receipt.Describe(contents.Receipt, contents); s.Standing != nil {
		t.Errorf("a standing of a history with a gap: %+v", s.Standing)
	}
}

package receipt_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/receipt"
)

// The vectors let another implementer check a receipt and a bundle: the trust
// bundle accepts both, and the JSON files say what each step finds and holds.
func TestGoldenVectors(t *testing.T) {
	n, first, _ := ledger(t)
	text := n.Receipt(first[2])
	b := n.Bundle(first[2])
	b.Module = algorithm().Module
	encoded, err := receipt.BuildBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	r, certified := receipt.Verify(text, n.Trust())
	contents, executed := receipt.VerifyBundle(encoded, n.Trust(), runner{})
	golden.Bytes(t, "receipts/trust.bundle", n.Trust().Bytes())
	golden.Bytes(t, "receipts/measurement.receipt", text)
	golden.Bytes(t, "receipts/measurement.bundle", encoded)
	golden.JSON(t, "receipts/receipt.json", map[string]any{"report": certified, "summary": receipt.Describe(r, nil)})
	golden.JSON(t, "receipts/bundle.json", map[string]any{"report": executed, "summary": receipt.Describe(r, contents)})
	golden.Bytes(t, "receipts/summary.txt", []byte(receipt.Describe(r, contents).String()))
}

func TestSummaryClaimsNoMoreThanItKnows(t *testing.T) {
	n, first, _ := ledger(t)
	r, err := receipt.Parse(n.Receipt(first[0]))
	if err != nil {
		t.Fatal(err)
	}
	alone := receipt.Describe(r, nil)
	if alone.Site != nil || alone.Endorsers != nil || alone.Measured[0].Name != "" {
		t.Errorf("a receipt alone: %+v", alone)
	}
	for _, text := range []string{"sensor's truth", "clock's truth", "Freshness", "no legal requirement is claimed"} {
		if !strings.Contains(alone.String(), text) {
			t.Errorf("%q is not said in:\n%s", text, alone.String())
		}
	}
	contents, report := verify(t, n, n.Bundle(first[0]), nil)
	full := receipt.Describe(r, contents)
	if report.Verdict != receipt.Verified || full.Site == nil || len(full.Endorsers) != 2 || full.Measured[0].Name != "sum" {
		t.Errorf("with a bundle: %+v\n%s", full, report.String())
	}
	if !strings.Contains(full.String(), "measured      sum: 28.567 km/h\n") {
		t.Error(full.String())
	}
	var back receipt.Summary
	encoded, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(encoded, &back); err != nil || back.String() != full.String() {
		t.Errorf("JSON %s does not give the summary back: %v", encoded, err)
	}
}

func TestReportInJSON(t *testing.T) {
	n, first, _ := ledger(t)
	_, report := receipt.Verify(n.Receipt(first[0]), n.Trust())
	encoded, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var back receipt.Report
	if err := json.Unmarshal(encoded, &back); err != nil || back.String() != report.String() {
		t.Errorf("%s: %v", encoded, err)
	}
	if !bytes.Contains(encoded, []byte(`"verdict":"verified"`)) {
		t.Errorf("%s", encoded)
	}
}

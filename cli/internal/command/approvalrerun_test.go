package command

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/campaign"
	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/core/receipt"
)

// Figures that the module does not give, another campaign, and criteria that do
// not hold are each told apart.
func TestTypeTestAgainIsComparedWithTheReport(t *testing.T) {
	m := moduleTest{passes: 1, seed: campaign.TestSeed}
	c, err := m.config()
	if err != nil {
		t.Fatal(err)
	}
	bench, err := newModuleBench(t.Context(), speed.Module(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer bench.close(context.Background())
	run, err := campaign.Run(context.Background(), c, bench.measure, campaign.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := newTestReport("00", bench.name, run).JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*approvedTest)
		want   receipt.Verdict
	}{
		"the same":         {func(*approvedTest) {}, receipt.Verified},
		"other figures":    {func(a *approvedTest) { a.Campaign.Grids = json.RawMessage("[]") }, receipt.Refuted},
		"another campaign": {func(a *approvedTest) { a.Campaign.Config = json.RawMessage(`{"seed":1,"grids":[]}`) }, receipt.Undecidable},
	} {
		approved, err := readTestReport(text)
		if err != nil {
			t.Fatal(err)
		}
		if approved.passes != 1 || approved.seed != campaign.TestSeed {
			t.Errorf("read %d passes, seed %d", approved.passes, approved.seed)
		}
		test.change(approved)
		r := new(verification)
		if err := judgeRerun(r, approved, run); err != nil {
			t.Fatal(err)
		}
		if r.conclude(); r.Verdict != test.want {
			t.Errorf("%s: %s", name, r.text())
		}
	}
	for _, bad := range []string{"", "{}", `{"campaign":{"config":{"grids":[]}}}`, "A test report."} {
		if _, err := readTestReport([]byte(bad)); err == nil {
			t.Errorf("%q is a report", bad)
		}
	}
	run.Engines.EnginesDiffer = 1
	r := new(verification)
	if err := judgeRerun(r, &approvedTest{}, run); err != nil || !strings.Contains(r.text(), "refuted") {
		t.Errorf("engines that differ: %v, %s", err, r.text())
	}
}

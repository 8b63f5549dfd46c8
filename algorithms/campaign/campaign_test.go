package campaign

import (
	"encoding/json"
	"testing"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/algorithms/sim"
	"github.com/lacre-metrology/lacre/algorithms/speed"
)

// TestAccuracy is the acceptance of the built-in algorithm on simulated passes:
// all families, the held-out one included, under the test seed. The bounds are
// part of the specification and are not to be moved.
func TestAccuracy(t *testing.T) { holdsAccuracy(t, Default()) }

// TestAccuracyOnTheHeldOutFamily asks the same of the one family of shapes that
// was written after the algorithm was finished.
func TestAccuracyOnTheHeldOutFamily(t *testing.T) {
	c := Default()
	c.Families = []sim.Family{sim.Rectangle}
	holdsAccuracy(t, c)
}

func holdsAccuracy(t *testing.T, c Config) {
	t.Helper()
	r, err := Accuracy(c, speed.Measure)
	if err != nil {
		t.Fatal(err)
	}
	f := r.Total
	t.Logf("seed %d: %d passes, %d accepted, refused %v; largest error %.3f km/h, %.2f MPE (%s); beyond a third %d; U covers all but %d, median U %.3f MPE; length U covers all but %d",
		c.Seed, f.Passes, f.Accepted, f.Refused, f.LargestErrorKmh, f.LargestErrorPerMPE, f.LargestErrorMessage,
		f.Accepted-f.WithinThird, f.Accepted-f.CoveredByU, f.MedianUPerMPE, f.Accepted-f.LengthCoveredByU)
	if f.Passes != 29*2*100 || f.WithinMPE != f.Accepted {
		t.Errorf("%d of %d accepted values within the MPE", f.WithinMPE, f.Accepted)
	}
	if f.WithinThird*100 < f.Accepted*99 {
		t.Errorf("%d of %d within a third of the MPE", f.WithinThird, f.Accepted)
	}
	if f.CoveredByU*100 < f.Accepted*95 || f.MedianUPerMPE > 0.5 {
		t.Errorf("U covers %d of %d, median %.3f MPE", f.CoveredByU, f.Accepted, f.MedianUPerMPE)
	}
	if f.LengthCoveredByU*100 < f.Accepted*95 {
		t.Errorf("the length's U covers %d of %d", f.LengthCoveredByU, f.Accepted)
	}
	if (f.Passes-f.Accepted)*100 >= f.Passes {
		t.Errorf("%d of %d good passes refused: %v", f.Passes-f.Accepted, f.Passes, f.Refused)
	}
}

// TestNoFaultyPassIsAcceptedAboveTheLimit runs every fault at every severity.
func TestNoFaultyPassIsAcceptedAboveTheLimit(t *testing.T) {
	c := DefaultFaults()
	r, err := Faults(c, speed.Measure)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %d passes, %d accepted, largest error %.2f MPE (%s), refused %v", c.Seed, r.Total.Passes, r.Total.Accepted,
		r.Total.LargestErrorPerMPE, r.Total.LargestErrorMessage, r.Total.Refused)
	for _, row := range r.Rows {
		t.Logf("%-13s %.1f accepted %d of %d, largest error %.2f MPE, refused %v", row.Fault, row.Severity, row.Accepted, row.Passes, row.LargestErrorPerMPE, row.Refused)
		if row.WithinMPE != row.Accepted {
			t.Errorf("%s %.1f: %d accepted above the MPE: %s", row.Fault, row.Severity, row.Accepted-row.WithinMPE, row.LargestErrorMessage)
		}
	}
	if r.AcceptedAboveMPE != 0 {
		t.Errorf("%d faulty passes accepted with an error above the MPE", r.AcceptedAboveMPE)
	}
}

// TestFaultsHaveTheirCode: severity 0 is invisible, and a gross fault often gets
// its own name. Others are right too: who crosses a loop, turns, and crosses it
// again makes two pulses, as two vehicles do.
func TestFaultsHaveTheirCode(t *testing.T) {
	own := map[sim.Fault]uint32{
		sim.Saturation: speed.Saturation, sim.Clipping: speed.Clipping, sim.MissingEdge: speed.MissingEdge,
		sim.TwoVehicles: speed.TwoVehicles, sim.Reversal: speed.Reversal, sim.LaneChange: speed.LaneChange,
		sim.DeadChannel: speed.DeadChannel, sim.OutOfRange: speed.OutOfRange,
	}
	for fault, code := range own {
		c := DefaultFaults()
		c.Faults, c.Severities, c.SpeedsKmh, c.Passes = []sim.Fault{fault}, []float64{0, 1}, []float64{40, 80, 120}, 10
		r, err := Faults(c, speed.Measure)
		if err != nil {
			t.Fatal(err)
		}
		invisible, gross := r.Rows[0], r.Rows[1]
		if fault != sim.Saturation && invisible.Accepted < invisible.Passes*9/10 {
			t.Errorf("%v of severity 0: %d of %d accepted", fault, invisible.Accepted, invisible.Passes)
		}
		if n := gross.Refused[CodeName(code)]; n*4 < gross.Passes {
			t.Errorf("gross %v is named %s only %d times in %d: %v", fault, CodeName(code), n, gross.Passes, gross.Refused)
		}
	}
}

// TestOtherInstallations: other spacings, rates, channel counts; errors only.
func TestOtherInstallations(t *testing.T) {
	for _, c := range []Config{
		{RatesHz: []float64{200, 400}, SpacingM: 2, Channels: 2, Passes: 4},
		{RatesHz: []float64{10_000}, SpacingM: 2, Channels: 2, Passes: 1},
		{RatesHz: []float64{1000, 2000}, SpacingM: 1, Channels: 2, Passes: 4},
		{RatesHz: []float64{1000}, SpacingM: 5, Channels: 2, Passes: 4},
		{RatesHz: []float64{1000}, SpacingM: 3, Channels: 3, Passes: 4},
		{RatesHz: []float64{2000}, SpacingM: 2, Channels: 4, Passes: 4},
	} {
		c.Seed, c.Families = TestSeed+1, sim.Families
		for v := 10.0; v <= 250; v += 15 {
			c.SpeedsKmh = append(c.SpeedsKmh, v)
		}
		r, err := Accuracy(c, speed.Measure)
		if err != nil {
			t.Fatal(err)
		}
		f := r.Total
		t.Logf("%v Hz, %g m, %d channels: %d of %d accepted, largest error %.2f MPE, U covers all but %d, refused %v",
			c.RatesHz, c.SpacingM, c.Channels, f.Accepted, f.Passes, f.LargestErrorPerMPE, f.Accepted-f.CoveredByU, f.Refused)
		if f.WithinMPE != f.Accepted || f.Accepted*10 < f.Passes*8 {
			t.Errorf("%v Hz, %g m, %d channels: %d accepted of %d, %d within the MPE", c.RatesHz, c.SpacingM, c.Channels, f.Accepted, f.Passes, f.WithinMPE)
		}
	}
}

// TestRunsWithoutAResultAreRefusals: what the sandbox writes for a module that
// failed, and passes that no meter can send, for which no module is asked.
func TestRunsWithoutAResultAreRefusals(t *testing.T) {
	c := Default()
	c.SpeedsKmh, c.Passes = []float64{60}, 3
	r, err := Accuracy(c, func([]byte) []byte {
		b, err := abi.EncodeOutput(abi.Output{Code: abi.CodeExecutionFailed})
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
	if err != nil || r.Total.Accepted != 0 || r.Total.Refused["EXECUTION_FAILED"] != r.Total.Passes {
		t.Errorf("a module that always fails: %+v, %v", r.Total, err)
	}

	c.RatesHz = []float64{400_000}
	r, err = Accuracy(c, func(input []byte) []byte {
		t.Errorf("the module is given %d bytes", len(input))
		return nil
	})
	if err != nil || r.Total.Passes != 3 || r.Total.Refused["MALFORMED_INPUT"] != 3 {
		t.Errorf("passes above the bound: %+v, %v", r.Total, err)
	}
}

// TestCampaignSeesBadModules: a module that lies is found out, one that answers
// garbage is an error, and reports are readable JSON.
func TestCampaignSeesBadModules(t *testing.T) {
	c := Default()
	c.SpeedsKmh, c.Passes = []float64{60, 120}, 3
	liar := func(input []byte) []byte {
		out, _ := abi.DecodeOutput(speed.Measure(input))
		out.Values[speed.ValueSpeed] += 5000
		b, _ := abi.EncodeOutput(out)
		return b
	}
	r, err := Accuracy(c, liar)
	if err != nil || r.Total.WithinMPE != 0 || r.Total.Accepted == 0 {
		t.Errorf("a module 5 km/h too high: %+v, %v", r.Total, err)
	}
	if _, err := Accuracy(c, func([]byte) []byte { return []byte{1} }); err == nil {
		t.Error("garbage is accepted as an output")
	}
	if _, err := Accuracy(c, func([]byte) []byte { return make([]byte, abi.OutputSize(2)) }); err == nil {
		t.Error("an output of two values is accepted")
	}
	if b, err := json.Marshal(r); err != nil || len(b) < 500 {
		t.Errorf("report: %d bytes of JSON, %v", len(b), err)
	}
}

package ledger

import (
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// A bundle carries the version of the national table that was in force at the
// capture, whatever was recorded since; none before the first.
func TestS2_BundleCarriesTheTableInForceAtTheCapture(t *testing.T) {
	c := newCluster(t, statetest.Options{})
	c.start(four...)
	via := c.leader(four...)
	c.approve(via)
	n := c.mirror
	m := n.MeterRegistration("meter-1", statetest.Key("meter/meter-1"))
	m.NationalTable = "br"
	c.accept(via, [][]byte{n.Sign(m, statetest.Body())}, nil)
	value, err := state.GetMeter(n.Store, "meter-1")
	c.must(err)
	meter := &statetest.Meter{Network: n, ID: "meter-1", Key: statetest.Key("meter/meter-1"), Counter: 1, Registration: digest.Digest(value.GetRegistration())}

	c.measure(via, meter, 1) // counter 1: no table is there
	for range 2 {            // counters 2 and 3: the first version, the second
		c.tick()
		c.accept(via, [][]byte{n.Sign(n.Table("br"), statetest.Body())}, nil)
		c.advance(time.Minute, four...)
		c.measure(via, meter, 1)
	}
	client := c.public(via)
	for counter, want := range map[uint64]uint32{1: 0, 2: 1, 3: 2} {
		got, err := client.GetBundle(t.Context(), &ledgerv1.GetBundleRequest{Measurement: &ledgerv1.MeasurementKey{MeterId: "meter-1", Counter: counter}})
		if err != nil {
			t.Fatal(err)
		}
		contents, report := receipt.VerifyBundle(got.GetBundle(), c.trust(), nil)
		step := report.Step(receipt.StepNationalTable)
		if contents.Table.GetVersion() != want || (step.Verdict == receipt.Verified) != (want > 0) {
			t.Errorf("counter %d: version %d, want %d: %s: %s", counter, contents.Table.GetVersion(), want, step.Verdict, step.Detail)
		}
		if s := receipt.Describe(contents.Receipt, contents).Considered; (s.Considered != "") != (want > 0) {
			t.Errorf("counter %d: %+v", counter, s)
		}
	}
}

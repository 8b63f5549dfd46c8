package approval_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
)

// A dry run gives the answer of a submission, with its reason, and leaves
// nothing on the ledger.
func TestDryRunJudgesAndSubmitsNothing(t *testing.T) {
	b := newBench(t)
	rehearse := func(envelope []byte) (*approvalv1.SubmitStatementResponse, error) {
		return b.client.SubmitStatement(b.ctx, &approvalv1.SubmitStatementRequest{Envelope: envelope, DryRun: true})
	}
	good := b.make(approve)
	half := b.make(func(n *statetest.Network) []byte { return n.SignApproval(n.Terms(), statetest.Body()) })
	early := b.make(func(n *statetest.Network) []byte {
		return n.Sign(n.MeterRegistration("meter-01", statetest.Key("m")), statetest.Body())
	})
	before := len(b.ledger.Leaves())
	for name, c := range map[string]struct {
		envelope []byte
		want     reason.Reason
	}{
		"good": {good, ""}, "half signed": {half, reason.NotAuthorised}, "before its approval": {early, reason.UnknownAlgorithm}, "rubbish": {[]byte("{}"), reason.Malformed},
	} {
		if _, err := rehearse(c.envelope); reason.Of(err) != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if after := len(b.ledger.Leaves()); after != before {
		t.Fatalf("%d leaves were stored", after-before)
	}
	taken, err := b.submit(good)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := rehearse(good); err != nil || again.GetIndex() != taken.GetIndex() {
		t.Errorf("of a statement that is there: %v, %v; its place is %d", again, err, taken.GetIndex())
	}
}

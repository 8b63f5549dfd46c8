package compute_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// withhold renews the module's approval as withheld, endorsed by this
// organisation alone. The endorser starts again, and so follows it.
func (b *bench) withhold(organisation string) {
	b.t.Helper()
	b.restart(func(n *statetest.Network) {
		a := n.Terms()
		a.Disclosure, a.Policy = approval.Withheld, policy.Organisation(organisation)
		n.Accept(n.SignApproval(a, statetest.Body(), statetest.Maker()))
	})
}

// restart is ready when it follows what was done while it was down.
func (b *bench) restart(while func(*statetest.Network)) {
	b.t.Helper()
	b.stop()
	b.ledger.Do(while)
	b.start()
}

func (b *bench) get(as string) ([]byte, error) {
	id := digest.Plain(b.module)
	response, err := computev1.NewComputeServiceClient(b.dial(as)).GetAlgorithm(b.ctx, &computev1.GetAlgorithmRequest{Algorithm: id[:]})
	return response.GetModule(), err
}

// A withheld module is taken only by endorsers whose organisation the policy
// names; that it came elsewhere is recorded.
func TestWithheldModuleGoesToContractedEndorsersOnly(t *testing.T) {
	b := newBench(t)
	b.withhold("org-01") // this endorser is of org-00
	if err := b.install(b.module); reason.Of(err) != reason.NotContracted {
		t.Fatalf("installed at an endorser that the policy does not name: %v", err)
	}
	events := b.ledger.AwaitEvents(b.ctx, t, 1)
	if e := events[0]; e.GetKind() != recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION || !strings.Contains(e.GetDetail(), "NOT_CONTRACTED") {
		t.Errorf("event %v", e)
	}
	b.withhold("org-00")
	if err := b.install(b.module); err != nil {
		t.Errorf("at a contracted endorser: %v", err)
	}
}

// A public module is anybody's; a withheld one goes to the nodes of the
// organisation that acts for the notified body of its approval, as the
// configuration in force says.
func TestWithheldModuleIsGivenToTheNotifiedBodyOnly(t *testing.T) {
	b := newBench(t)
	for _, organisation := range []string{"org-00", "org-01"} {
		id := "approval-of-" + organisation
		b.ledger.TLS(t, statetest.Node{ID: id, Organisation: organisation, Role: recordv1.Role_ROLE_APPROVAL, Key: statetest.Key("node/" + id)})
	}
	b.restart(func(*statetest.Network) {})
	if _, err := b.get(""); reason.Of(err) != reason.NotInstalled {
		t.Errorf("before it is installed: %v", err)
	}
	if err := b.install(b.module); err != nil {
		t.Fatal(err)
	}
	if got, err := b.get(""); err != nil || !bytes.Equal(got, b.module) {
		t.Errorf("a public module to a stranger: %d bytes, %v", len(got), err)
	}
	b.withhold("org-00")
	refused := func(says string, callers ...string) {
		t.Helper()
		for _, as := range callers {
			if got, err := b.get(as); reason.Of(err) != reason.PermissionDenied || len(got) != 0 || !strings.Contains(err.Error(), says) {
				t.Errorf("a withheld module to %q: %d bytes, %v, want %q", as, len(got), err, says)
			}
		}
	}
	given := func(as string) {
		t.Helper()
		if got, err := b.get(as); err != nil || !bytes.Equal(got, b.module) {
			t.Errorf("to %s, a node of the notified body: %d bytes, %v", as, len(got), err)
		}
	}
	refused("it goes to a node registered as approval", "", "gateway-00", b.node.ID)
	refused("organisation org-00 acts for notified body nb, which approved it; approval-of-org-01 is of org-01", "approval-of-org-01")
	given("approval-of-org-00")

	b.actFor("org-01")
	refused("organisation org-01 acts for notified body nb", "approval-of-org-00")
	given("approval-of-org-01")

	b.actFor("")
	refused("no organisation acts for notified body nb", "approval-of-org-00", "approval-of-org-01")
}

// actFor brings a configuration that names the organisation that acts for the
// notified body.
func (b *bench) actFor(organisation string) {
	b.t.Helper()
	b.restart(func(n *statetest.Network) {
		config := proto.CloneOf(n.Config)
		config.Header = n.Header(record.SubjectNetwork)
		config.NotifiedBodies[0].Organisation = organisation
		n.Accept(n.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02")))
	})
}

// A failed installation leaves the version that runs as it is.
func TestOldVersionStaysOnError(t *testing.T) {
	b := newBench(t)
	if err := b.install(b.module); err != nil {
		t.Fatal(err)
	}
	old := b.module
	for name, offer := range map[string]func(n *statetest.Network) []byte{
		"unapproved": func(*statetest.Network) []byte { return append(bytes.Clone(old), 0) },
		"breaks the profile": func(n *statetest.Network) []byte {
			next := []byte("approved, but no module")
			n.ApproveAnother(string(next))
			return next
		},
	} {
		var next []byte
		b.ledger.Do(func(n *statetest.Network) { next = offer(n) })
		b.awaitHeight()
		if err := b.install(next); err == nil {
			t.Fatalf("%s: installed", name)
		}
		response, err := b.endorse(b.capture())
		if err != nil || len(response.GetOutcomes()[0].GetClaim()) == 0 {
			t.Errorf("%s: the old version answers %v, %v", name, response, err)
		}
	}
	b.restart(func(*statetest.Network) {})
	if response, err := b.endorse(b.capture()); err != nil || len(response.GetOutcomes()[0].GetClaim()) == 0 {
		t.Errorf("after a restart: %v, %v", response, err)
	}
}

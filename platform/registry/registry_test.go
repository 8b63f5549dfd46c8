package registry_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/registry"
)

func spki(name string) identity.SPKI { return identity.SPKI(statetest.SPKI(name)) }

func TestN1_RolesComeFromTheLedger(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	key, meterTLS := statetest.Key("meter"), spki("tls of meter-01")
	m := n.MeterRegistration("meter-01", key)
	m.TlsSpki = meterTLS[:]
	n.Accept(n.Sign(m, statetest.Body()))

	size := uint64(1 << 40)
	of := func() identity.Registry {
		return registry.Of(func() (state.View, uint64, digest.Digest) {
			return n.Store, size, n.Store.Head().Admin
		}, slog.New(slog.DiscardHandler))
	}
	r := of()
	for _, c := range []struct {
		spki identity.SPKI
		want identity.Peer
	}{
		{spki("gateway-00"), identity.Peer{ID: "gateway-00", Organisation: "org-00", Role: identity.RoleGateway}},
		{spki("endorser-02"), identity.Peer{ID: "endorser-02", Organisation: "org-02", Role: identity.RoleEndorser}},
		{spki("replica-03"), identity.Peer{ID: "replica-03", Organisation: "org-03", Role: identity.RoleReplica}},
		{meterTLS, identity.Peer{ID: "meter-01", Role: identity.RoleMeter}},
	} {
		c.want.SPKI = c.spki
		if got, ok := r.Role(c.spki); !ok || got != c.want {
			t.Errorf("got %+v (%v), want %+v", got, ok, c.want)
		}
	}
	stranger := func(why string, key identity.SPKI) {
		t.Helper()
		if got, ok := r.Role(key); ok {
			t.Errorf("%s: %+v", why, got)
		}
	}
	stranger("a key that nobody registered", spki("nobody"))

	if err := registry.Node(r, "endorser-02")(spki("endorser-02")); err != nil {
		t.Error(err)
	}
	var wrong *registry.WrongNodeError
	if err := registry.Node(r, "endorser-02")(spki("endorser-01")); !errors.As(err, &wrong) || wrong.Got != "endorser-01" {
		t.Errorf("another node at the address: %v", err)
	}
	if err := registry.Node(r, "endorser-02")(spki("nobody")); !errors.Is(err, identity.ErrUnexpectedPeer) {
		t.Errorf("a stranger at the address: %v", err)
	}

	meter, err := state.GetMeter(n.Store, "meter-01")
	if err != nil {
		t.Fatal(err)
	}
	size = meter.GetRegistrationIndex()
	if got, ok := of().Role(meterTLS); ok {
		t.Errorf("a registration that is not certified yet: %+v", got)
	}
	size = 1 << 40

	replaced := n.Registration(n.Endorsers[1], 0, digest.Zero)
	replaced.Header = n.Header(record.SubjectNode("endorser-01"))
	newer := spki("newer")
	replaced.TlsSpki = newer[:]
	n.Accept(n.Sign(replaced, statetest.Root("org-01"), n.Endorsers[1].Key))
	stranger("a key that its owner replaced", spki("endorser-01"))
	if got, ok := r.Role(newer); !ok || got.ID != "endorser-01" {
		t.Errorf("the newer key: %+v, %v", got, ok)
	}
	n.Accept(n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/endorser-02"), NodeId: "endorser-02"}, statetest.Root("org-02")))
	stranger("a revoked node", spki("endorser-02"))
	told := func(key identity.SPKI, says ...string) {
		t.Helper()
		err := r.(identity.Teller).Ended(key)
		if len(says) == 0 {
			if err != nil {
				t.Errorf("told %v of a key that nothing ended", err)
			}
			return
		}
		for _, want := range says {
			if reason.Of(err) != reason.KeyEnded || !strings.Contains(err.Error(), want) {
				t.Errorf("told %v, want %q", err, want)
			}
		}
	}
	told(spki("nobody"))
	told(meterTLS)
	told(newer)
	told(spki("endorser-01"), "node/endorser-01 has another TLS key", "number 2")
	told(spki("endorser-02"), "node/endorser-02 is revoked", "number 2", "record ")

	other := spki("next tls of meter-01")
	n.Accept(n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/meter-01"), MeterId: "meter-01", Key: statetest.Tagged(signature.Ed25519ZIP215, statetest.Key("next")), FirstCounter: 9, TlsSpki: other[:]}, statetest.Body(), key))
	told(meterTLS, "meter/meter-01 has another key since its rollover", "from counter 9", "number 2")
	told(other)
	n.Accept(n.Sign(&recordv1.MeterStatus{Header: n.Header("meter/meter-01"), MeterId: "meter-01", Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, Reason: "found open"}, statetest.Body()))
	told(other, "meter/meter-01 is barred", "number 3")
	barred, err := state.GetMeter(n.Store, "meter-01")
	if err != nil {
		t.Fatal(err)
	}
	size = barred.GetLast().GetIndex()
	told(other)
	size = 1 << 40

	n.Store.Fail = func(string) error { return errors.New("disk") }
	stranger("a state that cannot be read", spki("gateway-00"))
	none := registry.Of(func() (state.View, uint64, digest.Digest) { return nil, 0, digest.Zero }, slog.New(slog.DiscardHandler))
	if _, ok := none.Role(spki("gateway-00")); ok {
		t.Error("somebody is known without a state")
	}
}

// Whoever was found is known without reading the state again, until the next
// administrative record.
func TestN1_PeersAreKnownUntilTheNextStatement(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	r := registry.Of(func() (state.View, uint64, digest.Digest) {
		return n.Store, n.Store.Head().Size, n.Store.Head().Admin
	}, slog.New(slog.DiscardHandler))
	known := func(node string) bool { _, ok := r.Role(spki(node)); return ok }
	unreadable := func() { n.Store.Fail = func(string) error { return errors.New("disk") } }
	readable := func() { n.Store.Fail = nil }

	if !known("endorser-01") || known("nobody") {
		t.Fatal("the registry is wrong before anything happened")
	}
	unreadable()
	if !known("endorser-01") {
		t.Error("a peer that was found is read again")
	}
	if known("endorser-02") {
		t.Error("a peer is known that was never read")
	}
	readable()
	n.Apply(n.Begin()) // a block without a statement
	unreadable()
	if !known("endorser-01") {
		t.Error("a block without a statement makes a peer be read again")
	}
	readable()
	n.Accept(n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/endorser-01"), NodeId: "endorser-01"}, statetest.Root("org-01")))
	if known("endorser-01") {
		t.Error("a revoked node is known from before")
	}
	if !known("endorser-02") {
		t.Error("another node is lost")
	}
}

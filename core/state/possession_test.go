package state_test

import (
	"crypto"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// N1: after the founding, an organisation registers a key only with the
// signature of whoever holds it.
func TestN1_NobodyRegistersAKeyThatTheyDoNotHold(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	for _, key := range []crypto.Signer{statetest.Key("seen elsewhere"), statetest.P256Key("seen elsewhere")} {
		kind := signature.Ed25519ZIP215
		if _, ok := key.(interface{ Seed() []byte }); !ok {
			kind = signature.P256
		}
		node := n.Registration(statetest.Node{ID: "node-9", Organisation: "org-01", Role: recordv1.Role_ROLE_ENDORSER, Key: statetest.Key("x")}, 1, digest.Zero)
		node.Key = statetest.Tagged(kind, key)
		refuseStatement(t, n, n.Sign(node, statetest.Root("org-01")), reason.NotAuthorised)
		refuseStatement(t, n, n.Sign(node, key), reason.NotAuthorised)
		refuseStatement(t, n, n.Sign(node, statetest.Root("org-01"), statetest.Key("x")), reason.NotAuthorised)
		refuseStatement(t, n, n.Sign(node, statetest.Root("org-01"), key, statetest.Root("org-00")), reason.NotAuthorised)
		refuseStatement(t, n, n.Sign(node, statetest.Root("org-01"), key), "")
	}
	// The root key as a node's own would count twice.
	node := n.Registration(statetest.Node{ID: "node-9", Organisation: "org-01", Role: recordv1.Role_ROLE_ENDORSER, Key: statetest.Root("org-01")}, 1, digest.Zero)
	refuseStatement(t, n, n.Sign(node, statetest.Root("org-01")), reason.NotAuthorised)
}

// C6: whoever is new in a configuration has signed it, each key that it names.
func TestC6_EveryNewKeySignsTheConfiguration(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	joining := statetest.NewReplica("replica-04", "org-04")
	n.Accept(n.Sign(withOrganisation(n, "org-04"), statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"), statetest.Root("org-04")))
	n.Apply(n.Begin())
	n.Accept(n.Sign(n.Registration(joining.Node, 1, digest.Zero), statetest.Root("org-04"), joining.Key))

	c := nextConfig(n)
	c.Replicas = append(c.Replicas, joining.Message())
	c.Quorum = 4
	c.Organisations[0].RootKey = statetest.Tagged(signature.P256, statetest.P256Key("root again"))
	c.NotifiedBodies = append(c.NotifiedBodies, &recordv1.NotifiedBody{Id: "nc", Keys: bodyKeys(2), Threshold: 1})
	majority := []crypto.Signer{statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02")}
	news := append(bodySigners(2), statetest.P256Key("root again"), joining.Cosigner, joining.Log)
	refuseStatement(t, n, n.Sign(c, slices.Concat(majority, news)...), "")
	for i := range news {
		refuseStatement(t, n, n.Sign(c, slices.Concat(majority, slices.Delete(slices.Clone(news), i, i+1))...), reason.NotAuthorised)
	}
	refuseStatement(t, n, n.Sign(c, slices.Concat(majority[:2], news)...), reason.NotAuthorised)

	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	parties, err := state.Parties(config, envelopeOf(t, n.Sign(c, slices.Concat(majority[:2], news[1:])...)))
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for _, p := range parties {
		missing += p.Missing
	}
	if len(parties) != 1+len(news) || missing != 2 {
		t.Errorf("%d parties of which %d signatures are missing, want %d and 2: %+v", len(parties), missing, 1+len(news), parties)
	}
}

func envelopeOf(t *testing.T, leaf []byte) *envelope.Envelope {
	t.Helper()
	r, err := record.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return record.ToEnvelope(r.GetStatement())
}

func withOrganisation(n *statetest.Network, id string) *recordv1.NetworkConfig {
	c := nextConfig(n)
	c.Organisations = append(c.Organisations, &recordv1.Organisation{Id: id, RootKey: statetest.Tagged(signature.Ed25519, statetest.Root(id))})
	return c
}

// C5: a configuration may name a record version that this code does not know: it
// is accepted, so that old and new builds make the same block, and nothing
// follows it here.
func TestC5_ALaterRecordVersionStopsThisCode(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	if err := state.CheckVersion(n.Store); err != nil {
		t.Fatal(err)
	}
	c := nextConfig(n)
	c.RecordVersion = state.RecordVersion + 1
	n.Accept(signConfig(n, c))
	head := n.Store.Head()
	certificate := n.Certificate(head.Height)
	for name, f := range map[string]func() error{
		"begin": func() error {
			_, err := state.Begin(n.Store, head, state.Options{}, head.Height, certificate)
			return err
		},
		"begin empty": func() error { _, err := state.BeginEmpty(n.Store, head, state.Options{}); return err },
		"check":       func() error { return state.CheckVersion(n.Store) },
	} {
		if err := f(); reason.Of(err) != reason.UnsupportedVersion || err.Error() != "UNSUPPORTED_VERSION: this network needs record version 2; this binary knows 1" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

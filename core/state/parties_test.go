package state_test

import (
	"crypto"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Who is missing falls with each signature, and what is missing nothing is what
// the ledger takes.
func TestS4_PartiesAreThoseTheLedgerAsks(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	second := statetest.Key("body/nb/2")
	body := config.Message.NotifiedBodies[0]
	body.Keys, body.Threshold = append(body.Keys, statetest.Tagged(signature.Ed25519, second)), 2
	payload, err := n.Terms().Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := &envelope.Envelope{PayloadType: record.TypeApproval, Payload: payload}
	for _, step := range []struct {
		key         crypto.Signer // nil at first
		body, maker int           // missing
		bodySigned  int
	}{{nil, 2, 1, 0}, {statetest.Body(), 1, 1, 1}, {statetest.Maker(), 1, 0, 1}, {second, 0, 0, 2}} {
		if step.key != nil {
			if err := e.Sign(step.key, signature.Ed25519); err != nil {
				t.Fatal(err)
			}
		}
		parties, err := state.Parties(config, e)
		if err != nil || len(parties) != 2 {
			t.Fatalf("%v, %v", parties, err)
		}
		if b, m := parties[0], parties[1]; b.Missing != step.body || b.Signed != step.bodySigned || m.Missing != step.maker || len(b.Keys) != 2 || len(m.Keys) != 1 {
			t.Errorf("after %d signatures: %+v", len(e.Signatures), parties)
		}
	}
	e.Signatures[0].Sig[0] ^= 1
	if _, err := state.Parties(config, e); reason.Of(err) != reason.BadSignature {
		t.Errorf("a forged signature: %v", err)
	}
}

func TestPartiesRefuses(t *testing.T) {
	n, m := ready(t)
	config, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	of := func(leaf []byte) *envelope.Envelope {
		r, err := record.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		return record.ToEnvelope(r.GetStatement())
	}
	status := &recordv1.MeterStatus{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}
	if _, err := state.Parties(config, of(n.Sign(status, statetest.Key("stranger")))); reason.Of(err) != reason.NotAuthorised {
		t.Errorf("a stranger: %v", err)
	}
	if p, err := state.Parties(config, of(n.Sign(status, statetest.Body()))); err != nil || p[0].Missing != 0 {
		t.Errorf("the body: %v, %v", p, err)
	}
	status.Header.NetworkId = stranger.Bytes()
	if _, err := state.Parties(config, of(n.Sign(status, statetest.Body()))); reason.Of(err) != reason.WrongNetwork {
		t.Errorf("another network's: %v", err)
	}
	if _, err := state.Parties(config, &envelope.Envelope{PayloadType: "x", Payload: []byte("y")}); reason.Of(err) != reason.Malformed {
		t.Errorf("no statement: %v", err)
	}
	founded, err := state.GenesisConfig(&recordv1.Genesis{Records: n.GenesisRecords(), BlockTimeUnixNano: statetest.GenesisUnix * second})
	if err != nil || founded.NetworkID != config.NetworkID {
		t.Errorf("the genesis founds %v, %v", founded, err)
	}
}

// Who may sign is asked of the configuration in force, and of the state where a
// signer stands there alone.
func TestPartiesInTheStateInForce(t *testing.T) {
	n, m := ready(t)
	founding, err := state.GetConfig(n.Store)
	if err != nil {
		t.Fatal(err)
	}
	config := proto.CloneOf(n.Config)
	config.Header = n.Header(record.SubjectNetwork)
	next := statetest.Key("body/next")
	config.NotifiedBodies[0].Keys = [][]byte{statetest.Tagged(signature.Ed25519, next)}
	n.Accept(signConfig(n, config, next))
	of := func(leaf []byte) *envelope.Envelope {
		r, err := record.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		return record.ToEnvelope(r.GetStatement())
	}
	status := &recordv1.MeterStatus{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}
	old, now := of(n.Sign(status, statetest.Body())), of(n.Sign(status, next))
	if _, err := state.PartiesIn(n.Store, old); reason.Of(err) != reason.NotAuthorised {
		t.Errorf("the founding key, in the state in force: %v", err)
	}
	if p, err := state.PartiesIn(n.Store, now); err != nil || p[0].Missing != 0 {
		t.Errorf("the key in force: %v, %v", p, err)
	}
	if p, err := state.Parties(founding, old); err != nil || p[0].Missing != 0 {
		t.Errorf("the founding key, by the founding configuration: %v, %v", p, err)
	}
	rollover := of(n.Sign(&recordv1.MeterKeyRollover{
		Header: n.Header("meter/" + m.ID), MeterId: m.ID, Key: statetest.Tagged(signature.Ed25519ZIP215, statetest.Key("rolled")), FirstCounter: 100,
	}, next))
	if _, err := state.Parties(founding, rollover); reason.Of(err) != reason.UnknownMeter {
		t.Errorf("a rollover without the state: %v", err)
	}
	p, err := state.PartiesIn(n.Store, rollover)
	if err != nil || len(p) != 2 || p[0].Missing+p[1].Missing != 1 {
		t.Errorf("a rollover that the old key has not signed: %+v, %v", p, err)
	}
	if _, err := state.PartiesIn(statetest.NewStore(), now); reason.Of(err) != reason.NotReady {
		t.Errorf("before the genesis: %v", err)
	}
}

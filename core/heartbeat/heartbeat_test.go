package heartbeat_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func example() *heartbeat.Heartbeat {
	return &heartbeat.Heartbeat{
		NetworkID: digest.Plain([]byte("network")), MeterID: "meter-1", NewestCounter: 41, NewestSample: digest.Plain([]byte("sample")),
		AtUnixNano: statetest.GenesisUnix * statetest.Second, ClockSync: recordv1.ClockSync_CLOCK_SYNC_HOLDOVER,
		KnownHeight: 7, KnownBlock: digest.Plain([]byte("block")), StatusFlags: 5,
	}
}

func TestGolden(t *testing.T) {
	signer := statetest.Key("meter/meter-1")
	b, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := heartbeat.Sign(signer, example())
	if err != nil {
		t.Fatal(err)
	}
	r, err := record.Parse(leaf)
	if err != nil || !bytes.Equal(r.GetHeartbeat().GetHeartbeat(), b) {
		t.Fatalf("leaf %x (%v), want the heartbeat %x in it", leaf, err, b)
	}
	key, err := signature.KeyOf(signature.Ed25519ZIP215, signer.Public())
	if err != nil || !signature.Verify(key.Kind(), key, heartbeat.Message(b), r.GetHeartbeat().GetSignature()) {
		t.Errorf("the signature does not verify (%v)", err)
	}
	parsed, err := heartbeat.Parse(b)
	if err != nil || *parsed != *example() {
		t.Errorf("parsed %+v (%v)", parsed, err)
	}
	golden.JSON(t, "heartbeat.json", map[string]any{
		"heartbeat": b, "signed": heartbeat.Message(b), "publicKey": key.Bytes(), "record": leaf,
	})
}

func TestB1_HeartbeatsAreBounded(t *testing.T) {
	if _, err := heartbeat.Parse(make([]byte, heartbeat.MaxBytes+1)); reason.Of(err) != reason.TooLarge {
		t.Errorf("513 bytes: %v", err)
	}
	h := example()
	h.NewestCounter = 0
	if _, err := heartbeat.Sign(statetest.Key("x"), h); reason.Of(err) != reason.Malformed {
		t.Errorf("a sample without a counter is signed: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := heartbeat.Parse(b)
		if err != nil {
			var refused *reason.Error
			if !errors.As(err, &refused) {
				t.Fatalf("%v has no reason", err)
			}
			return
		}
		if again, err := h.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is accepted and encodes as %x (%v)", b, again, err)
		}
	})
}

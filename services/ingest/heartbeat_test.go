package ingest_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
)

// A gateway hands heartbeats to the ledger, which judges them, and says what it said.
func TestHeartbeatsReachTheLedger(t *testing.T) {
	b := newBench(t)
	sign := func(m *statetest.Meter, change ...func(*heartbeat.Heartbeat)) (leaf []byte) {
		b.do(func(*statetest.Network) { leaf = m.Heartbeat(change...) })
		return leaf
	}
	b.accept(b.capture()) // the gateway follows from here
	good := sign(b.meter)
	before := len(b.ledger.Leaves())
	first, err := b.client.SubmitHeartbeat(b.ctx, &ingestv1.SubmitHeartbeatRequest{Record: good})
	if err != nil || first.GetIndex() < uint64(before) {
		t.Fatalf("%v (%v)", first, err)
	}
	again, err := b.client.SubmitHeartbeat(b.ctx, &ingestv1.SubmitHeartbeatRequest{Record: good})
	if err != nil || again.GetIndex() != first.GetIndex() {
		t.Errorf("the same again: %v (%v), want its place %d", again, err, first.GetIndex())
	}
	after := len(b.ledger.Leaves())
	stranger := *b.meter
	stranger.ID = "nobody"
	for name, c := range map[string]struct {
		leaf []byte
		want reason.Reason
	}{
		"no record":        {[]byte("none"), reason.NotCanonical},
		"another network":  {sign(b.meter, func(h *heartbeat.Heartbeat) { h.NetworkID = digest.Plain([]byte("other")) }), reason.WrongNetwork},
		"an unknown meter": {sign(&stranger), reason.UnknownMeter},
		"another kind":     {wire.MustEncode(b.ledger.Leaves()[0]), reason.WrongPlace},
		"too soon":         {sign(b.meter, func(h *heartbeat.Heartbeat) { h.AtUnixNano += 9 * statetest.Second }), reason.TooSoon},
	} {
		if _, err := b.client.SubmitHeartbeat(b.ctx, &ingestv1.SubmitHeartbeatRequest{Record: c.leaf}); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if got := len(b.ledger.Leaves()); got != after {
		t.Errorf("%d leaves of refused heartbeats", got-after)
	}
}

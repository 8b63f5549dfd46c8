package state_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func TestS2_HeartbeatsAreBoundedInTime(t *testing.T) {
	n, m := ready(t)
	n.Accept(m.Heartbeat())
	n.NowUnix += 60
	n.Apply(n.Begin())
	at := func(unixNano int64) func(*heartbeat.Heartbeat) {
		return func(h *heartbeat.Heartbeat) { h.AtUnixNano = unixNano }
	}
	first, now := int64(statetest.GenesisUnix)*second, n.NowUnix*second
	old := func(h *heartbeat.Heartbeat) { h.KnownHeight, h.KnownBlock = 0, n.Store.Blocks[0].Header }
	for name, c := range map[string]struct {
		changes []func(*heartbeat.Heartbeat)
		want    reason.Reason
	}{
		"now":                   {nil, ""},
		"10 s after the last":   {[]func(*heartbeat.Heartbeat){at(first + 10*second), old}, ""},
		"less after the last":   {[]func(*heartbeat.Heartbeat){at(first + 10*second - 1), old}, reason.TooSoon},
		"as the last":           {[]func(*heartbeat.Heartbeat){at(first), old, func(h *heartbeat.Heartbeat) { h.StatusFlags = 1 }}, reason.TimeNotMonotonic},
		"before the last":       {[]func(*heartbeat.Heartbeat){at(first - 1), old}, reason.TimeNotMonotonic},
		"before the known":      {[]func(*heartbeat.Heartbeat){at(now - 1)}, reason.BackDated},
		"10 s ahead":            {[]func(*heartbeat.Heartbeat){at(now + 10*second)}, ""},
		"further ahead":         {[]func(*heartbeat.Heartbeat){at(now + 10*second + 1)}, reason.FutureDated},
		"a block to come":       {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.KnownHeight += 9 }}, reason.UnknownBlock},
		"a block of nobody":     {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.KnownBlock = stranger }}, reason.UnknownBlock},
		"another network":       {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.NetworkID = stranger }}, reason.WrongNetwork},
		"a meter that is not":   {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.MeterID = "meter-9" }}, reason.UnknownMeter},
		"flags and no sync":     {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.StatusFlags, h.ClockSync = 7, 3 }}, ""},
		"beyond every counter":  {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.NewestCounter, h.NewestSample = 1<<62, stranger }}, reason.CounterOutOfRange},
		"the largest of all":    {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.NewestCounter, h.NewestSample = 1<<64-1, stranger }}, reason.CounterOutOfRange},
		"samples to be brought": {[]func(*heartbeat.Heartbeat){func(h *heartbeat.Heartbeat) { h.NewestCounter, h.NewestSample = 41, stranger }}, ""},
	} {
		if o := try(t, n, [][]byte{m.Heartbeat(c.changes...)}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
}

// S3: the newest counter of a heartbeat never falls, and names the sample that
// the ledger has.
func TestS3_HeartbeatsCountWithTheSamples(t *testing.T) {
	n, m := ready(t)
	early := m.Heartbeat()
	n.AcceptCaptures(m.Capture(), m.Capture())
	refuseStatement(t, n, early, reason.CounterOutOfRange) // a sample overtook it
	refuseStatement(t, n, m.Heartbeat(), "")
	refuseStatement(t, n, m.Heartbeat(func(h *heartbeat.Heartbeat) { h.NewestSample = stranger }), reason.Equivocation)
	m.Capture() // signed, and not delivered
	n.Accept(m.Heartbeat())
	n.NowUnix += 10
	refuseStatement(t, n, m.Heartbeat(func(h *heartbeat.Heartbeat) { h.NewestCounter = 2 }), reason.CounterOutOfRange)
	pulse, err := state.GetMeterPulse(n.Store, m.ID)
	if err != nil || pulse.GetNewestCounter() != 3 || pulse.GetAtUnixNano() != (n.NowUnix-10)*second {
		t.Errorf("%v (%v)", pulse, err)
	}
	chain, err := state.GetMeterChain(n.Store, m.ID)
	if err != nil || chain.GetNewestCounter() != 2 {
		t.Errorf("%v (%v)", chain, err)
	}
}

func TestS3_HeartbeatIsSignedByTheNextCountersKey(t *testing.T) {
	n, m := ready(t)
	n.AcceptCaptures(m.Capture())
	forged := *m
	forged.Key = statetest.Key("stranger")
	refuseStatement(t, n, forged.Heartbeat(), reason.BadSignature)
	old, next := m.Key, statetest.P256Key("next")
	n.Accept(n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/" + m.ID), MeterId: m.ID,
		Key: statetest.Tagged(signature.P256, next), FirstCounter: 2}, statetest.Body(), old))
	refuseStatement(t, n, m.Heartbeat(), reason.BadSignature)
	m.Key = next
	refuseStatement(t, n, m.Heartbeat(), "")
}

func TestS2_HeartbeatOfAnEndedMeter(t *testing.T) {
	base, meter := ready(t)
	at := base.NowUnix * second
	for name, c := range map[string]struct {
		action recordv1.MeterAction
		at     int64
		want   reason.Reason
	}{
		"suspended":                 {recordv1.MeterAction_METER_ACTION_SUSPEND, at, ""}, // it lives
		"seal broken":               {recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0, reason.MeterNotInService},
		"key compromised":           {recordv1.MeterAction_METER_ACTION_KEY_COMPROMISED, 0, reason.MeterNotInService},
		"decommissioned":            {recordv1.MeterAction_METER_ACTION_DECOMMISSION, at, reason.MeterNotInService},
		"decommissioned afterwards": {recordv1.MeterAction_METER_ACTION_DECOMMISSION, at + 1, ""},
	} {
		n, m := base.Clone(t), *meter
		m.Network = n
		n.Accept(status(n, &m, c.action, c.at))
		if o := try(t, n, [][]byte{m.Heartbeat(func(h *heartbeat.Heartbeat) { h.KnownHeight, h.KnownBlock = 0, n.Store.Blocks[0].Header })}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
}

// Heartbeats come alone, up to 1,024 at once, and each is decided for itself.
func TestS1_HeartbeatsAreASubmissionOfTheirOwn(t *testing.T) {
	n, m := ready(t)
	other := n.RegisterWith("meter-2", statetest.P256Key("m2"))
	forged := *m
	forged.Key = statetest.Key("stranger")
	good := m.Heartbeat()
	outcomes := try(t, n, [][]byte{[]byte("none"), forged.Heartbeat(), good, good, other.Heartbeat()}, nil)
	for i, want := range []reason.Reason{reason.NotCanonical, reason.BadSignature, "", reason.Duplicate, ""} {
		wantReason(t, outcomes[i], want)
	}
	if outcomes[3].Index != outcomes[2].Index {
		t.Errorf("the duplicate names leaf %d, the first is %d", outcomes[3].Index, outcomes[2].Index)
	}
	b := n.Batch(m.Capture())
	for name, o := range map[string]state.Outcome{
		"a set after it":     try(t, n, [][]byte{other.Heartbeat(), b.Records()[0]}, nil)[1],
		"after measurements": try(t, n, append(b.Records(), other.Heartbeat()), append(b.Raw, nil))[2],
		"with a raw vector":  try(t, n, [][]byte{other.Heartbeat()}, [][]byte{{1}})[0],
	} {
		if o.Reason != reason.WrongPlace {
			t.Errorf("%s: %q (%s)", name, o.Reason, o.Detail)
		}
	}
	many := make([][]byte, heartbeat.MaxBatch+1)
	for i := range many {
		many[i] = good
	}
	wantReason(t, try(t, n, many, nil)[0], reason.WrongPlace)
	wantReason(t, try(t, n, many[1:], nil)[0], "")
}

func TestB1_MalformedHeartbeats(t *testing.T) {
	n, m := ready(t)
	for name, change := range map[string]func(h *recordv1.Heartbeat){
		"no network":        func(h *recordv1.Heartbeat) { h.NetworkId = nil },
		"no known block":    func(h *recordv1.Heartbeat) { h.KnownBlock = h.KnownBlock[1:] },
		"a zero sample":     func(h *recordv1.Heartbeat) { h.NewestCounter, h.NewestSample = 1, make([]byte, 32) },
		"a sample of none":  func(h *recordv1.Heartbeat) { h.NewestSample = stranger.Bytes() },
		"a counter of none": func(h *recordv1.Heartbeat) { h.NewestCounter = 1 },
		"no time":           func(h *recordv1.Heartbeat) { h.AtUnixNano = 0 },
		"no clock":          func(h *recordv1.Heartbeat) { h.ClockSync = 0 },
		"no id":             func(h *recordv1.Heartbeat) { h.MeterId = "Meter" },
	} {
		r, err := record.Parse(m.Heartbeat())
		if err != nil {
			t.Fatal(err)
		}
		h := new(recordv1.Heartbeat)
		if err := record.Decode(r.GetHeartbeat().GetHeartbeat(), heartbeat.MaxBytes, h); err != nil {
			t.Fatal(err)
		}
		change(h)
		b := wire.MustEncode(h)
		leaf, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Heartbeat{Heartbeat: &recordv1.SignedHeartbeat{Heartbeat: b, Signature: r.GetHeartbeat().GetSignature()}}})
		if err != nil {
			t.Fatal(err)
		}
		if o := try(t, n, [][]byte{leaf}, nil)[0]; o.Reason != reason.Malformed {
			t.Errorf("%s: %q (%s)", name, o.Reason, o.Detail)
		}
	}
}

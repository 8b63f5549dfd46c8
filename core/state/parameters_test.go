package state_test

import (
	"crypto"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func TestS4_Parameters(t *testing.T) {
	n, m := ready(t)
	now := n.NowUnix * second
	for name, c := range map[string]struct {
		change func(p *recordv1.MeterParameters)
		want   reason.Reason
	}{
		"good":                     {func(*recordv1.MeterParameters) {}, ""},
		"effective long ago":       {func(p *recordv1.MeterParameters) { p.EffectiveAtUnixNano = 1 }, ""},
		"effective in a year":      {func(p *recordv1.MeterParameters) { p.EffectiveAtUnixNano += 365 * 86_400 * second }, ""},
		"under a table":            {func(p *recordv1.MeterParameters) { p.NationalTable = "br" }, ""},
		"no effective time":        {func(p *recordv1.MeterParameters) { p.EffectiveAtUnixNano = 0 }, reason.InvalidStatement},
		"version 1":                {func(p *recordv1.MeterParameters) { p.Version = 1 }, reason.InvalidStatement},
		"version 3":                {func(p *recordv1.MeterParameters) { p.Version = 3 }, reason.InvalidStatement},
		"version beyond 32 bits' ": {func(p *recordv1.MeterParameters) { p.Version = 1<<32 - 1 }, reason.InvalidStatement},
		"unknown module":           {func(p *recordv1.MeterParameters) { p.Algorithm = stranger.Bytes() }, reason.UnknownAlgorithm},
		"no module":                {func(p *recordv1.MeterParameters) { p.Algorithm = nil }, reason.Malformed},
		"too many parameters":      {func(p *recordv1.MeterParameters) { p.Parameters = append(p.Parameters, 1) }, reason.InvalidStatement},
		"no rate":                  {func(p *recordv1.MeterParameters) { p.SampleRateMillihertz = 0 }, reason.InvalidStatement},
		"not on Earth":             {func(p *recordv1.MeterParameters) { p.Site = &recordv1.Site{LatitudeE7: 900_000_001} }, reason.InvalidStatement},
		"long seal":                {func(p *recordv1.MeterParameters) { p.Seal = strings.Repeat("x", 129) }, reason.TooLarge},
		"long reason":              {func(p *recordv1.MeterParameters) { p.Reason = strings.Repeat("x", state.MaxReason+1) }, reason.TooLarge},
		"no table's id":            {func(p *recordv1.MeterParameters) { p.NationalTable = "BR" }, reason.Malformed},
		"bad id":                   {func(p *recordv1.MeterParameters) { p.MeterId = "meter/1" }, reason.Malformed},
		"another meter":            {func(p *recordv1.MeterParameters) { p.MeterId = "meter-2" }, reason.Malformed},
	} {
		p := n.Parameters(m.ID, now)
		c.change(p)
		if o := try(t, n, [][]byte{n.Sign(p, statetest.Body())}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
	for name, key := range map[string]crypto.Signer{"the meter": m.Key, "its manufacturer": statetest.Maker(), "a root key": statetest.Root("org-00")} {
		if o := try(t, n, [][]byte{n.Sign(n.Parameters(m.ID, now), key)}, nil)[0]; o.Reason != reason.NotAuthorised {
			t.Errorf("signed by %s: %q", name, o.Reason)
		}
	}
	first := n.Parameters(m.ID, now)
	n.Accept(n.Sign(first, statetest.Body()))
	refuseStatement(t, n, n.Sign(first, statetest.Body()), reason.Duplicate)
	// A version overlaps neither the one before nor what was measured under it.
	refuseStatement(t, n, n.Sign(n.Parameters(m.ID, now), statetest.Body()), reason.Overlapping)
	refuseStatement(t, n, n.Sign(n.Parameters(m.ID, now+1), statetest.Body()), "")
	n.NowUnix += 60
	n.Apply(n.Begin())
	n.AcceptCaptures(m.Capture())
	refuseStatement(t, n, n.Sign(n.Parameters(m.ID, n.NowUnix*second), statetest.Body()), reason.Overlapping)
	refuseStatement(t, n, n.Sign(n.Parameters(m.ID, n.NowUnix*second+1), statetest.Body()), "")

	withdrawn := n.Clone(t)
	withdrawn.Accept(algorithmStatus(withdrawn, recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW, 0))
	refuseStatement(t, withdrawn, withdrawn.Sign(withdrawn.Parameters(m.ID, n.NowUnix*second+1), statetest.Body()), reason.AlgorithmNotInForce)
	broken := n.Clone(t)
	broken.Accept(status(broken, m, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0))
	refuseStatement(t, broken, broken.Sign(broken.Parameters(m.ID, n.NowUnix*second+1), statetest.Body()), reason.InvalidStatement)
	ended := n.Clone(t)
	ended.Accept(status(ended, m, recordv1.MeterAction_METER_ACTION_DECOMMISSION, n.NowUnix*second+9))
	refuseStatement(t, ended, ended.Sign(ended.Parameters(m.ID, n.NowUnix*second+1), statetest.Body()), reason.InvalidStatement)
}

func TestS4_ParametersAreBounded(t *testing.T) {
	n, m := ready(t)
	for i := range int64(64) {
		n.Accept(n.Sign(n.Parameters(m.ID, n.NowUnix*second+i), statetest.Body()))
	}
	refuseStatement(t, n, n.Sign(n.Parameters(m.ID, n.NowUnix*second+64), statetest.Body()), reason.InvalidStatement)
	value, err := state.GetMeter(n.Store, m.ID)
	if err != nil || len(value.GetParameters()) != 64 {
		t.Fatalf("%d versions (%v)", len(value.GetParameters()), err)
	}
	// Found by time, whatever their number.
	for at, want := range map[int64]uint32{-1: 1, 0: 2, 1: 3, 62: 64, 63: 65, 1 << 40: 65} {
		p, err := state.ParametersAt(value, n.NowUnix*second+at)
		if err != nil || p.Version != want {
			t.Errorf("at %d: version %d (%v), want %d", at, p.Version, err, want)
		}
	}
}

// S2: each capture is judged under the version in force at its time: module,
// rate and the statement that the claim names.
func TestS2_ParametersAreThoseOfTheCapture(t *testing.T) {
	base, meter := ready(t)
	old, module := base.Algorithm, digest.Plain([]byte("second module"))
	base.Algorithm = module
	base.Approve()
	base.Algorithm = old
	from := (base.NowUnix + 50) * second
	p := base.Parameters(meter.ID, from)
	p.Algorithm, p.SampleRateMillihertz = module.Bytes(), 1_000_000
	base.Accept(base.Sign(p, statetest.Body()))
	base.NowUnix += 100
	base.Apply(base.Begin())
	value, err := state.GetMeter(base.Store, meter.ID)
	if err != nil {
		t.Fatal(err)
	}
	approvalOf := func(module digest.Digest) digest.Digest {
		a, err := state.GetAlgorithm(base.Store, module)
		if err != nil {
			t.Fatal(err)
		}
		return digest.Digest(a.GetApproval())
	}
	registration, parameters := digest.Digest(value.GetRegistration()), digest.Digest(value.GetParameters()[0].GetStatement())
	for _, c := range []struct {
		name   string
		at     int64
		rate   uint64
		module digest.Digest
		names  digest.Digest
		want   reason.Reason
	}{
		{"before", from - 1, 2_000_000, old, registration, ""},
		{"before, under the new version", from - 1, 1_000_000, module, parameters, reason.StaleRegistration},
		{"before, at the new rate", from - 1, 1_000_000, old, registration, reason.WrongSampleRate},
		{"before, by the new module", from - 1, 2_000_000, module, registration, reason.WrongAlgorithm},
		{"from then on", from, 1_000_000, module, parameters, ""},
		{"from then on, under the old version", from, 2_000_000, old, registration, reason.StaleRegistration},
		{"from then on, at the old rate", from, 2_000_000, module, parameters, reason.WrongSampleRate},
		{"from then on, by the old module", from, 1_000_000, old, parameters, reason.WrongAlgorithm},
		{"from then on, of another statement", from, 1_000_000, module, stranger, reason.StaleRegistration},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, m := base.Clone(t), *meter
			m.Network, n.Algorithm, n.Approval = n, c.module, approvalOf(c.module)
			b := n.Batch(m.Capture(atNano(c.at), knowsGenesis(n), func(h *sample.Header) { h.SampleRateMillihertz = c.rate }))
			b.Claims[0].Registration = c.names
			wantReason(t, try(t, n, b.Records(), b.Raw)[1], c.want)
		})
	}
}

// What the ledger took stays as it was judged: two captures across a version's
// beginning, replayed from the first block.
func TestS2_VersionsReplay(t *testing.T) {
	n, m := ready(t)
	first := n.NowUnix * second
	n.AcceptCaptures(m.Capture())
	n.Accept(n.Sign(n.Parameters(m.ID, first+1), statetest.Body()))
	n.NowUnix++
	n.AcceptCaptures(m.Capture(), m.Capture())
	again, err := replayAll(n, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.Head(), n.Store.Head(); got != want {
		t.Errorf("replayed to %+v, want %+v", got, want)
	}
}

package state_test

import (
	"errors"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

const second = statetest.Second

// ready is a network with an approved module and a registered meter.
func ready(t testing.TB) (*statetest.Network, *statetest.Meter) {
	t.Helper()
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	m := n.Register("meter-1")
	return n, m
}

// try decides a submission in a block that is then thrown away, and checks that
// what is refused leaves no leaf and no write.
func try(t testing.TB, n *statetest.Network, records, raw [][]byte) []state.Outcome {
	t.Helper()
	b := n.Begin()
	outcomes, err := b.Submit(statetest.Parse(records, raw))
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for i, o := range outcomes {
		if o.Accepted {
			if want := n.Store.Head().Size + uint64(accepted); o.Index != want || o.Reason != "" {
				t.Errorf("record %d accepted as leaf %d with reason %q, want leaf %d", i, o.Index, o.Reason, want)
			}
			accepted++
		} else if o.Reason == "" || o.Detail == "" {
			t.Errorf("record %d refused without reason or detail: %+v", i, o)
		}
	}
	if b.Len() != accepted {
		t.Errorf("%d leaves of %d accepted records", b.Len(), accepted)
	}
	sealed, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if accepted == 0 && len(sealed.Writes) != 0 {
		t.Errorf("nothing was accepted and %d values were written", len(sealed.Writes))
	}
	return outcomes
}

// wantReason checks one outcome.
func wantReason(t testing.TB, o state.Outcome, want reason.Reason) {
	t.Helper()
	if o.Reason != want || o.Accepted != (want == "") {
		t.Errorf("outcome is %q (accepted %v: %s), want %q", o.Reason, o.Accepted, o.Detail, want)
	}
}

// refuseStatement checks why a statement is refused.
func refuseStatement(t testing.TB, n *statetest.Network, leaf []byte, want reason.Reason) {
	t.Helper()
	wantReason(t, try(t, n, [][]byte{leaf}, nil)[0], want)
}

// refuseCapture checks why a capture is refused.
func refuseCapture(t testing.TB, n *statetest.Network, c *statetest.Capture, want reason.Reason) {
	t.Helper()
	b := n.Batch(c)
	wantReason(t, try(t, n, b.Records(), b.Raw)[1], want)
}

func TestMeasurementsAreRecordedInOrder(t *testing.T) {
	n, m := ready(t)
	captures := []*statetest.Capture{m.Capture(), m.Capture(), m.Capture()}
	first := n.AcceptCaptures(captures...)
	for i := range captures {
		index, ok, err := state.IndexOf(n.Store, m.ID, uint64(i)+1)
		if err != nil || !ok || index != first+uint64(i) {
			t.Errorf("counter %d is leaf %d (%v, %v), want %d", i+1, index, ok, err, first+uint64(i))
		}
	}
	if _, ok, err := state.IndexOf(n.Store, m.ID, 4); ok || err != nil {
		t.Errorf("counter 4 is found (%v)", err)
	}
	chain, err := state.GetMeterChain(n.Store, m.ID)
	if err != nil || chain.GetNewestCounter() != 3 || len(chain.GetMissing()) != 0 {
		t.Errorf("chain is %v (%v)", chain, err)
	}
}

func TestP256MeterAndRefusedResult(t *testing.T) {
	n, _ := ready(t)
	m := n.RegisterWith("meter-p256", statetest.P256Key("m"))
	c := []*statetest.Capture{m.Capture(), m.Capture(), m.Capture()}
	b := n.Batch(c...)
	b.Claims[0].Result = statetest.Result(2)          // refusal without values
	b.Claims[1].Result = statetest.Result(2, 0, 0, 0) // refusal with diagnostics
	b.Claims[2].Result = statetest.Result(100)        // the sandbox's
	for i, o := range n.Submit(b.Records(), b.Raw) {
		if !o.Accepted {
			t.Errorf("record %d: %s: %s", i, o.Reason, o.Detail)
		}
	}
}

// A failing read must stop the block, never decide an outcome: every kind of
// record, with each of its reads failing once.
func TestReadErrorsAreNotOutcomes(t *testing.T) {
	n, m := ready(t)
	n.KeepRawVectors(second)
	n.NowUnix += 2
	m.Capture() // lost: the next leaves a gap
	used := m.Capture()
	n.AcceptCaptures(used)
	other := *m
	other.Counter, other.Previous = 2, [32]byte{1}
	batch, gap := n.Batch(m.Capture()), n.Batch(used)
	conflict := n.Batch(other.Capture())
	node := statetest.Node{ID: "node-9", Organisation: "org-01", Role: recordv1.Role_ROLE_ENDORSER, Key: statetest.Key("node-9")}
	for name, c := range map[string]struct {
		records, raw [][]byte
		want         reason.Reason
	}{
		"measurement":  {batch.Records(), batch.Raw, ""},
		"duplicate":    {gap.Records(), gap.Raw, reason.Duplicate},
		"conflict":     {conflict.Records(), conflict.Raw, reason.Equivocation},
		"event":        {[][]byte{equivocation(n, m, nil)}, nil, ""},
		"status":       {[][]byte{status(n, m, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0)}, nil, ""},
		"algorithm":    {[][]byte{algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW, 0)}, nil, ""},
		"renewal":      {[][]byte{n.SignApproval(renewed(n), statetest.Body(), statetest.Maker())}, nil, ""},
		"config":       {[][]byte{signConfig(n, nextConfig(n))}, nil, ""},
		"registration": {[][]byte{n.Sign(n.MeterRegistration("meter-2", statetest.Key("m2")), statetest.Body())}, nil, ""},
		"node":         {[][]byte{n.Sign(n.Registration(node, 1, [32]byte{}), statetest.Root("org-01"), node.Key)}, nil, ""},
		"expiry":       {[][]byte{n.Expiry(1, "org-00", "org-01", "org-02")}, nil, ""},
		"revocation":   {[][]byte{n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/gateway-00"), NodeId: "gateway-00"}, statetest.Root("org-00"))}, nil, ""},
		"rollover": {[][]byte{n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/" + m.ID), MeterId: m.ID,
			Key: statetest.Tagged(2, statetest.Key("new")), FirstCounter: 9, TlsSpki: make([]byte, 32)}, statetest.Body(), m.Key)}, nil, ""},
	} {
		submission := statetest.Parse(c.records, c.raw)
		failEachRead(t, n, name+", checks", func(state.Options) error {
			_, err := state.Checks(n.Store, submission)
			return err
		})
		failEachRead(t, n, name, func(options state.Options) error {
			head := n.Store.Head()
			b, err := state.Begin(n.Store, head, options, head.CertifiedHeight, nil)
			if err != nil {
				return err
			}
			outcomes, err := b.Submit(submission)
			if err == nil {
				wantReason(t, outcomes[len(outcomes)-1], c.want)
			}
			return err
		})
	}
}

// failEachRead runs f with its first, second, ... read of the view failing, and
// wants that error back each time, until f reads no more and succeeds.
func failEachRead(t *testing.T, n *statetest.Network, name string, f func(state.Options) error) {
	t.Helper()
	defer func() { n.Store.Fail = nil }()
	for fail := 1; ; fail++ {
		reads := 0
		n.Store.Fail = func(string) error {
			if reads++; reads == fail {
				return errDisk
			}
			return nil
		}
		err := f(state.Options{Verifier: yes{}})
		if reads < fail {
			if err != nil {
				t.Errorf("%s: without a failure: %v", name, err)
			}
			if fail <= 2 {
				t.Errorf("%s: only %d reads", name, reads)
			}
			return
		}
		if !errors.Is(err, errDisk) {
			t.Errorf("%s: read %d failed and the error is %v", name, fail, err)
		}
	}
}

type diskError struct{}

func (diskError) Error() string { return "disk error" }

var errDisk = diskError{}

// atNano changes the capture time.
func atNano(unixNano int64) func(*sample.Header) {
	return func(h *sample.Header) { h.CapturedAtUnixNano = unixNano }
}

func status(n *statetest.Network, m *statetest.Meter, action recordv1.MeterAction, at int64) []byte {
	return n.Sign(&recordv1.MeterStatus{
		Header: n.Header("meter/" + m.ID), MeterId: m.ID, Action: action, EffectiveAtUnixNano: at,
	}, statetest.Body())
}

func algorithmStatus(n *statetest.Network, action recordv1.AlgorithmAction, at int64) []byte {
	return n.Sign(&recordv1.AlgorithmStatus{
		Header: n.Header("algorithm/" + n.Algorithm.String()), Algorithm: n.Algorithm.Bytes(), Action: action, EffectiveAtUnixNano: at,
	}, statetest.Body())
}

func supersede(n *statetest.Network, successor digest.Digest, at int64) []byte {
	return n.Sign(&recordv1.AlgorithmStatus{
		Header: n.Header("algorithm/" + n.Algorithm.String()), Algorithm: n.Algorithm.Bytes(),
		Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_SUPERSEDE, EffectiveAtUnixNano: at, Successor: successor.Bytes(),
	}, statetest.Body())
}

package state_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func encodeSample(n *statetest.Network, c *statetest.Capture) []byte {
	b, err := wire.Encode(&recordv1.SignedSample{Header: c.Sample.Bytes, Signature: c.Signature})
	if err != nil {
		n.TB.Fatal(err)
	}
	return b
}

func flags(v uint32) func(*sample.Header) { return func(h *sample.Header) { h.StatusFlags = v } }

func TestS3_EquivocationIsProvenByTwoSignedSamples(t *testing.T) {
	n, m := ready(t)
	other := n.Register("meter-2")
	a, b := m.Peek(), m.Peek(flags(1))
	first := m.Capture()
	second := m.Capture()
	contradicting := m.Peek(func(h *sample.Header) { h.Counter, h.Previous = 2, stranger })
	forged := m.Peek()
	forged.Signature[0] ^= 1
	foreign := other.Peek()
	abroad := m.Peek(func(h *sample.Header) { h.NetworkID = stranger })
	abroad2 := m.Peek(func(h *sample.Header) { h.NetworkID, h.StatusFlags = stranger, 1 })
	for _, c := range []struct {
		name     string
		counter  uint64
		change   func(*recordv1.EventReport)
		evidence []*statetest.Capture
		want     reason.Reason
	}{
		{"one counter, two samples", 1, nil, []*statetest.Capture{a, b}, ""},
		{"in the other order", 1, nil, []*statetest.Capture{b, a}, ""},
		{"a successor that names another", 1, nil, []*statetest.Capture{first, contradicting}, ""},
		{"successor first", 1, nil, []*statetest.Capture{contradicting, first}, ""},
		{"a chain in order", 1, nil, []*statetest.Capture{first, second}, reason.BadEvidence},
		{"the same twice", 1, nil, []*statetest.Capture{a, a}, reason.BadEvidence},
		{"one only", 1, nil, []*statetest.Capture{a}, reason.BadEvidence},
		{"three", 1, nil, []*statetest.Capture{a, b, first}, reason.BadEvidence},
		{"another counter", 2, nil, []*statetest.Capture{a, b}, reason.BadEvidence},
		{"another meter", 1, func(r *recordv1.EventReport) { r.Subject = "meter/meter-2" }, []*statetest.Capture{a, b}, reason.BadEvidence},
		{"two meters", 1, nil, []*statetest.Capture{a, foreign}, reason.BadEvidence},
		{"forged", 3, nil, []*statetest.Capture{forged, m.Peek(flags(7))}, reason.BadEvidence},
		{"another network's samples", 3, nil, []*statetest.Capture{abroad, abroad2}, reason.BadEvidence},
		{"not samples", 1, func(r *recordv1.EventReport) { r.Evidence = [][]byte{{1}, {2}} }, nil, reason.BadEvidence},
		{"another network", 3, func(r *recordv1.EventReport) { r.NetworkId = stranger.Bytes() }, []*statetest.Capture{abroad, abroad2}, reason.WrongNetwork},
		{"unknown reporter", 1, func(r *recordv1.EventReport) { r.Reporter = "nobody" }, []*statetest.Capture{a, b}, reason.NotAuthorised},
		{"another reporter's key", 1, func(r *recordv1.EventReport) { r.Reporter = "endorser-01" }, []*statetest.Capture{a, b}, reason.BadSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			refuseStatement(t, n.Clone(t), report(n, m, c.counter, c.change, c.evidence...), c.want)
		})
	}
}

func TestS3_OneEventPerCounter(t *testing.T) {
	n, m := ready(t)
	index := n.Accept(equivocation(n, m, nil))
	// Another report of another pair, by words and order, is about the same counter.
	again := report(n, m, m.Counter, func(r *recordv1.EventReport) { r.Detail = "again" }, m.Peek(flags(3)), m.Peek(flags(2)))
	o := try(t, n, [][]byte{again}, nil)[0]
	wantReason(t, o, reason.AlreadyReported)
	if o.Index != index {
		t.Errorf("the earlier event is leaf %d, answered %d", index, o.Index)
	}
	m.Capture()
	wantReason(t, try(t, n, [][]byte{equivocation(n, m, nil)}, nil)[0], "")
}

// Whether the samples are on the ledger or not, they prove the same.
func TestS3_EvidenceOfAnUnregisteredMeterIsRefused(t *testing.T) {
	n, m := ready(t)
	m.ID = "meter-9"
	refuseStatement(t, n, equivocation(n, m, nil), reason.UnknownMeter)
}

func TestOtherEventsAreRecordedOnce(t *testing.T) {
	n, _ := ready(t)
	r := &recordv1.EventReport{
		NetworkId: n.ID.Bytes(), Reporter: "endorser-00", Kind: recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION,
		Subject: "algorithm/" + stranger.String(), Evidence: [][]byte{stranger.Bytes()}, Detail: "no approval names it",
	}
	leaf := signReport(n, r, statetest.Key("node/endorser-00"))
	index := n.Accept(leaf)
	o := try(t, n, [][]byte{leaf}, nil)[0]
	wantReason(t, o, reason.AlreadyReported)
	if o.Index != index {
		t.Errorf("earlier leaf is %d, answered %d", index, o.Index)
	}
	r.Detail = "and again"
	wantReason(t, try(t, n, [][]byte{signReport(n, r, statetest.Key("node/endorser-00"))}, nil)[0], "")
	for name, change := range map[string]func(*recordv1.EventReport){
		"no kind":       func(r *recordv1.EventReport) { r.Kind = 0 },
		"no reporter":   func(r *recordv1.EventReport) { r.Reporter = "" },
		"short network": func(r *recordv1.EventReport) { r.NetworkId = []byte{1} },
	} {
		m := &recordv1.EventReport{NetworkId: r.NetworkId, Reporter: r.Reporter, Kind: r.Kind, Subject: r.Subject}
		change(m)
		o := try(t, n, [][]byte{signReport(n, m, statetest.Key("node/endorser-00"))}, nil)[0]
		if o.Reason != reason.Malformed {
			t.Errorf("%s: %s", name, o.Reason)
		}
	}
	for name, change := range map[string]func(*recordv1.EventReport){
		"long detail":       func(r *recordv1.EventReport) { r.Detail = string(make([]byte, 1025)) },
		"long subject":      func(r *recordv1.EventReport) { r.Subject = string(make([]byte, 129)) },
		"too much evidence": func(r *recordv1.EventReport) { r.Evidence = make([][]byte, 9) },
	} {
		m := &recordv1.EventReport{NetworkId: r.NetworkId, Reporter: r.Reporter, Kind: r.Kind, Subject: r.Subject}
		change(m)
		o := try(t, n, [][]byte{signReport(n, m, statetest.Key("node/endorser-00"))}, nil)[0]
		if o.Reason != reason.TooLarge {
			t.Errorf("%s: %s", name, o.Reason)
		}
	}
}

func TestS2_RevokedReporterIsRefused(t *testing.T) {
	n, m := ready(t)
	leaf := equivocation(n, m, nil)
	n.Accept(n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/endorser-00"), NodeId: "endorser-00"}, statetest.Root("org-00")))
	refuseStatement(t, n, leaf, reason.NotAuthorised)
}

package state_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// B1: sets and measurements whose fields have the wrong size or order.
func TestB1_MalformedSetsAndMeasurements(t *testing.T) {
	n, m := ready(t)
	capture := m.Capture()
	for name, c := range map[string]struct {
		change func(b *statetest.Batch)
		at     int
	}{
		"set: short network":       {func(b *statetest.Batch) { b.Set.NetworkId = b.Set.NetworkId[1:] }, 0},
		"set: short module":        {func(b *statetest.Batch) { b.Set.Algorithm = b.Set.Algorithm[1:] }, 0},
		"set: no claims":           {func(b *statetest.Batch) { b.Set.Claims = nil }, 0},
		"set: short claim":         {func(b *statetest.Batch) { b.Set.Claims[0] = b.Set.Claims[0][1:] }, 0},
		"set: too many claims":     {func(b *statetest.Batch) { b.Set.Claims = manyClaims(1025) }, 0},
		"set: no endorsement":      {func(b *statetest.Batch) { b.Set.Endorsements = nil }, 0},
		"set: too many":            {func(b *statetest.Batch) { b.Set.Endorsements = make65(b.Set.Endorsements[0]) }, 0},
		"set: endorser twice":      {func(b *statetest.Batch) { b.Set.Endorsements[1].NodeId = b.Set.Endorsements[0].NodeId }, 0},
		"set: endorsers descend":   {func(b *statetest.Batch) { b.Set.Endorsements[0].NodeId = "z" }, 0},
		"set: bad endorser":        {func(b *statetest.Batch) { b.Set.Endorsements[0].NodeId = "A" }, 0},
		"set: short signature":     {func(b *statetest.Batch) { b.Set.Endorsements[0].Signature = []byte{1} }, 0},
		"measurement: short sig":   {func(b *statetest.Batch) { b.Measurements[0].Signature = b.Measurements[0].Signature[1:] }, 1},
		"measurement: no set":      {func(b *statetest.Batch) { b.Measurements[0].EndorsementSet = []byte{1} }, 1},
		"measurement: no approval": {func(b *statetest.Batch) { b.Measurements[0].Approval = nil }, 1},
		"measurement: no config":   {func(b *statetest.Batch) { b.Measurements[0].Config = nil }, 1},
		"measurement: no claim":    {func(b *statetest.Batch) { b.Measurements[0].Claim = nil }, 1},
		"measurement: no header":   {func(b *statetest.Batch) { b.Measurements[0].Header = nil }, 1},
		"measurement: undisposed":  {func(b *statetest.Batch) { b.Measurements[0].Disposition = 0 }, 1},
	} {
		b := n.Batch(capture).Endorse()
		c.change(b)
		outcomes := try(t, n, b.Records(), b.Raw)
		if outcomes[c.at].Reason != reason.Malformed {
			t.Errorf("%s: %q (%s)", name, outcomes[c.at].Reason, outcomes[c.at].Detail)
		}
		for i, o := range outcomes {
			if o.Accepted {
				t.Errorf("%s: record %d is accepted", name, i)
			}
		}
	}
	wantReason(t, try(t, n, n.Batch(capture).Records(), n.Batch(capture).Raw)[1], "")
}

func manyClaims(count int) [][]byte {
	claims := make([][]byte, count)
	for i := range claims {
		claims[i] = make([]byte, 32)
	}
	return claims
}

func make65(e *recordv1.Endorsement) []*recordv1.Endorsement {
	var all []*recordv1.Endorsement
	for i := range 65 {
		all = append(all, &recordv1.Endorsement{NodeId: "n" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Signature: e.Signature})
	}
	return all
}

func TestB1_MalformedStatements(t *testing.T) {
	n, m := ready(t)
	short := n.Header("meter/" + m.ID)
	short.NetworkId = short.NetworkId[1:]
	predecessor := n.Header("meter/" + m.ID)
	predecessor.Predecessor = predecessor.Predecessor[1:]
	payload := wire.MustEncode(&recordv1.MeterStatus{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Action: 3})
	e, err := record.SignStatement(record.TypeMeterStatus, append(payload, 0x20, 0x00), statetest.Body())
	if err != nil {
		t.Fatal(err)
	}
	padded, err := record.FromEnvelope(e)
	if err != nil {
		t.Fatal(err)
	}
	refuseStatement(t, n, padded, reason.NotCanonical)
	header := func() *recordv1.StatementHeader { return n.Header("meter/" + m.ID) }
	key := statetest.Tagged(2, statetest.Key("next"))
	for name, c := range map[string]struct {
		leaf []byte
		want reason.Reason
	}{
		"rollover: bad id":             {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: "A", Key: key, FirstCounter: 2}, statetest.Body(), m.Key), reason.UnknownMeter},
		"rollover: other subject":      {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: "meter-2", Key: key, FirstCounter: 2}, statetest.Body(), m.Key), reason.UnknownMeter},
		"rollover: short TLS key":      {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: m.ID, Key: key, FirstCounter: 2, TlsSpki: []byte{1}}, statetest.Body(), m.Key), reason.Malformed},
		"rollover: no counter":         {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: m.ID, Key: key}, statetest.Body(), m.Key), reason.InvalidStatement},
		"rollover: not from the first": {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: m.ID, Key: key, FirstCounter: 1}, statetest.Body(), m.Key), reason.InvalidStatement},
		"rollover: a node's TLS key": {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: m.ID, Key: key, FirstCounter: 2,
			TlsSpki: statetest.SPKI("replica-00").Bytes()}, statetest.Body(), m.Key), reason.KeyInUse},
		"rollover: good":               {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: m.ID, Key: key, FirstCounter: 2}, statetest.Body(), m.Key), ""},
		"rollover: by the new key":     {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: m.ID, Key: key, FirstCounter: 2}, statetest.Body(), statetest.Key("next")), reason.NotAuthorised},
		"rollover: unknown meter":      {n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/none"), MeterId: "none", Key: key, FirstCounter: 2}, statetest.Body(), m.Key), reason.UnknownMeter},
		"header: short network":        {n.Sign(&recordv1.MeterStatus{Header: short, MeterId: m.ID, Action: 3}, statetest.Body()), reason.Malformed},
		"header: short predecessor":    {n.Sign(&recordv1.MeterStatus{Header: predecessor, MeterId: m.ID, Action: 3}, statetest.Body()), reason.Malformed},
		"header: none":                 {n.Sign(&recordv1.MeterStatus{MeterId: m.ID, Action: 3}, statetest.Body()), reason.Malformed},
		"revocation: bad id":           {n.Sign(&recordv1.NodeRevocation{Header: header(), NodeId: "A"}, statetest.Root("org-00")), reason.InvalidStatement},
		"revocation: other subject":    {n.Sign(&recordv1.NodeRevocation{Header: header(), NodeId: "replica-00"}, statetest.Root("org-00")), reason.Malformed},
		"status: bad id":               {n.Sign(&recordv1.MeterStatus{Header: header(), MeterId: "A", Action: 3}, statetest.Body()), reason.Malformed},
		"status: other subject":        {n.Sign(&recordv1.MeterStatus{Header: header(), MeterId: "meter-2", Action: 3}, statetest.Body()), reason.Malformed},
		"status: verification unasked": {n.Sign(&recordv1.MeterStatus{Header: header(), MeterId: m.ID, Action: 3, Verification: &recordv1.Verification{}}, statetest.Body()), reason.InvalidStatement},
		"algorithm: short digest":      {n.Sign(&recordv1.AlgorithmStatus{Header: header(), Algorithm: []byte{1}, Action: 3}, statetest.Body()), reason.Malformed},
		"algorithm: other subject":     {n.Sign(&recordv1.AlgorithmStatus{Header: header(), Algorithm: n.Algorithm.Bytes(), Action: 3}, statetest.Body()), reason.Malformed},
		"no signature of the body":     {n.Sign(&recordv1.MeterKeyRollover{Header: header(), MeterId: m.ID, Key: key, FirstCounter: 2}, m.Key), reason.NotAuthorised},
	} {
		if o := try(t, n, [][]byte{c.leaf}, nil)[0]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", name, o.Reason, o.Detail, c.want)
		}
	}
}

// A set of 1,024 claims of which one measurement is in hand fits a record.
func TestLargestSetFits(t *testing.T) {
	n, m := ready(t)
	n.Verifier = yes{} // the endorsers signed another batch
	b := n.Batch(m.Capture()).Endorse()
	b.Set.Claims = append(b.Set.Claims, manyClaims(1023)...)
	for _, o := range try(t, n, b.Records(), b.Raw) {
		wantReason(t, o, "")
	}
}

func TestEmptySubmission(t *testing.T) {
	n, _ := ready(t)
	b := n.Begin()
	s := state.ParseSubmission(nil, nil)
	outcomes, err := b.Submit(s)
	if err != nil || len(outcomes) != 0 || s.Len() != 0 || s.IsNetworkConfig() || b.Height() != n.Store.Head().Height+1 {
		t.Errorf("%d outcomes (%v)", len(outcomes), err)
	}
}

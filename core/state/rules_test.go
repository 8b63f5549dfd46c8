package state_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// S1: two endorsers of one organisation count as one.
func TestS1_OrganisationsAreCountedNotEndorsers(t *testing.T) {
	n, m := ready(t)
	twin := statetest.Node{ID: "endorser-00b", Organisation: "org-00", Role: recordv1.Role_ROLE_ENDORSER, Key: statetest.Key("twin")}
	n.Accept(n.Sign(n.Registration(twin, 1, digest.Zero), statetest.Root("org-00"), twin.Key))
	c := m.Capture()
	b := n.Batch(c)
	b.Endorsers = []statetest.Node{n.Endorsers[0], twin}
	wantReason(t, try(t, n, b.Records(), b.Raw)[0], reason.PolicyNotMet)
	b = n.Batch(c)
	b.Endorsers = []statetest.Node{n.Endorsers[0], twin, n.Endorsers[1]}
	wantReason(t, try(t, n, b.Records(), b.Raw)[1], "")
}

// S1: an organisation that left the network endorses no more.
func TestS1_EndorserOfALeftOrganisation(t *testing.T) {
	n, m := ready(t)
	c := nextConfig(n)
	c.Organisations = c.Organisations[:3]
	c.Replicas = c.Replicas[:3]
	n.Accept(signConfig(n, c))
	n.Apply(n.Begin())
	b := n.Batch(m.Capture())
	b.Endorsers = []statetest.Node{n.Endorsers[0], n.Endorsers[3]}
	wantReason(t, try(t, n, b.Records(), b.Raw)[1], reason.BadEndorsement)
}

// S1: the approval in force is the newest; a measurement under the older one is
// answered with its code.
func TestS1_ApprovalIsRenewed(t *testing.T) {
	n, m := ready(t)
	stale := n.Approval.Bytes()
	b := n.Batch(m.Capture())
	n.Policy = policy.OutOf(3, policy.Organisation("org-00"), policy.Organisation("org-01"), policy.Organisation("org-02"))
	n.Approve()
	wantReason(t, try(t, n, b.Records(), b.Raw)[1], reason.PolicyNotMet)
	again := *b
	again.Measurements[0].Approval, again.Measurements[0].EndorsementSet = stale, nil
	again.Set.Endorsements, again.Set.Claims, again.Endorsers = nil, nil, n.Endorsers[:3]
	again.Endorse()
	wantReason(t, try(t, n, again.Records(), again.Raw)[1], reason.StaleApproval)
	again.Measurements[0].Approval = n.Approval.Bytes()
	wantReason(t, try(t, n, again.Records(), again.Raw)[1], "")
}

// S2: expiry, ordinary suspension and decommissioning are judged at capture.
func TestS2_JudgedAtCapture(t *testing.T) {
	base, meter := ready(t)
	base.NowUnix += 100
	base.Apply(base.Begin()) // now: genesis + 100
	at := func(s int64) int64 { return (statetest.GenesisUnix + s) * second }
	suspended := func(from, until int64) func(n *statetest.Network) {
		return func(n *statetest.Network) {
			n.Accept(status(n, meter, recordv1.MeterAction_METER_ACTION_SUSPEND, at(from)))
			if until != 0 {
				n.Accept(status(n, meter, recordv1.MeterAction_METER_ACTION_RESUME, at(until)))
			}
		}
	}
	algorithm := func(from, until int64) func(n *statetest.Network) {
		return func(n *statetest.Network) {
			n.Accept(algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, at(from)))
			if until != 0 {
				n.Accept(algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_RESUME, at(until)))
			}
		}
	}
	superseded := func(n *statetest.Network) { n.Accept(supersede(n, n.ApproveAnother("successor"), at(50))) }
	for _, c := range []struct {
		name    string
		prepare func(n *statetest.Network)
		capture int64
		want    reason.Reason
	}{
		{"before the suspension", suspended(50, 0), 49, ""},
		{"as it begins", suspended(50, 0), 50, reason.MeterNotInService},
		{"just before it ends", suspended(50, 70), 69, reason.MeterNotInService},
		{"as it ends", suspended(50, 70), 70, ""},
		{"suspension to come", suspended(200, 0), 99, ""},
		{"empty suspension", suspended(50, 50), 50, ""},
		{"algorithm: before", algorithm(50, 0), 49, ""},
		{"algorithm: suspended", algorithm(50, 0), 50, reason.AlgorithmNotInForce},
		{"algorithm: resumed", algorithm(50, 70), 70, ""},
		{"algorithm: before its successor", superseded, 49, ""},
		{"algorithm: superseded", superseded, 50, reason.AlgorithmNotInForce},
		{"before decommissioning", func(n *statetest.Network) {
			n.Accept(status(n, meter, recordv1.MeterAction_METER_ACTION_DECOMMISSION, at(50)))
		}, 49, ""},
		{"decommissioned", func(n *statetest.Network) {
			n.Accept(status(n, meter, recordv1.MeterAction_METER_ACTION_DECOMMISSION, at(50)))
		}, 50, reason.MeterNotInService},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, m := base.Clone(t), *meter
			m.Network = n
			c.prepare(n)
			refuseCapture(t, n, m.Capture(atNano(at(c.capture)), knowsGenesis(n)), c.want)
		})
	}
}

// S2: an approval covers its first second and not its last.
func TestS2_ValidityIsExact(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	from, until := int64(statetest.GenesisUnix+2), int64(statetest.GenesisUnix+5)
	terms := n.Terms()
	terms.NotBeforeUnix, terms.NotAfterUnix = from, until
	n.Accept(n.SignApproval(terms, statetest.Body(), statetest.Maker()))
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	n.Approval = digest.Digest(value.GetApproval())
	m := n.Register("meter-1")
	for captured, want := range map[int64]reason.Reason{
		from*second - 1: reason.AlgorithmNotInForce, from * second: "",
		until*second - 1: "", until * second: reason.AlgorithmNotInForce,
	} {
		refuseCapture(t, n, m.Peek(atNano(captured)), want)
	}
}

// S2: broken seal, compromised key, withdrawal and revocation are judged at
// block time: also what was captured before is refused.
func TestS2_JudgedAtBlockTime(t *testing.T) {
	base, meter := ready(t)
	capture := meter.Capture()
	batch := base.Batch(capture)
	records := batch.Records()
	base.NowUnix += 100
	for name, c := range map[string]struct {
		leaf func(n *statetest.Network) []byte
		want reason.Reason
	}{
		"seal": {func(n *statetest.Network) []byte {
			return status(n, meter, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0)
		}, reason.MeterNotInService},
		"key": {func(n *statetest.Network) []byte {
			return status(n, meter, recordv1.MeterAction_METER_ACTION_KEY_COMPROMISED, 0)
		}, reason.MeterNotInService},
		"withdrawal": {func(n *statetest.Network) []byte {
			return algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW, 0)
		}, reason.AlgorithmNotInForce},
		"revocation": {func(n *statetest.Network) []byte {
			return n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/endorser-00"), NodeId: "endorser-00"}, statetest.Root("org-00"))
		}, reason.BadEndorsement},
	} {
		t.Run(name, func(t *testing.T) {
			n := base.Clone(t)
			wantReason(t, try(t, n, records, batch.Raw)[1], "")
			// In one block: what comes first decides.
			b := n.Begin()
			o, err := b.Submit(statetest.Parse([][]byte{c.leaf(n)}, nil))
			if err != nil || !o[0].Accepted {
				t.Fatal(o, err)
			}
			if o, err = b.Submit(statetest.Parse(records, batch.Raw)); err != nil {
				t.Fatal(err)
			}
			wantReason(t, o[1], c.want)
		})
	}
}

func knowsGenesis(n *statetest.Network) func(*sample.Header) {
	return func(h *sample.Header) { h.KnownHeight, h.KnownBlock = 0, n.Store.Blocks[0].Header }
}

// S2: the bounds are exact.
func TestS2_BoundsAreExact(t *testing.T) {
	n, m := ready(t)
	n.NowUnix += 200_000
	n.Apply(n.Begin())
	now, limits := n.NowUnix*second, n.Config.Limits
	for _, c := range []struct {
		name     string
		captured int64
		late     bool
		want     reason.Reason
	}{
		{"at the future bound", now + limits.FutureBoundNano, false, ""},
		{"one beyond it", now + limits.FutureBoundNano + 1, false, reason.FutureDated},
		{"at the lateness bound", now - limits.LatenessBoundNano, false, ""},
		{"at it, marked late", now - limits.LatenessBoundNano, true, reason.WrongDisposition},
		{"one beyond it", now - limits.LatenessBoundNano - 1, false, reason.WrongDisposition},
		{"one beyond it, marked late", now - limits.LatenessBoundNano - 1, true, ""},
		{"at the known block", statetest.GenesisUnix * second, true, ""},
		{"before it", statetest.GenesisUnix*second - 1, true, reason.BackDated},
	} {
		b := n.Batch(m.Peek(atNano(c.captured), knowsGenesis(n)))
		if c.late {
			b.Measurements[0].Disposition = recordv1.Disposition_DISPOSITION_LATE
		}
		if o := try(t, n, b.Records(), b.Raw)[1]; o.Reason != c.want {
			t.Errorf("%s: %q (%s), want %q", c.name, o.Reason, o.Detail, c.want)
		}
	}
}

// S2: a clock that is not synchronised is recorded; the verifier judges it.
func TestS2_UnsynchronisedClockIsRecorded(t *testing.T) {
	n, m := ready(t)
	refuseCapture(t, n, m.Capture(func(h *sample.Header) { h.ClockSync = recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED }), "")
}

// S3: a rollover names the first counter of the new key; older counters verify
// under the old key only.
func TestS3_RolloverDividesCounters(t *testing.T) {
	n, m := ready(t)
	n.AcceptCaptures(m.Capture())
	late, old, next := m.Capture(), m.Key, statetest.P256Key("next")
	roll := func(first uint64, key []byte) []byte {
		return n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Key: key, FirstCounter: first}, statetest.Body(), old)
	}
	key := statetest.Tagged(3, next)
	refuseStatement(t, n, roll(1, key), reason.InvalidStatement) // the old key's first
	ahead := n.Clone(t)
	ahead.AcceptCaptures(late)
	refuseStatement(t, ahead, roll(2, key), reason.InvalidStatement) // signed already
	refuseStatement(t, ahead, roll(3, key), "")
	refuseStatement(t, n, roll(3, statetest.Tagged(2, old)), reason.KeyInUse)
	alone := n.Sign(&recordv1.MeterKeyRollover{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Key: key, FirstCounter: 3}, statetest.Body())
	refuseStatement(t, n, alone, reason.NotAuthorised)
	n.Accept(roll(3, key))

	m.Key = next
	third := m.Capture()
	wrong := m.Peek() // counter 4, under the new key
	m.Key = old
	refuseCapture(t, n, m.Peek(), reason.BadSignature) // counter 4 under the old key
	m.Counter, m.Previous = 3, late.Sample.Digest
	refuseCapture(t, n, m.Peek(), reason.BadSignature)
	n.AcceptCaptures(third, wrong)
	m.Key = next
	m.Counter, m.Previous = 2, late.Sample.Previous
	refuseCapture(t, n, m.Peek(), reason.BadSignature) // counter 2 under the new key
	n.AcceptCaptures(late)
}

// S4: of all statements only the next on its subject is accepted: an old
// 'resume' cannot be replayed.
func TestS4_OldStatementCannotBeReplayed(t *testing.T) {
	n, m := ready(t)
	at := n.NowUnix * second
	suspend := status(n, m, recordv1.MeterAction_METER_ACTION_SUSPEND, at)
	first := n.Accept(suspend)
	resume := status(n, m, recordv1.MeterAction_METER_ACTION_RESUME, at+1)
	n.Accept(resume)
	if o := try(t, n, [][]byte{resume}, nil)[0]; o.Reason != reason.Duplicate || o.Index != first+2 {
		t.Errorf("the newest again: %+v", o)
	}
	n.Accept(status(n, m, recordv1.MeterAction_METER_ACTION_SUSPEND, at+2))
	refuseStatement(t, n, resume, reason.OutOfSequence)
	refuseStatement(t, n, suspend, reason.OutOfSequence)
}

// S4: identity is of what was signed; another signature makes no other statement.
func TestS4_AnotherSignatureIsTheSameStatement(t *testing.T) {
	n, m := ready(t)
	s := &recordv1.MeterStatus{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}
	index := n.Accept(n.Sign(s, statetest.Body()))
	o := try(t, n, [][]byte{n.Sign(s, statetest.Key("anyone"))}, nil)[0]
	if o.Reason != reason.Duplicate || o.Index != index {
		t.Errorf("outcome %+v, want a duplicate of %d", o, index)
	}
}

// S5: a set is accepted once, and not without a measurement.
func TestS5_SetIsAcceptedOnce(t *testing.T) {
	n, m := ready(t)
	b := n.Batch(m.Capture(), m.Capture())
	records := b.Records()
	outcomes := n.Submit(records[:2], b.Raw[:1]) // the first measurement only
	wantReason(t, outcomes[1], "")
	again := try(t, n, records, b.Raw)
	if again[0].Reason != reason.Duplicate || again[0].Index != outcomes[0].Index {
		t.Errorf("set: %+v", again[0])
	}
	if again[1].Reason != reason.Duplicate || again[1].Index != outcomes[1].Index {
		t.Errorf("first measurement: %+v", again[1])
	}
	wantReason(t, again[2], reason.BadEndorsement)

	forged := m.Capture()
	forged.Signature[0] ^= 1
	b = n.Batch(forged)
	outcomes = try(t, n, b.Records(), b.Raw)
	wantReason(t, outcomes[0], reason.WrongPlace)
	wantReason(t, outcomes[1], reason.BadSignature)
}

// S5: of a batch the good measurements are taken, consecutively, without the bad.
func TestS5_BadMeasurementsAreLeftOut(t *testing.T) {
	n, m := ready(t)
	other := n.Register("meter-2")
	a, bad, c := m.Capture(), other.Capture(), m.Capture()
	bad.Signature[1] ^= 1
	b := n.Batch(a, bad, c)
	size := n.Store.Head().Size
	outcomes := n.Submit(b.Records(), b.Raw)
	wantReason(t, outcomes[2], reason.BadSignature)
	for i, want := range map[int]uint64{0: size, 1: size + 1, 3: size + 2} {
		if !outcomes[i].Accepted || outcomes[i].Index != want {
			t.Errorf("record %d: %+v, want leaf %d", i, outcomes[i], want)
		}
	}
	if chain, _ := state.GetMeterChain(n.Store, "meter-2"); chain != nil {
		t.Errorf("the refused measurement left %v", chain)
	}
}

// S6: the running digest covers every statement and nothing else.
func TestS6_RunningDigestOfStatements(t *testing.T) {
	n, m := ready(t)
	n.AcceptCaptures(m.Capture())
	n.Accept(equivocation(n, m, nil))
	n.Accept(status(n, m, recordv1.MeterAction_METER_ACTION_SUSPEND, n.NowUnix*second))
	var running digest.Digest
	statements := 0
	for height := range n.Store.Blocks {
		for _, leaf := range n.Store.BlockLeaves(uint64(height)) {
			r, err := record.Parse(leaf)
			if err != nil {
				t.Fatal(err)
			}
			if r.GetStatement() != nil {
				running = state.ChainAdmin(running, leaf)
				statements++
			}
		}
		if running != n.Store.Blocks[height].Admin {
			t.Fatalf("block %d has %s, want %s", height, n.Store.Blocks[height].Admin.Short(), running.Short())
		}
	}
	if statements != 1+9+2+1 {
		t.Errorf("%d statements", statements)
	}
}

// B1: state takes only canonical records, sets, headers, claims and reports.
func TestB1_PaddedRecordsAreRefused(t *testing.T) {
	n, m := ready(t)
	b := n.Batch(m.Capture())
	records := b.Records()
	for i := range records {
		padded := append([][]byte(nil), records...)
		padded[i] = append(append([]byte(nil), records[i]...), 0x08, 0x00)
		o := try(t, n, padded, b.Raw)[i]
		if o.Reason != reason.NotCanonical {
			t.Errorf("record %d: %s", i, o.Reason)
		}
	}
	b.Measurements[0].Header = append(b.Measurements[0].Header, 0x78, 0x00)
	wantReason(t, try(t, n, b.Records(), b.Raw)[1], reason.NotCanonical)
}

package state_test

import (
	"bytes"
	"crypto/ed25519"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// refusal provokes one reason: it prepares the network and returns a submission
// and which of its records is refused for that reason.
type refusal struct {
	name    string
	want    reason.Reason
	provoke func(n *statetest.Network, m *statetest.Meter) (records, raw [][]byte, at int)
}

// statements makes a refusal of one statement or event.
func statements(name string, want reason.Reason, leaf func(n *statetest.Network, m *statetest.Meter) []byte) refusal {
	return refusal{name, want, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		return [][]byte{leaf(n, m)}, nil, 0
	}}
}

// captures makes a refusal of one measurement.
func captures(name string, want reason.Reason, take func(n *statetest.Network, m *statetest.Meter) *statetest.Capture) refusal {
	return batches(name, want, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		return n.Batch(take(n, m))
	})
}

// headers makes a refusal of a header that was changed before it was signed.
func headers(name string, want reason.Reason, change func(h *sample.Header)) refusal {
	return captures(name, want, func(_ *statetest.Network, m *statetest.Meter) *statetest.Capture { return m.Capture(change) })
}

// batches makes a refusal of the first measurement of a batch.
func batches(name string, want reason.Reason, build func(n *statetest.Network, m *statetest.Meter) *statetest.Batch) refusal {
	return refusal{name, want, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		b := build(n, m)
		return b.Records(), b.Raw, 1
	}}
}

// claims makes a refusal of a claim that was changed before it was endorsed.
func claims(name string, want reason.Reason, change func(b *statetest.Batch)) refusal {
	return batches(name, want, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		b := n.Batch(m.Capture())
		change(b)
		return b
	})
}

var stranger = digest.Plain([]byte("another network"))

var refusals = []refusal{
	statements("evidence erased twice", reason.EvidenceErased, erased),
	statements("raw vectors that are kept for ever", reason.RetentionNotOver, func(n *statetest.Network, _ *statetest.Meter) []byte {
		return n.Expiry(1, "org-00", "org-01", "org-02")
	}),
	statements("not protobuf", reason.NotCanonical, func(*statetest.Network, *statetest.Meter) []byte { return []byte("no record") }),
	statements("trailing default field", reason.NotCanonical, func(n *statetest.Network, m *statetest.Meter) []byte {
		return append(status(n, m, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0), 0)
	}),
	statements("empty record", reason.Malformed, func(*statetest.Network, *statetest.Meter) []byte { return nil }),
	statements("unknown statement type", reason.Malformed, func(n *statetest.Network, m *statetest.Meter) []byte {
		e, _ := record.SignStatement("application/unknown", []byte("x"), statetest.Body())
		leaf, _ := record.FromEnvelope(e)
		return leaf
	}),
	statements("above the size of a record", reason.TooLarge, func(*statetest.Network, *statetest.Meter) []byte { return make([]byte, record.MaxBytes+1) }),
	statements("long reason", reason.TooLarge, func(n *statetest.Network, m *statetest.Meter) []byte {
		return n.Sign(&recordv1.MeterStatus{Header: n.Header("meter/" + m.ID), MeterId: m.ID,
			Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, Reason: string(bytes.Repeat([]byte{'x'}, state.MaxReason+1))}, statetest.Body())
	}),
	statements("statement of another network", reason.WrongNetwork, func(n *statetest.Network, m *statetest.Meter) []byte {
		h := n.Header("meter/" + m.ID)
		h.NetworkId = stranger.Bytes()
		return n.Sign(&recordv1.MeterStatus{Header: h, MeterId: m.ID, Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}, statetest.Body())
	}),
	headers("sample of another network", reason.WrongNetwork, func(h *sample.Header) { h.NetworkID = stranger }),
	claims("claim of another network", reason.WrongNetwork, func(b *statetest.Batch) { b.Claims[0].NetworkID = stranger }),
	claims("set of another network", reason.WrongNetwork, func(b *statetest.Batch) { b.Set.NetworkId = stranger.Bytes() }),
	captures("unsigned sample", reason.Unsigned, func(_ *statetest.Network, m *statetest.Meter) *statetest.Capture {
		c := m.Capture()
		c.Signature = nil
		return c
	}),
	captures("forged sample", reason.BadSignature, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		c := m.Capture()
		c.Signature[5] ^= 1
		return c
	}),
	captures("sample of another key", reason.BadSignature, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		m.Key = statetest.Key("other")
		return m.Capture()
	}),
	claims("forged endorsement", reason.BadSignature, func(b *statetest.Batch) { b.Endorse().Set.Endorsements[1].Signature[3] ^= 4 }),
	statements("table over captures that were taken", reason.Overlapping, func(n *statetest.Network, _ *statetest.Meter) []byte {
		v := n.Table("br")
		v.ValidFromUnixNano = n.NowUnix * second
		return n.Sign(v, statetest.Body())
	}),
	statements("forged statement", reason.BadSignature, func(n *statetest.Network, m *statetest.Meter) []byte {
		leaf := status(n, m, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0)
		leaf[len(leaf)-1] ^= 1
		return leaf
	}),
	statements("meter key of small order", reason.WeakKey, func(n *statetest.Network, _ *statetest.Meter) []byte {
		r := n.MeterRegistration("meter-2", statetest.Key("m2"))
		r.Key = append([]byte{byte(signature.Ed25519ZIP215), 1}, make([]byte, 31)...)
		return n.Sign(r, statetest.Body())
	}),
	statements("meter key of the statements' kind", reason.WeakKey, func(n *statetest.Network, _ *statetest.Meter) []byte {
		r := n.MeterRegistration("meter-2", statetest.Key("m2"))
		r.Key[0] = byte(signature.Ed25519)
		return n.Sign(r, statetest.Body())
	}),
	captures("unregistered meter", reason.UnknownMeter, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		m.ID = "meter-9"
		return m.Capture()
	}),
	captures("barred meter", reason.MeterNotInService, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		n.Accept(status(n, m, recordv1.MeterAction_METER_ACTION_KEY_COMPROMISED, 0))
		return m.Capture()
	}),
	captures("after the verification", reason.OutOfVerification, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		n.NowUnix = statetest.GenesisUnix + 365*86_400
		n.Apply(n.Begin())
		return m.Capture()
	}),
	captures("module of another meter", reason.WrongAlgorithm, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		n.Algorithm = digest.Plain([]byte("second module"))
		n.Approve()
		return m.Capture()
	}),
	captures("module never approved", reason.UnknownAlgorithm, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		n.Algorithm = digest.Plain([]byte("unknown module"))
		return m.Capture()
	}),
	captures("withdrawn approval", reason.AlgorithmNotInForce, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		n.Accept(algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW, 0))
		return m.Capture()
	}),
	statements("a meter again", reason.AlreadyRegistered, func(n *statetest.Network, m *statetest.Meter) []byte {
		return n.Sign(n.MeterRegistration(m.ID, statetest.Key("new")), statetest.Body())
	}),
	statements("a meter with another's key", reason.KeyInUse, func(n *statetest.Network, m *statetest.Meter) []byte {
		return n.Sign(n.MeterRegistration("meter-2", m.Key), statetest.Body())
	}),
	statements("parameters for what was measured", reason.Overlapping, func(n *statetest.Network, m *statetest.Meter) []byte {
		n.AcceptCaptures(m.Capture())
		return n.Sign(n.Parameters(m.ID, n.NowUnix*second), statetest.Body())
	}),
	captures("superseded approval", reason.AlgorithmNotInForce, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		n.Accept(supersede(n, n.ApproveAnother("successor"), n.NowUnix*second))
		return m.Capture()
	}),
	statements("an approval that ended", reason.Expired, func(n *statetest.Network, _ *statetest.Meter) []byte {
		a := n.Terms()
		a.NotAfterUnix = n.NowUnix - 1
		return n.SignApproval(a, statetest.Body(), statetest.Maker())
	}),
	statements("a policy with a stranger", reason.UnknownOrganisation, func(n *statetest.Network, _ *statetest.Meter) []byte {
		a := n.Terms()
		a.Policy = policy.OutOf(1, policy.Organisation("org-00"), policy.Organisation("nobody"))
		return n.SignApproval(a, statetest.Body(), statetest.Maker())
	}),
	statements("heartbeat after heartbeat", reason.TooSoon, func(n *statetest.Network, m *statetest.Meter) []byte {
		n.Accept(m.Heartbeat())
		n.NowUnix += 9
		return m.Heartbeat()
	}),
	headers("three channels", reason.WrongChannelCount, func(h *sample.Header) { h.Channels = 3 }),
	headers("another rate", reason.WrongSampleRate, func(h *sample.Header) { h.SampleRateMillihertz++ }),
	batches("another raw vector", reason.DigestMismatch, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		b := n.Batch(m.Capture())
		b.Raw[0] = []byte("other")
		return b
	}),
	batches("raw vector above the limit", reason.TooLarge, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		b := n.Batch(m.Capture())
		b.Raw[0] = make([]byte, record.MaxRawVectorBytes+1)
		return b
	}),
	headers("eleven seconds ahead", reason.FutureDated, func(h *sample.Header) { h.CapturedAtUnixNano += 10*second + 1 }),
	headers("before the block it knows", reason.BackDated, func(h *sample.Header) { h.CapturedAtUnixNano-- }),
	headers("block of another ledger", reason.UnknownBlock, func(h *sample.Header) { h.KnownBlock = stranger }),
	headers("block to come", reason.UnknownBlock, func(h *sample.Header) { h.KnownHeight += 2 }),
	captures("time falls", reason.TimeNotMonotonic, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		n.AcceptCaptures(m.Capture(atNano(n.NowUnix*second + 1)))
		return m.Capture(func(h *sample.Header) {
			h.KnownHeight, h.KnownBlock = 0, n.Store.Blocks[0].Header
		})
	}),
	captures("the same sample again", reason.Duplicate, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		c := m.Capture()
		n.AcceptCaptures(c)
		return c
	}),
	statements("the same statement again", reason.Duplicate, func(n *statetest.Network, m *statetest.Meter) []byte {
		leaf := status(n, m, recordv1.MeterAction_METER_ACTION_SUSPEND, n.NowUnix*second)
		n.Accept(leaf)
		return leaf
	}),
	captures("another sample under one counter", reason.Equivocation, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		other := m.Peek(func(h *sample.Header) { h.StatusFlags = 1 })
		n.AcceptCaptures(m.Capture())
		return other
	}),
	captures("below the first counter", reason.CounterOutOfRange, func(n *statetest.Network, _ *statetest.Meter) *statetest.Capture {
		r := n.MeterRegistration("meter-2", statetest.Key("m2"))
		r.FirstCounter = 41
		n.Accept(n.Sign(r, statetest.Body()))
		value, _ := state.GetMeter(n.Store, "meter-2")
		m := &statetest.Meter{Network: n, ID: "meter-2", Key: statetest.Key("m2"), Counter: 40, Registration: digest.Digest(value.GetRegistration())}
		return m.Capture()
	}),
	headers("counter beyond all bounds", reason.CounterOutOfRange, func(h *sample.Header) { h.Counter = 1<<62 + 1 }),
	captures("one gap too many", reason.TooManyGaps, func(n *statetest.Network, m *statetest.Meter) *statetest.Capture {
		for range n.Config.Limits.MaxMissingRanges {
			m.Capture()
			n.AcceptCaptures(m.Capture())
		}
		m.Capture()
		return m.Capture()
	}),
	batches("marked late, is not", reason.WrongDisposition, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		b := n.Batch(m.Capture())
		b.Measurements[0].Disposition = recordv1.Disposition_DISPOSITION_LATE
		return b
	}),
	batches("other configuration", reason.StaleConfig, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		b := n.Batch(m.Capture())
		b.Measurements[0].Config = stranger.Bytes()
		return b
	}),
	claims("other registration", reason.StaleRegistration, func(b *statetest.Batch) { b.Claims[0].Registration = stranger }),
	batches("other approval", reason.StaleApproval, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		b := n.Batch(m.Capture())
		b.Measurements[0].Approval = stranger.Bytes()
		return b
	}),
	claims("one organisation", reason.PolicyNotMet, func(b *statetest.Batch) { b.Endorsers = b.Endorsers[:1] }),
	claims("claim on another sample", reason.BadEndorsement, func(b *statetest.Batch) { b.Claims[0].Sample = stranger }),
	claims("another fuel limit", reason.BadEndorsement, func(b *statetest.Batch) { b.Claims[0].FuelLimit++ }),
	claims("another profile", reason.BadEndorsement, func(b *statetest.Batch) { b.Claims[0].ProfileVersion++ }),
	claims("claim of another module", reason.WrongAlgorithm, func(b *statetest.Batch) { b.Claims[0].Algorithm = stranger }),
	claims("too few values", reason.BadEndorsement, func(b *statetest.Batch) { b.Claims[0].Result = statetest.Result(0, 1, 2) }),
	claims("valid without values", reason.BadEndorsement, func(b *statetest.Batch) { b.Claims[0].Result = statetest.Result(0) }),
	claims("refusal with too few values", reason.BadEndorsement, func(b *statetest.Batch) { b.Claims[0].Result = statetest.Result(2, 1) }),
	claims("claim index beyond the set", reason.BadEndorsement, func(b *statetest.Batch) { b.Measurements[0].ClaimIndex = 1 }),
	claims("names another set", reason.BadEndorsement, func(b *statetest.Batch) { b.Measurements[0].EndorsementSet = stranger.Bytes() }),
	claims("claim changed after endorsement", reason.BadEndorsement, func(b *statetest.Batch) {
		b.Endorse()
		b.Claims[0].FuelUsed++
		b.Measurements[0].Claim, _ = b.Claims[0].Encode()
	}),
	claims("unknown endorser", reason.BadEndorsement, func(b *statetest.Batch) { b.Endorse().Set.Endorsements[1].NodeId = "nobody" }),
	claims("a gateway endorses", reason.BadEndorsement, func(b *statetest.Batch) {
		b.Endorsers = append(b.Endorsers[:2:2], b.Network.Gateway)
	}),
	batches("revoked endorser", reason.BadEndorsement, func(n *statetest.Network, m *statetest.Meter) *statetest.Batch {
		b := n.Batch(m.Capture())
		b.Records()
		n.Accept(n.Sign(&recordv1.NodeRevocation{Header: n.Header("node/endorser-01"), NodeId: "endorser-01"}, statetest.Root("org-01")))
		return b
	}),
	statements("a sequence skipped", reason.OutOfSequence, func(n *statetest.Network, m *statetest.Meter) []byte {
		h := n.Header("meter/" + m.ID)
		h.Sequence++
		return n.Sign(&recordv1.MeterStatus{Header: h, MeterId: m.ID, Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}, statetest.Body())
	}),
	statements("another predecessor", reason.OutOfSequence, func(n *statetest.Network, m *statetest.Meter) []byte {
		h := n.Header("meter/" + m.ID)
		h.Predecessor = stranger.Bytes()
		return n.Sign(&recordv1.MeterStatus{Header: h, MeterId: m.ID, Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}, statetest.Body())
	}),
	statements("signed by a stranger", reason.NotAuthorised, func(n *statetest.Network, m *statetest.Meter) []byte {
		return n.Sign(&recordv1.MeterStatus{Header: n.Header("meter/" + m.ID), MeterId: m.ID, Action: recordv1.MeterAction_METER_ACTION_SEAL_BROKEN}, statetest.Key("stranger"))
	}),
	statements("event reported twice", reason.AlreadyReported, func(n *statetest.Network, m *statetest.Meter) []byte {
		leaf := equivocation(n, m, nil)
		n.Accept(leaf)
		return leaf
	}),
	statements("evidence of nothing", reason.BadEvidence, func(n *statetest.Network, m *statetest.Meter) []byte {
		return equivocation(n, m, func(r *recordv1.EventReport) { r.Evidence[1] = r.Evidence[0] })
	}),
	statements("suspended twice", reason.InvalidStatement, func(n *statetest.Network, m *statetest.Meter) []byte {
		n.Accept(status(n, m, recordv1.MeterAction_METER_ACTION_SUSPEND, n.NowUnix*second))
		return status(n, m, recordv1.MeterAction_METER_ACTION_SUSPEND, n.NowUnix*second+1)
	}),
	{"header submitted", reason.WrongPlace, func(n *statetest.Network, _ *statetest.Meter) ([][]byte, [][]byte, int) {
		leaves := n.Store.BlockLeaves(1)
		return leaves[len(leaves)-1:], nil, 0
	}},
	{"measurement without a set", reason.WrongPlace, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		b := n.Batch(m.Capture())
		return b.Records()[1:], b.Raw, 0
	}},
	{"set alone", reason.WrongPlace, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		return n.Batch(m.Capture()).Records()[:1], nil, 0
	}},
	{"set in the middle", reason.WrongPlace, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		b := n.Batch(m.Capture())
		r := b.Records()
		return [][]byte{r[0], r[0]}, b.Raw, 1
	}},
	{"raw vector missing", reason.WrongPlace, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		return n.Batch(m.Capture()).Records(), nil, 1
	}},
	{"two statements", reason.WrongPlace, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		leaf := status(n, m, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0)
		return [][]byte{leaf, leaf}, nil, 0
	}},
	{"statement with a raw vector", reason.WrongPlace, func(n *statetest.Network, m *statetest.Meter) ([][]byte, [][]byte, int) {
		return [][]byte{status(n, m, recordv1.MeterAction_METER_ACTION_SEAL_BROKEN, 0)}, [][]byte{{1}}, 0
	}},
}

// equivocation is the report of two samples under the meter's next counter.
func equivocation(n *statetest.Network, m *statetest.Meter, change func(*recordv1.EventReport)) []byte {
	a := m.Peek()
	b := m.Peek(func(h *sample.Header) { h.StatusFlags = 1 })
	return report(n, m, m.Counter, change, a, b)
}

// erased is an order to erase what was erased already.
func erased(n *statetest.Network, _ *statetest.Meter) []byte {
	piece := digest.Of(digest.Evidence, []byte("plate"))
	n.GiveEvidenceKey("org-00")
	n.Accept(n.Erasure(piece, "org-00"))
	return n.Erasure(piece, "org-00")
}

func TestEveryRefusal(t *testing.T) {
	base, meter := ready(t)
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			n := base.Clone(t)
			m := *meter
			m.Network = n
			records, raw, at := c.provoke(n, &m)
			wantReason(t, try(t, n, records, raw)[at], c.want)
		})
	}
}

// The list above must provoke every reason that a record can be refused for.
func TestEveryReasonIsProvoked(t *testing.T) {
	provoked := make(map[reason.Reason]bool)
	for _, c := range refusals {
		provoked[c.want] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../reason/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, s := range block.Specs {
			name, err := strconv.Unquote(s.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			listed++
			if !provoked[reason.Reason(name)] {
				t.Errorf("no case provokes %s", name)
			}
		}
		break // the second list is of services, not of records
	}
	if listed < 30 {
		t.Errorf("found only %d reasons", listed)
	}
}

// report makes and signs an event of endorser-00.
func report(n *statetest.Network, m *statetest.Meter, counter uint64, change func(*recordv1.EventReport), evidence ...*statetest.Capture) []byte {
	r := &recordv1.EventReport{
		NetworkId: n.ID.Bytes(), Reporter: "endorser-00", Kind: recordv1.EventKind_EVENT_KIND_METER_EQUIVOCATION,
		Subject: "meter/" + m.ID, Counter: counter, Detail: "two samples",
	}
	for _, c := range evidence {
		r.Evidence = append(r.Evidence, encodeSample(n, c))
	}
	if change != nil {
		change(r)
	}
	return signReport(n, r, statetest.Key("node/endorser-00"))
}

func signReport(n *statetest.Network, r *recordv1.EventReport, key ed25519.PrivateKey) []byte {
	leaf, err := record.SignEvent(key, signature.Ed25519ZIP215, r)
	if err != nil {
		n.TB.Fatal(err)
	}
	return leaf
}

package statetest

import (
	"crypto"
	"math"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// The shape of every test sample: two channels of four samples at 2 kHz.
const (
	Channels             = 2
	SamplesPerChannel    = 4
	SampleRateMillihertz = 2_000_000
)

// Meter is a registered meter with the state that its firmware keeps.
type Meter struct {
	Network      *Network
	ID           string
	Key          crypto.Signer
	Registration digest.Digest
	Counter      uint64        // of the next sample
	Previous     digest.Digest // the sample before it
}

// MeterRegistration is the registration of a meter under a key.
func (n *Network) MeterRegistration(id string, key crypto.Signer) *recordv1.MeterRegistration {
	kind, err := sample.KindOf(key.Public())
	n.must(err)
	return &recordv1.MeterRegistration{
		Header: n.Header(record.SubjectMeter(id)), MeterId: id, Key: Tagged(kind, key),
		Model: "model", TypeApproval: "approval", Algorithm: n.Algorithm.Bytes(),
		Channels: Channels, SampleRateMillihertz: SampleRateMillihertz, Parameters: []int64{2_000_000, 250},
		Site: &recordv1.Site{Name: "km 41", LatitudeE7: -228_000_000, LongitudeE7: -431_000_000, Lane: 1},
		Verification: &recordv1.Verification{
			Certificate: "certificate", ValidFromUnixNano: (GenesisUnix - 86_400) * Second, ValidUntilUnixNano: (GenesisUnix + 365*86_400) * Second,
		},
		Seal: "seal", FirstCounter: 1,
	}
}

// Register records a meter with an Ed25519 key. Approve comes first.
func (n *Network) Register(id string) *Meter {
	n.TB.Helper()
	return n.RegisterWith(id, Key("meter/"+id))
}

// RegisterWith records a meter with this key.
func (n *Network) RegisterWith(id string, key crypto.Signer) *Meter {
	n.TB.Helper()
	m := n.MeterRegistration(id, key)
	n.Accept(n.Sign(m, Body()))
	return &Meter{
		Network: n, ID: id, Key: key, Counter: m.FirstCounter,
		Registration: record.StatementDigest(record.TypeMeterRegistration, wire.MustEncode(m)),
	}
}

// Capture is a signed sample with its raw vector.
type Capture struct {
	Meter     *Meter
	Sample    *sample.Sample
	Signature []byte
	Raw       []byte
}

// Capture takes the meter's next sample at NowUnix, knowing the newest block;
// change, if given, alters the header before it is signed.
func (m *Meter) Capture(change ...func(*sample.Header)) *Capture {
	m.Network.TB.Helper()
	c := m.Peek(change...)
	m.Counter, m.Previous = c.Sample.Counter+1, c.Sample.Digest
	return c
}

// Peek is Capture that the meter forgets.
func (m *Meter) Peek(change ...func(*sample.Header)) *Capture {
	m.Network.TB.Helper()
	raw := make([]byte, 2*Channels*SamplesPerChannel)
	raw[0] = byte(m.Counter)
	head := m.Network.Store.Head()
	h := &sample.Header{
		NetworkID: m.Network.ID, MeterID: m.ID, Counter: m.Counter, Previous: m.Previous,
		CapturedAtUnixNano: m.Network.NowUnix * Second, ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED,
		KnownHeight: head.Height, KnownBlock: head.Header,
		Channels: Channels, SamplesPerChannel: SamplesPerChannel, SampleRateMillihertz: SampleRateMillihertz,
		Encoding: recordv1.Encoding_ENCODING_INT16, RawDigest: sample.DigestRaw(raw),
	}
	for _, f := range change {
		f(h)
	}
	s, sig, err := sample.Sign(m.Key, h)
	m.Network.must(err)
	return &Capture{Meter: m, Sample: s, Signature: sig, Raw: raw}
}

// Heartbeat signs a sign of life at NowUnix, knowing the newest block; change, if
// given, alters it before it is signed. It returns the leaf.
func (m *Meter) Heartbeat(change ...func(*heartbeat.Heartbeat)) []byte {
	n := m.Network
	n.TB.Helper()
	head := n.Store.Head()
	h := &heartbeat.Heartbeat{
		NetworkID: n.ID, MeterID: m.ID, NewestSample: m.Previous, AtUnixNano: n.NowUnix * Second,
		ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED, KnownHeight: head.Height, KnownBlock: head.Header,
	}
	if !m.Previous.IsZero() {
		h.NewestCounter = m.Counter - 1
	}
	for _, f := range change {
		f(h)
	}
	leaf, err := heartbeat.Sign(m.Key, h)
	n.must(err)
	return leaf
}

// Batch is a submission of measurements in the making. A test may change any
// part before the step that uses it.
type Batch struct {
	Network      *Network
	Claims       []*claim.Claim
	Endorsers    []Node
	Set          *recordv1.EndorsementSet
	Measurements []*recordv1.Measurement
	Raw          [][]byte
	endorsed     bool
}

// Result is the result bytes of a code and values.
func Result(code uint32, values ...int64) []byte {
	b, err := abi.EncodeOutput(abi.Output{Code: code, Values: values})
	if err != nil {
		panic(err)
	}
	return b
}

// Batch starts a submission of captures: valid results, endorsed by the first
// two organisations.
func (n *Network) Batch(captures ...*Capture) *Batch {
	b := &Batch{
		Network: n, Endorsers: n.Endorsers[:min(2, len(n.Endorsers))],
		Set: &recordv1.EndorsementSet{NetworkId: n.ID.Bytes(), Algorithm: n.Algorithm.Bytes()},
	}
	config := n.Store.Head().Config
	for i, c := range captures {
		b.Claims = append(b.Claims, &claim.Claim{
			NetworkID: n.ID, Sample: c.Sample.Digest, Algorithm: n.Algorithm, Registration: n.registrationAt(c),
			ProfileVersion: claim.ProfileVersion, FuelLimit: 1_000_000, FuelUsed: 1234,
			Input: digest.Of(digest.ClaimInput, c.Raw), Result: Result(abi.CodeValid, 83_512, 4_200, 1),
		})
		b.Measurements = append(b.Measurements, &recordv1.Measurement{
			Header: c.Sample.Bytes, Signature: c.Signature, ClaimIndex: uint32(i),
			Approval: n.Approval.Bytes(), Config: config.Bytes(),
			Disposition: recordv1.Disposition_DISPOSITION_ON_TIME,
		})
		b.Raw = append(b.Raw, c.Raw)
	}
	return b
}

// registrationAt is the statement whence the parameters of a capture come.
func (n *Network) registrationAt(c *Capture) digest.Digest {
	value, err := state.GetMeter(n.Store, c.Sample.MeterID)
	n.must(err)
	if value == nil {
		return c.Meter.Registration // a stranger's, for the ledger to refuse
	}
	p, err := state.ParametersAt(value, c.Sample.CapturedAtUnixNano)
	n.must(err)
	return p.Statement
}

// Parameters is the next version of a meter's parameters, from a capture time
// on, under another seal; all else as in the version before.
func (n *Network) Parameters(id string, fromUnixNano int64) *recordv1.MeterParameters {
	n.TB.Helper()
	value, err := state.GetMeter(n.Store, id)
	n.must(err)
	before, err := state.ParametersAt(value, math.MaxInt64)
	n.must(err)
	return &recordv1.MeterParameters{
		Header: n.Header(record.SubjectMeter(id)), MeterId: id, Version: before.Version + 1, EffectiveAtUnixNano: fromUnixNano,
		Algorithm: before.Algorithm.Bytes(), SampleRateMillihertz: before.SampleRateMillihertz, Parameters: before.Values,
		Site: before.Site, Seal: "seal again", NationalTable: before.NationalTable, Reason: "laid anew",
	}
}

// Endorse fixes the claims and signs them.
func (b *Batch) Endorse() *Batch {
	n := b.Network
	n.TB.Helper()
	var hashes []digest.Digest
	for i, c := range b.Claims {
		bytes, err := c.Encode()
		n.must(err)
		b.Measurements[i].Claim = bytes
		hashes = append(hashes, claim.Hash(bytes))
		b.Set.Claims = append(b.Set.Claims, hashes[i].Bytes())
	}
	message := claim.EndorsementMessage(digest.Digest(b.Set.NetworkId), digest.Digest(b.Set.Algorithm), hashes)
	for _, e := range b.Endorsers {
		sig, err := signature.Sign(e.Key, signature.Ed25519ZIP215, message)
		n.must(err)
		b.Set.Endorsements = append(b.Set.Endorsements, &recordv1.Endorsement{NodeId: e.ID, Signature: sig})
	}
	b.endorsed = true
	return b
}

// Records are the leaves of the submission: it endorses if that is not done,
// and names the set in measurements that do not name one.
func (b *Batch) Records() [][]byte {
	n := b.Network
	n.TB.Helper()
	if !b.endorsed {
		b.Endorse()
	}
	set, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_EndorsementSet{EndorsementSet: b.Set}})
	n.must(err)
	records := [][]byte{set}
	name := record.Digest(set)
	for _, m := range b.Measurements {
		if len(m.EndorsementSet) == 0 {
			m.EndorsementSet = name.Bytes()
		}
		leaf, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: m}})
		n.must(err)
		records = append(records, leaf)
	}
	return records
}

// AcceptCaptures records captures in one block and fails the test unless all
// are accepted. It returns the index of the first measurement.
func (n *Network) AcceptCaptures(captures ...*Capture) uint64 {
	n.TB.Helper()
	b := n.Batch(captures...)
	outcomes := n.Submit(b.Records(), b.Raw)
	for i, o := range outcomes {
		if !o.Accepted {
			n.TB.Fatalf("record %d refused: %s: %s", i, o.Reason, o.Detail)
		}
	}
	return outcomes[1].Index
}

package receipttest

import (
	"crypto/ed25519"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Algorithm is the module that the network approves.
type Algorithm struct {
	Module     []byte
	FuelLimit  uint64
	Schema     approval.Schema
	Parameters []int64
	// Run computes as the honest endorsers do.
	Run func(input []byte, fuelLimit uint64) (result []byte, fuelUsed uint64)
}

// Digest is the module's identity.
func (a *Algorithm) Digest() digest.Digest { return digest.Plain(a.Module) }

// meter is a meter in the field.
type meter struct {
	keys         []string // names of its keys; the last signs
	registration *recordv1.MeterRegistration
	digest       digest.Digest
	counter      uint64 // of its newest sample
	previous     digest.Digest
}

// approve makes a block with the approval: two of the three endorsing
// organisations.
func (n *Network) approve() {
	n.t.Helper()
	h := n.Header(record.SubjectAlgorithm(n.Algorithm.Digest()))
	a := &approval.Approval{
		Module: n.Algorithm.Digest(), NetworkID: n.ID, Sequence: h.GetSequence(), IssuedAtUnix: foundedUnix,
		NotifiedBody: NotifiedBody,
		Manufacturer: approval.Manufacturer{Name: "Maker", Key: manufacturerKey()},
		ModuleName:   "test", ModuleVersion: "1.0.0", ProfileVersion: claim.ProfileVersion, FuelLimit: n.Algorithm.FuelLimit,
		Schema:        n.Algorithm.Schema,
		Policy:        policy.OutOf(2, policy.Organisation("alpha"), policy.Organisation("beta"), policy.Organisation("gamma")),
		NotBeforeUnix: foundedUnix - 1, NotAfterUnix: foundedUnix + oneYear,
		TestReport: digest.Plain([]byte("test report")), Disclosure: approval.Public,
	}
	if h.GetSequence() > 1 {
		a.Predecessor = digest.Digest(h.GetPredecessor())
	}
	payload, err := a.Encode()
	if err != nil {
		n.t.Fatal(err)
	}
	e, err := record.SignStatement(envelope.InTotoType, payload, Key(NotifiedBody), Key("maker"))
	if err != nil {
		n.t.Fatal(err)
	}
	leaf, err := record.FromEnvelope(e)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Statements(leaf)
	n.Approval = e.Digest()
}

func manufacturerKey() signature.Key {
	key, err := signature.KeyOf(signature.Ed25519, Key("maker").Public())
	if err != nil {
		panic(err)
	}
	return key
}

// RegisterMeter makes a block with a meter's registration.
func (n *Network) RegisterMeter(id string) {
	n.t.Helper()
	reg := &recordv1.MeterRegistration{
		Header: n.Header(record.SubjectMeter(id)), MeterId: id, Key: tagged(signature.Ed25519ZIP215, id),
		Model: "Loop 2", TypeApproval: "TA-1", Algorithm: n.Algorithm.Digest().Bytes(),
		Channels: 2, SampleRateMillihertz: 1_000_000, Parameters: n.Algorithm.Parameters,
		Site:         &recordv1.Site{Name: "Km 12, northbound", LatitudeE7: -229068000, LongitudeE7: -431729000, Lane: 1},
		Verification: &recordv1.Verification{Certificate: "V-1", ValidFromUnixNano: (foundedUnix - 1) * second, ValidUntilUnixNano: (foundedUnix + oneYear) * second},
		Seal:         "S-0001", FirstCounter: 1,
	}
	leaf := n.sign(reg, NotifiedBody)
	n.Statements(leaf)
	n.meters[id] = &meter{keys: []string{id}, registration: reg, digest: statementDigest(n.t, leaf)}
}

// RollOver gives a meter a new key from its next counter.
func (n *Network) RollOver(id string) {
	n.t.Helper()
	m := n.meters[id]
	old, key := m.keys[len(m.keys)-1], m.keys[len(m.keys)-1]+" next"
	n.Statements(n.sign(&recordv1.MeterKeyRollover{
		Header: n.Header(record.SubjectMeter(id)), MeterId: id,
		Key: tagged(signature.Ed25519ZIP215, key), FirstCounter: m.counter + 1,
	}, NotifiedBody, old))
	m.keys = append(m.keys, key)
}

// Capture is one measurement to make.
type Capture struct {
	Meter     string
	Samples   [][]int16                   // [channel][sample]
	Endorsers []string                    // organisations, ascending; default alpha and beta
	Lie       func(*claim.Claim)          // what colluding endorsers claim instead
	Late      bool                        // captured beyond the lateness bound
	Encoding  recordv1.Encoding           // default int16
	Alter     func(header *sample.Header) // before the meter signs
}

// Pulse is a signal of two channels, the second delayed.
func Pulse(height int16, delay int) [][]int16 {
	samples := [][]int16{make([]int16, 64), make([]int16, 64)}
	for c := range samples {
		for i := range 16 {
			samples[c][16+c*delay+i] = height - int16(i)
		}
	}
	return samples
}

// Measure makes one block with the captures, one endorsement set for all of
// them, and returns the indices of the measurements.
func (n *Network) Measure(captures ...Capture) []uint64 {
	n.t.Helper()
	b := n.begin()
	set := &recordv1.EndorsementSet{NetworkId: n.ID.Bytes(), Algorithm: n.Algorithm.Digest().Bytes()}
	var measurements []*recordv1.Measurement
	var claims []digest.Digest
	var vectors [][]byte
	for i, capture := range captures {
		m, raw := n.capture(capture)
		m.ClaimIndex = uint32(i)
		hash := claim.Hash(m.GetClaim())
		claims, vectors, measurements = append(claims, hash), append(vectors, raw), append(measurements, m)
		set.Claims = append(set.Claims, hash.Bytes())
	}
	endorsers := captures[0].Endorsers
	if endorsers == nil {
		endorsers = Organisations[:2]
	}
	message := claim.EndorsementMessage(n.ID, n.Algorithm.Digest(), claims)
	for _, o := range endorsers {
		sig, err := signature.Sign(Key(EndorserID(o)), signature.Ed25519ZIP215, message)
		if err != nil {
			n.t.Fatal(err)
		}
		set.Endorsements = append(set.Endorsements, &recordv1.Endorsement{NodeId: EndorserID(o), Signature: sig})
	}
	records := [][]byte{n.encode(&recordv1.Record{Body: &recordv1.Record_EndorsementSet{EndorsementSet: set}})}
	described := make([]state.RawVector, len(vectors))
	raw := make(map[int][]byte)
	for i, m := range measurements {
		m.EndorsementSet = record.Digest(records[0]).Bytes()
		records = append(records, n.encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: m}}))
		described[i] = state.DescribeRaw(vectors[i])
		raw[1+i] = vectors[i]
	}
	at := n.submit(b, state.ParseSubmission(records, described))
	n.seal(b, raw)
	return at[1:]
}

func (n *Network) encode(r *recordv1.Record) []byte {
	n.t.Helper()
	b, err := record.Encode(r)
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// capture does the meter's and the endorsers' work.
func (n *Network) capture(c Capture) (*recordv1.Measurement, []byte) {
	n.t.Helper()
	m, head := n.meters[c.Meter], n.Blocks[len(n.Blocks)-1].Ref
	if c.Encoding == recordv1.Encoding_ENCODING_UNSPECIFIED {
		c.Encoding = recordv1.Encoding_ENCODING_INT16
	}
	raw, err := vector.Encode(c.Encoding, c.Samples)
	if err != nil {
		n.t.Fatal(err)
	}
	known := head
	if c.Late {
		known = n.Blocks[0].Ref
	}
	m.counter++
	h := &sample.Header{
		NetworkID: n.ID, MeterID: c.Meter, Counter: m.counter, Previous: m.previous,
		CapturedAtUnixNano: known.BlockTimeUnixNano + int64(m.counter)*1_000_000, ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED,
		KnownHeight: known.Height, KnownBlock: known.Header,
		Channels: uint32(len(c.Samples)), SamplesPerChannel: uint32(len(c.Samples[0])), SampleRateMillihertz: 1_000_000,
		Encoding: c.Encoding, RawDigest: sample.DigestRaw(raw), Evidence: []digest.Digest{digest.Of(digest.Evidence, []byte("plate"))},
	}
	if c.Alter != nil {
		c.Alter(h)
	}
	s, sig, err := sample.Sign(ed25519.PrivateKey(Key(m.keys[len(m.keys)-1])), h)
	if err != nil {
		n.t.Fatal(err)
	}
	m.previous = s.Digest
	input, err := claim.Input(m.registration, s, raw)
	if err != nil {
		n.t.Fatal(err)
	}
	result, fuelUsed := n.Algorithm.Run(input, n.Algorithm.FuelLimit)
	cl := &claim.Claim{
		NetworkID: n.ID, Sample: s.Digest, Algorithm: n.Algorithm.Digest(), Registration: m.digest,
		ProfileVersion: claim.ProfileVersion, FuelLimit: n.Algorithm.FuelLimit, FuelUsed: fuelUsed,
		Input: claim.InputDigest(input), Result: result,
	}
	if c.Lie != nil {
		c.Lie(cl)
	}
	encoded, err := cl.Encode()
	if err != nil {
		n.t.Fatal(err)
	}
	disposition := recordv1.Disposition_DISPOSITION_ON_TIME
	if c.Late {
		disposition = recordv1.Disposition_DISPOSITION_LATE
	}
	return &recordv1.Measurement{
		Header: s.Bytes, Signature: sig, Claim: encoded, Approval: n.Approval.Bytes(),
		Config: n.Blocks[len(n.Blocks)-1].Ref.Config.Bytes(), Disposition: disposition,
	}, raw
}

// PassTime lets the cosigners' clocks run; the next blocks show it.
func (n *Network) PassTime(seconds uint64) {
	n.nowUnix += seconds
	n.Statements()
	n.Statements()
}

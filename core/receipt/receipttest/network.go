// Package receipttest is what a ledger gives out, for tests: measurements that
// an algorithm really computed, their receipts and bundles, and whole blocks
// with raw vectors and certificates. The network is package statetest's, so
// every byte follows from fixed names and golden vectors stay.
package receipttest

import (
	"crypto"
	"fmt"
	"testing"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Algorithm is the module that the network approves.
type Algorithm struct {
	Module     []byte
	Schema     approval.Schema
	Parameters []int64 // of every meter
	// Run computes as the honest endorsers do.
	Run func(input []byte, fuelLimit uint64) (result []byte, fuelUsed uint64)
}

// Network is a network whose endorsers compute.
type Network struct {
	*statetest.Network
	// NationalTable is the id of the table that meters are registered under from
	// now on; empty for none.
	NationalTable string

	algorithm Algorithm
	meters    map[string]*statetest.Meter
	raw       map[uint64][]byte // raw vectors by the index of the measurement
}

// Found makes a network of four organisations and approves the algorithm: two
// of them must endorse.
func Found(t testing.TB, algorithm Algorithm) *Network {
	t.Helper()
	n := &Network{Network: statetest.New(t, statetest.Options{}), algorithm: algorithm, meters: map[string]*statetest.Meter{}, raw: map[uint64][]byte{}}
	n.Module, n.Algorithm = algorithm.Module, digest.Plain(algorithm.Module)
	n.Approve()
	return n
}

// Approve records the next approval of the algorithm.
func (n *Network) Approve() {
	n.TB.Helper()
	terms := n.Terms()
	terms.Schema = n.algorithm.Schema
	n.Accept(n.SignApproval(terms, statetest.Body(), statetest.Maker()))
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	n.must(err)
	n.Approval = digest.Digest(value.GetApproval())
}

// Register records a meter with an Ed25519 key.
func (n *Network) Register(id string) {
	n.TB.Helper()
	n.RegisterWith(id, statetest.Key("meter/"+id))
}

// RegisterWith records a meter with this key.
func (n *Network) RegisterWith(id string, key crypto.Signer) {
	n.TB.Helper()
	reg := n.MeterRegistration(id, key)
	reg.Parameters, reg.NationalTable = n.algorithm.Parameters, n.NationalTable
	leaf := n.Sign(reg, statetest.Body())
	n.Accept(leaf)
	value, err := state.GetMeter(n.Store, id)
	n.must(err)
	n.meters[id] = &statetest.Meter{
		Network: n.Network, ID: id, Key: key, Counter: reg.FirstCounter, Registration: digest.Digest(value.GetRegistration()),
	}
}

// RollOver gives a meter a new key from its next counter.
func (n *Network) RollOver(id string) {
	n.TB.Helper()
	m := n.meters[id]
	key := statetest.Key(fmt.Sprintf("meter/%s from %d", id, m.Counter))
	n.Accept(n.Sign(&recordv1.MeterKeyRollover{
		Header: n.Header(record.SubjectMeter(id)), MeterId: id,
		Key: statetest.Tagged(signature.Ed25519ZIP215, key), FirstCounter: m.Counter,
	}, statetest.Body(), m.Key))
	m.Key = key
}

// LayAnew gives a meter its next verification and, from the next second on, the
// next version of its parameters (these, if any are given), and goes on to that
// second.
func (n *Network) LayAnew(id string, parameters ...int64) {
	n.TB.Helper()
	n.NowUnix++
	n.Accept(n.Sign(&recordv1.MeterStatus{
		Header: n.Header(record.SubjectMeter(id)), MeterId: id, Action: recordv1.MeterAction_METER_ACTION_VERIFIED,
		Verification: &recordv1.Verification{
			Certificate: "next certificate", ValidFromUnixNano: n.NowUnix * statetest.Second, ValidUntilUnixNano: (statetest.GenesisUnix + 300*86_400) * statetest.Second,
		},
	}, statetest.Body()))
	p := n.Parameters(id, n.NowUnix*statetest.Second)
	if len(parameters) > 0 {
		p.Parameters = parameters
	}
	n.Accept(n.Sign(p, statetest.Body()))
}

// Capture is one measurement to make.
type Capture struct {
	Meter    string
	Samples  [][]int16            // [channel][sample]
	Encoding recordv1.Encoding    // default int16
	Header   func(*sample.Header) // changes it before the meter signs
	Lie      func(*claim.Claim)   // what colluding endorsers claim instead
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

// Measure makes one block with one endorsement set of the captures by these
// endorsers, by their places in Endorsers, ascending. It returns the indices of
// the measurements.
func (n *Network) Measure(endorsers []int, captures ...Capture) []uint64 {
	n.TB.Helper()
	var taken []*statetest.Capture
	var claims []*claim.Claim
	for _, c := range captures {
		t, cl := n.capture(c)
		taken, claims = append(taken, t), append(claims, cl)
	}
	batch := n.Batch(taken...)
	batch.Claims, batch.Endorsers = claims, nil
	for _, e := range endorsers {
		batch.Endorsers = append(batch.Endorsers, n.Endorsers[e])
	}
	var at []uint64
	for i, o := range n.Submit(batch.Records(), batch.Raw) {
		if !o.Accepted {
			n.TB.Fatalf("record %d is refused: %s: %s", i, o.Reason, o.Detail)
		}
		at = append(at, o.Index)
	}
	for i, index := range at[1:] {
		n.raw[index] = taken[i].Raw
	}
	return at[1:]
}

// capture does the meter's and the endorsers' work.
func (n *Network) capture(c Capture) (*statetest.Capture, *claim.Claim) {
	n.TB.Helper()
	m := n.meters[c.Meter]
	if c.Encoding == recordv1.Encoding_ENCODING_UNSPECIFIED {
		c.Encoding = recordv1.Encoding_ENCODING_INT16
	}
	raw, err := vector.Encode(c.Encoding, c.Samples)
	n.must(err)
	taken := m.Capture(func(h *sample.Header) {
		h.Channels, h.SamplesPerChannel = uint32(len(c.Samples)), uint32(len(c.Samples[0]))
		h.Encoding, h.RawDigest = c.Encoding, sample.DigestRaw(raw)
		h.Evidence = []sample.Evidence{{Digest: digest.Of(digest.Evidence, []byte("plate of "+c.Meter)), Size: 20_000, MediaType: "image/jpeg"}}
		if c.Header != nil {
			c.Header(h)
		}
	})
	taken.Raw = raw
	value, err := state.GetMeter(n.Store, c.Meter)
	n.must(err)
	parameters, err := state.ParametersAt(value, taken.Sample.CapturedAtUnixNano)
	n.must(err)
	input, err := claim.Input(parameters, taken.Sample, raw)
	n.must(err)
	fuelLimit := n.Terms().FuelLimit
	result, fuelUsed := n.algorithm.Run(input, fuelLimit)
	cl := &claim.Claim{
		NetworkID: n.ID, Sample: taken.Sample.Digest, Algorithm: parameters.Algorithm, Registration: parameters.Statement,
		ProfileVersion: claim.ProfileVersion, FuelLimit: fuelLimit, FuelUsed: fuelUsed,
		Input: claim.InputDigest(input), Result: result,
	}
	if c.Lie != nil {
		c.Lie(cl)
	}
	return taken, cl
}

// Trust is the trust bundle of the configuration in force.
func (n *Network) Trust() *trust.Bundle {
	n.TB.Helper()
	policy, err := state.PolicyOf(n.Config, n.ID)
	n.must(err)
	b, err := trust.New(trust.Epoch{Policy: policy})
	n.must(err)
	return b
}

// Certified is the certificate of a height.
func (n *Network) Certified(height uint64) *tlog.Certificate {
	n.TB.Helper()
	c, err := tlog.ParseCertificate(n.Certificate(height))
	n.must(err)
	return c
}

// Raw is the raw vector of a measurement.
func (n *Network) Raw(index uint64) []byte { return n.raw[index] }

func (n *Network) must(err error) {
	n.TB.Helper()
	if err != nil {
		n.TB.Fatal(err)
	}
}

package completeness_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/completeness"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// ledger has five samples of m-1, with a rollover after the third, and two of
// m-2 among them. The fourth of m-1 is a refusal.
func ledger(t testing.TB) *receipttest.Network {
	n := receipttest.Found(t, receipttest.Algorithm{
		Module: []byte("a module"), Parameters: []int64{7},
		Schema: approval.Schema{
			Parameters: []approval.Field{{Name: "offset", Unit: "1"}}, Values: []approval.Field{{Name: "speed", Unit: "km/h"}},
			Refusals: []approval.Refusal{{Code: 8, Name: "LOW_SNR"}},
		},
		Run: func(input []byte, _ uint64) ([]byte, uint64) {
			in, err := abi.DecodeInput(input)
			if err != nil {
				panic(err)
			}
			out := abi.Output{Values: []int64{int64(in.Samples[0][16])}}
			if out.Values[0] < 10 {
				out.Code = 8
			}
			b, err := abi.EncodeOutput(out)
			if err != nil {
				panic(err)
			}
			return b, 1
		},
	})
	n.Register("m-1")
	n.Register("m-2")
	n.Measure([]int{0, 1}, pulse("m-1", 900), pulse("m-2", 800), pulse("m-1", 700))
	n.NowUnix += 5
	n.Measure([]int{0, 1}, pulse("m-1", 600))
	n.RollOver("m-1")
	n.NowUnix += 5
	n.Measure([]int{0, 1}, pulse("m-1", 3), pulse("m-1", 500), pulse("m-2", 500))
	return n
}

func pulse(meter string, height int16) receipttest.Capture {
	return receipttest.Capture{Meter: meter, Samples: receipttest.Pulse(height, 5)}
}

// file shows the counters of a span that are among these.
func file(t testing.TB, n *receipttest.Network, meter string, first, last uint64, counters ...uint64) *recordv1.Completeness {
	t.Helper()
	m, err := state.GetMeter(n.Store, meter)
	if err != nil {
		t.Fatal(err)
	}
	c := &recordv1.Completeness{
		Certificate: n.Newest().Text(), FirstCounter: first, LastCounter: last, Registration: n.Prove(m.GetRegistrationIndex()),
	}
	for _, k := range m.GetKeys()[1:] {
		c.Rollovers = append(c.Rollovers, n.Prove(k.GetIndex()))
	}
	for _, counter := range counters {
		index, ok, err := state.IndexOf(n.Store, meter, counter)
		if err != nil || !ok {
			t.Fatalf("counter %d: %v, %v", counter, ok, err)
		}
		c.Measurements = append(c.Measurements, n.Prove(index))
	}
	return c
}

func verify(t testing.TB, n *receipttest.Network, c *recordv1.Completeness) *completeness.Result {
	t.Helper()
	encoded, err := completeness.Build(c)
	if err != nil {
		t.Fatal(err)
	}
	return completeness.Verify(encoded, n.Trust())
}

func TestS6_ConsecutiveLeavesShowCompleteness(t *testing.T) {
	n := ledger(t)
	r := verify(t, n, file(t, n, "m-1", 1, 5, 1, 2, 3, 4, 5))
	if r.Verdict != receipt.Verified || r.Present != 5 || r.Refused != 1 || r.Late != 0 || len(r.Missing) != 0 || r.Meter != "m-1" {
		t.Fatalf("%+v", r)
	}
	for name, c := range map[string]struct {
		file    *recordv1.Completeness
		missing []completeness.Range
	}{
		"a part":             {file(t, n, "m-1", 2, 4, 2, 3, 4), nil},
		"one":                {file(t, n, "m-2", 2, 2, 2), nil},
		"none":               {file(t, n, "m-1", 2, 4), []completeness.Range{{First: 2, Last: 4}}},
		"one in the middle":  {file(t, n, "m-1", 1, 5, 1, 2, 4, 5), []completeness.Range{{First: 3, Last: 3}}},
		"the ends":           {file(t, n, "m-1", 1, 5, 2, 3, 4), []completeness.Range{{First: 1, Last: 1}, {First: 5, Last: 5}}},
		"beyond the newest":  {file(t, n, "m-1", 4, 9, 4, 5), []completeness.Range{{First: 6, Last: 9}}},
		"all but the middle": {file(t, n, "m-1", 1, 5, 1, 5), []completeness.Range{{First: 2, Last: 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := verify(t, n, c.file)
			want := receipt.Verified
			if len(c.missing) > 0 {
				want = receipt.Undecidable
			}
			if r.Verdict != want || !slices.Equal(r.Missing, c.missing) {
				t.Errorf("%v, missing %v; want %v, %v\n%s", r.Verdict, r.Missing, want, c.missing, r)
			}
			for _, m := range c.missing {
				if !strings.Contains(r.Conclusion, m.String()) {
					t.Errorf("%q does not name %s", r.Conclusion, m)
				}
			}
		})
	}
}

// Whatever is exchanged, left out or put in makes the file refuted, or names
// what is missing.
func TestS6_AFileThatDoesNotHoldIsRefuted(t *testing.T) {
	n := ledger(t)
	good := func() *recordv1.Completeness { return file(t, n, "m-1", 1, 5, 1, 2, 3, 4, 5) }
	other := file(t, n, "m-2", 1, 2, 1, 2)
	for name, c := range map[string]struct {
		change func(c *recordv1.Completeness)
		says   string
	}{
		"another meter's sample":       {func(c *recordv1.Completeness) { c.Measurements[1] = other.Measurements[1] }, "is of meter m-2"},
		"another meter's registration": {func(c *recordv1.Completeness) { c.Registration = other.Registration }, "rollover 0 is of meter"},
		"the rollover left out":        {func(c *recordv1.Completeness) { c.Rollovers = nil }, "counter 4 does not verify"},
		"the rollover twice":           {func(c *recordv1.Completeness) { c.Rollovers = append(c.Rollovers, c.Rollovers[0]) }, "want ascending ones"},
		"a registration as a rollover": {func(c *recordv1.Completeness) { c.Rollovers[0] = c.Registration }, "is of type"},
		"samples out of order":         {func(c *recordv1.Completeness) { slices.Reverse(c.Measurements) }, "want an ascending one"},
		"a sample twice":               {func(c *recordv1.Completeness) { c.Measurements[1] = c.Measurements[0] }, "want an ascending one"},
		"a sample outside the span":    {func(c *recordv1.Completeness) { c.LastCounter = 4 }, "want an ascending one"},
		"a span before the first":      {func(c *recordv1.Completeness) { c.Registration = n.Prove(0) }, "is of type"},
		"a statement as a sample":      {func(c *recordv1.Completeness) { c.Measurements[0] = c.Registration }, "not a Measurement"},
		"an altered sample":            {func(c *recordv1.Completeness) { c.Measurements[2].Record[40] ^= 1 }, "proof of record"},
		"another place":                {func(c *recordv1.Completeness) { c.Measurements[2].Index++ }, "proof of record"},
		"a hash less":                  {func(c *recordv1.Completeness) { c.Measurements[2].Proof = c.Measurements[2].Proof[1:] }, "proof"},
		"no certificate":               {func(c *recordv1.Completeness) { c.Certificate = nil }, "certificate"},
		"an older certificate":         {func(c *recordv1.Completeness) { c.Certificate = n.Certified(1).Text() }, "registration"},
	} {
		t.Run(name, func(t *testing.T) {
			f := proto.CloneOf(good())
			c.change(f)
			r := verify(t, n, f)
			if r.Verdict != receipt.Refuted || !strings.Contains(r.Conclusion, c.says) {
				t.Errorf("%v: %s; want refuted, %q", r.Verdict, r.Conclusion, c.says)
			}
		})
	}
	encoded, err := completeness.Build(good())
	if err != nil {
		t.Fatal(err)
	}
	if r := completeness.Verify(encoded, nil); r.Verdict != receipt.Undecidable {
		t.Errorf("without a trust bundle: %+v", r)
	}
	stranger := &receipttest.Network{Network: statetest.New(t, statetest.Options{Organisations: 1})}
	if r := completeness.Verify(encoded, stranger.Trust()); r.Verdict != receipt.Refuted || !strings.Contains(r.Conclusion, "the trust bundle is about") {
		t.Errorf("with another network's trust bundle: %+v", r)
	}
	short, err := trust.New(trust.Epoch{Policy: n.Trust().Newest().Policy, LastSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r := completeness.Verify(encoded, short); r.Verdict != receipt.Undecidable {
		t.Errorf("with a trust bundle that ends before: %+v", r)
	}
}

// On a ledger that had certified whatever it was given, two chains of one meter
// could still not be shown as one: each sample names the one before.
func TestS3_ABrokenLinkIsRefuted(t *testing.T) {
	n := ledger(t)
	for name, c := range map[string]struct {
		first, second digest.Digest // what the samples name; zero in the second for the first's digest
		want          receipt.Verdict
		says          string
	}{
		"linked":                      {digest.Zero, digest.Zero, receipt.Verified, "complete"},
		"the second follows another":  {digest.Zero, digest.Plain([]byte("another")), receipt.Refuted, "counter 2 follows sample"},
		"the first follows something": {digest.Plain([]byte("another")), digest.Zero, receipt.Refuted, "is the meter's first and names"},
	} {
		t.Run(name, func(t *testing.T) {
			one, sampleOne := forged(t, n, 1, c.first)
			if c.second.IsZero() {
				c.second = sampleOne
			}
			two, _ := forged(t, n, 2, c.second)
			meter, err := state.GetMeter(n.Store, "m-2")
			if err != nil {
				t.Fatal(err)
			}
			r := verify(t, n, certify(t, n, n.Store.Leaves[meter.GetRegistrationIndex()], one, two))
			if r.Verdict != c.want || !strings.Contains(r.Conclusion, c.says) {
				t.Errorf("%v: %s; want %v, %q", r.Verdict, r.Conclusion, c.want, c.says)
			}
		})
	}
}

// forged is a measurement of m-2 with any previous sample, and the sample's digest.
func forged(t *testing.T, n *receipttest.Network, counter uint64, previous digest.Digest) (leaf []byte, of digest.Digest) {
	t.Helper()
	d := digest.Plain([]byte("anything"))
	s, sig, err := sample.Sign(statetest.Key("meter/m-2"), &sample.Header{
		NetworkID: n.ID, MeterID: "m-2", Counter: counter, Previous: previous, CapturedAtUnixNano: 1, ClockSync: 1, KnownBlock: d,
		Channels: 2, SamplesPerChannel: 2, SampleRateMillihertz: 1, Encoding: 1, RawDigest: d,
	})
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := (&claim.Claim{
		NetworkID: n.ID, Sample: s.Digest, Algorithm: d, Registration: d, ProfileVersion: 1, FuelLimit: 1, FuelUsed: 1, Input: d,
		Result: statetest.Result(0, 1),
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err = record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{
		Header: s.Bytes, Signature: sig, Claim: claimed, EndorsementSet: d.Bytes(), Approval: d.Bytes(), Config: d.Bytes(), Disposition: 1,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return leaf, s.Digest
}

type nodeMap map[tlog.NodeID]digest.Digest

func (m nodeMap) Node(id tlog.NodeID) (digest.Digest, error) { return m[id], nil }

// certify makes a log of a registration and measurements from counter 1, which
// the network's replicas cosign.
func certify(t *testing.T, n *receipttest.Network, leaves ...[]byte) *recordv1.Completeness {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	hashes := make([]digest.Digest, len(leaves))
	for i, leaf := range leaves {
		hashes[i] = tlog.LeafHash(leaf)
	}
	nodes := nodeMap{}
	tlog.NewRange().AppendVisit(hashes, func(id tlog.NodeID, h digest.Digest) { nodes[id] = h })
	checkpoint := tlog.Checkpoint{Origin: n.Newest().Checkpoint.Origin, Size: uint64(len(leaves)), Root: tlog.RootOf(hashes)}
	log, err := tlog.SignLog(n.Replicas[0].Log, checkpoint)
	must(err)
	var cosignatures []tlog.Cosignature
	for _, r := range n.Replicas[:3] {
		c, err := tlog.Cosign(r.Cosigner, state.CosignerName(checkpoint.Origin, r.ID), checkpoint, statetest.GenesisUnix)
		must(err)
		cosignatures = append(cosignatures, c)
	}
	certificate, err := tlog.NewCertificate(checkpoint, log, cosignatures)
	must(err)
	items := make([]*recordv1.ProvenRecord, len(leaves))
	for i, leaf := range leaves {
		path, err := tlog.InclusionProof(nodes, uint64(i), checkpoint.Size)
		must(err)
		items[i] = receipt.Prove(leaf, uint64(i), path)
	}
	return &recordv1.Completeness{
		Certificate: certificate.Text(), FirstCounter: 1, LastCounter: uint64(len(leaves) - 1), Registration: items[0], Measurements: items[1:],
	}
}

func TestFormOfCompletenessIsBounded(t *testing.T) {
	n := ledger(t)
	for name, change := range map[string]func(c *recordv1.Completeness){
		"no span":              func(c *recordv1.Completeness) { c.FirstCounter, c.LastCounter = 0, 0 },
		"a span backwards":     func(c *recordv1.Completeness) { c.FirstCounter, c.LastCounter = 5, 4 },
		"1,025 counters":       func(c *recordv1.Completeness) { c.LastCounter = 1025 },
		"no registration":      func(c *recordv1.Completeness) { c.Registration = nil },
		"65 rollovers":         func(c *recordv1.Completeness) { c.Rollovers = slices.Repeat(c.Rollovers, 65) },
		"1,025 measurements":   func(c *recordv1.Completeness) { c.Measurements = slices.Repeat(c.Measurements, 205) },
		"an empty record":      func(c *recordv1.Completeness) { c.Measurements[0].Record = nil },
		"a hash of 31 bytes":   func(c *recordv1.Completeness) { c.Measurements[0].Proof[0] = make([]byte, 31) },
		"a proof of 65 hashes": func(c *recordv1.Completeness) { c.Registration.Proof = slices.Repeat([][]byte{make([]byte, 32)}, 65) },
	} {
		c := proto.CloneOf(file(t, n, "m-1", 1, 5, 1, 2, 3, 4, 5))
		change(c)
		if _, err := completeness.Build(c); err == nil {
			t.Errorf("%s was built", name)
		}
		c.Version = completeness.Version
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if r := completeness.Verify(encoded, n.Trust()); r.Verdict != receipt.Refuted {
			t.Errorf("%s: %+v", name, r)
		}
	}
	wide := file(t, n, "m-1", 1, 1024, 1, 2, 3, 4, 5)
	if r := verify(t, n, wide); len(r.Missing) != 1 || r.Missing[0] != (completeness.Range{First: 6, Last: 1024}) {
		t.Errorf("1,024 counters: %+v", r)
	}
}

// What another implementer must find in a complete file and in one with a gap.
func TestCompletenessVectors(t *testing.T) {
	n := ledger(t)
	type vector struct {
		Name   string               `json:"name"`
		File   []byte               `json:"file"`
		Result *completeness.Result `json:"result"`
	}
	var list []vector
	for _, v := range []struct {
		name string
		file *recordv1.Completeness
	}{
		{"complete", file(t, n, "m-1", 1, 5, 1, 2, 3, 4, 5)},
		{"a gap", file(t, n, "m-1", 1, 5, 1, 2, 5)},
	} {
		encoded, err := completeness.Build(v.file)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, vector{v.name, encoded, completeness.Verify(encoded, n.Trust())})
	}
	golden.JSON(t, "completeness.json", map[string]any{"trust": string(n.Trust().Bytes()), "files": list})
}

// FuzzCompleteness: no bytes panic, and none but a file in its one form holds.
func FuzzCompleteness(f *testing.F) {
	n := ledger(f)
	trusted := n.Trust()
	for _, c := range []*recordv1.Completeness{file(f, n, "m-1", 1, 5, 1, 2, 3, 4, 5), file(f, n, "m-2", 1, 2, 2)} {
		encoded, err := completeness.Build(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		r := completeness.Verify(encoded, trusted)
		c, err := completeness.Parse(encoded)
		if err != nil {
			if r.Verdict != receipt.Refuted {
				t.Fatalf("%v, and the file is refused: %v", r.Verdict, err)
			}
			return
		}
		again, err := completeness.Build(c)
		if err != nil || !bytes.Equal(again, encoded) {
			t.Fatalf("built again it is another file (%v)", err)
		}
	})
}

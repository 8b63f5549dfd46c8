package receipt_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// verdictVectors is testdata/receipts/verdicts.json: receipts and bundles, good
// and bad, with the verdict of every step of a verifier that has no engine.
type verdictVectors struct {
	Trust map[string]string `json:"trust"` // trust bundles by name; "" is to have none
	Cases []verdictVector   `json:"cases"`
}

type verdictVector struct {
	Name    string            `json:"name"`
	Kind    string            `json:"kind"`  // receipt or bundle
	Trust   string            `json:"trust"` // name of the trust bundle that judges it
	Bytes   []byte            `json:"bytes"`
	Verdict receipt.Verdict   `json:"verdict"`
	Steps   []receipt.Verdict `json:"steps"` // in the order of reports
}

// verdicts collects the cases of one network.
type verdicts struct {
	*testing.T
	*receipttest.Network
	name string // of its trust bundle
	to   *verdictVectors
}

func (v *verdicts) add(name, trusted string, encoded []byte, want receipt.Verdict, step string) {
	v.Helper()
	judge := receipt.Verifier{}
	if text := v.to.Trust[trusted]; text != "" {
		var err error
		if judge.Trust, err = trust.Parse([]byte(text)); err != nil {
			v.Fatal(err)
		}
	}
	c := verdictVector{Name: name, Kind: "receipt", Trust: trusted, Bytes: encoded}
	var report receipt.Report
	if bytes.HasPrefix(encoded, []byte(tlog.ProofHeader)) {
		_, report = judge.Receipt(encoded)
	} else {
		c.Kind = "bundle"
		_, report = judge.Bundle(encoded)
	}
	if report.Verdict != want || step != "" && report.Step(step).Verdict != want {
		v.Errorf("%s: want %v in step %q, have\n%s", name, want, step, report.String())
	}
	c.Verdict = report.Verdict
	for _, s := range report.Steps {
		c.Steps = append(c.Steps, s.Verdict)
	}
	v.to.Cases = append(v.to.Cases, c)
}

func (v *verdicts) good(name string, encoded []byte) {
	v.Helper()
	v.add(name, v.name, encoded, receipt.Verified, "")
}

// bundle adds a bundle that is changed, in canonical form.
func (v *verdicts) bundle(name string, b *recordv1.Bundle, want receipt.Verdict, step string, change func(b *recordv1.Bundle)) {
	v.Helper()
	b = proto.CloneOf(b)
	change(b)
	encoded, err := receipt.BuildBundle(b)
	if err != nil {
		v.Fatal(err)
	}
	v.add(name, v.name, encoded, want, step)
}

func (v *verdicts) as(name string) *verdicts {
	v.to.Trust[name] = string(v.Trust().Bytes())
	v.name = name
	return v
}

// repeatable makes the signatures of a P-256 key the same in every run (RFC 6979).
type repeatable struct{ *ecdsa.PrivateKey }

func (r repeatable) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return r.PrivateKey.Sign(nil, digest, opts)
}

// Whoever writes a verifier checks it with these; the one in Python does.
func TestVerdictVectors(t *testing.T) {
	to := &verdictVectors{Trust: map[string]string{"": ""}}
	n, first, second := ledger(t)
	v := (&verdicts{T: t, Network: n, to: to}).as("network")
	v.goodOnes(first, second)
	v.badReceipts(first[2])
	v.badBundles(first, second)
	v.undecided(first[2])
	v.forgeries()
	v.liars()
	v.reconfigured(first[2])
	golden.JSON(t, "receipts/verdicts.json", to)
}

func (v *verdicts) goodOnes(first, second []uint64) {
	as := func(b *recordv1.Bundle) []byte {
		encoded, err := receipt.BuildBundle(b)
		if err != nil {
			v.Fatal(err)
		}
		return encoded
	}
	v.good("receipt of a value", v.Receipt(first[0]))
	v.good("receipt of a refusal", v.Receipt(first[1]))
	v.good("a meter's first sample, int16, before its rollover", as(v.Bundle(first[0])))
	v.good("a refused result, claim 1 of 2", as(v.Bundle(first[1])))
	v.good("under the new key, after the rollover", as(v.Bundle(first[2])))
	v.good("other endorsers, a rollover that came later", as(v.Bundle(second[0])))
	v.RegisterWith("m-3", repeatable{statetest.P256Key("meter/m-3")})
	p256 := v.Measure([]int{1, 3}, receipttest.Capture{Meter: "m-3", Samples: receipttest.Pulse(900, 5), Encoding: recordv1.Encoding_ENCODING_RICE})
	v.good("a P-256 meter, Rice-coded", as(v.Bundle(p256[0])))
	of := policy.Organisation
	v.Policy = policy.OutOf(2, of("org-00"), policy.OutOf(1, of("org-01"), policy.OutOf(2, of("org-02"), of("org-03"))))
	v.Approve()
	nested := v.Measure([]int{0, 2, 3}, receipttest.Capture{Meter: "m-2", Samples: receipttest.Pulse(800, 3)})
	v.good("a nested policy, the second approval of the module", as(v.Bundle(nested[0])))
	v.bundle("a node less than endorsements", v.Bundle(nested[0]), receipt.Refuted, receipt.StepEndorsements, func(b *recordv1.Bundle) {
		b.Nodes = b.Nodes[:2]
	})
	v.bundle("the approval before", v.Bundle(nested[0]), receipt.Refuted, receipt.StepApproval, func(b *recordv1.Bundle) {
		b.Approval = v.Prove(approvalBefore(v.T, v.Network, first[0]))
	})
}

// badReceipts changes a good receipt where signatures and proofs do not show it alone.
func (v *verdicts) badReceipts(index uint64) {
	text := string(v.Receipt(index))
	bad := func(name, step, changed string) {
		v.Helper()
		if changed == text {
			v.Errorf("%s changes nothing", name)
		}
		v.add(name, v.name, []byte(changed), receipt.Refuted, step)
	}
	head, cosignatures := signed([]byte(text))
	lines := strings.SplitAfter(text, "\n")
	without := func(i int) string { return strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "") }
	form := receipt.StepCanonicalForm
	bad("no extra line", form, without(1))
	bad("no index line", form, without(2))
	bad("no hash of the proof", receipt.StepInclusion, without(3))
	bad("a hash more", receipt.StepInclusion, strings.Replace(text, lines[3], lines[3]+lines[3], 1))
	bad("hashes exchanged", receipt.StepInclusion, strings.Replace(text, lines[3]+lines[4], lines[4]+lines[3], 1))
	bad("another index", receipt.StepInclusion, strings.Replace(text, lines[2], "index 1\n", 1))
	bad("index with a leading zero", form, strings.Replace(text, "index ", "index 0", 1))
	bad("index beyond the size", form, strings.Replace(text, lines[2], "index 1000\n", 1))
	bad("no final newline", form, strings.TrimSuffix(text, "\n"))
	bad("a line more", form, text+"\n")
	bad("CR LF", form, strings.ReplaceAll(text, "\n", "\r\n"))
	bad("a space behind a line", form, strings.Replace(text, lines[3], strings.TrimSuffix(lines[3], "\n")+" \n", 1))
	bad("spare bits of base64 set", form, strings.Replace(text, lines[3], strings.Replace(lines[3], "=\n", "", 1)[:42]+spare(lines[3][42])+"=\n", 1))
	bad("no log signature", form, without(strings.Count(head, "\n")-1))
	bad("a quorum less one", receipt.StepCertificate, head+strings.Join(cosignatures[1:], ""))
	bad("cosignatures out of order", form, head+cosignatures[1]+cosignatures[0]+cosignatures[2])
	bad("a cosignature twice", form, head+cosignatures[0]+strings.Join(cosignatures, ""))
	bad("one replica's signature under another's name", receipt.StepCertificate,
		head+cosignatures[0]+strings.Replace(cosignatures[0], "replica-00", "replica-01", 1)+cosignatures[2])
	begin, rest := text[:strings.Index(text, "extra ")+len("extra ")+40], text[strings.Index(text, "extra ")+len("extra ")+41:]
	other := "A"
	if text[len(begin)] == 'A' {
		other = "B"
	}
	bad("a byte of the record", receipt.StepInclusion, begin+other+rest)

	c := v.Newest().Checkpoint
	log, err := tlog.SignLog(v.Replicas[0].Log, c)
	v.check(err)
	var four []tlog.Cosignature
	for _, r := range v.Replicas {
		s, err := tlog.Cosign(r.Cosigner, state.CosignerName(c.Origin, r.ID), c, statetest.GenesisUnix)
		v.check(err)
		four = append(four, s)
	}
	v.certified("a surplus cosignature", index, log, four)
	stranger, err := tlog.Cosign(statetest.Key("stranger"), "stranger", c, statetest.GenesisUnix)
	v.check(err)
	v.certified("a cosignature of nobody in the policy", index, log, append(slices.Clone(four[:3]), stranger))
	impostor, err := tlog.Cosign(statetest.Key("stranger"), four[0].Name, c, statetest.GenesisUnix)
	v.check(err)
	v.certified("another key under a replica's name", index, log, append(slices.Clone(four[1:3]), impostor))
	foreign, err := tlog.SignLog(statetest.Key("stranger"), c)
	v.check(err)
	v.certified("a log signature by no log key", index, foreign, four[:3])
	moved := c
	moved.Size++
	for i, r := range v.Replicas {
		four[i], err = tlog.Cosign(r.Cosigner, state.CosignerName(c.Origin, r.ID), moved, statetest.GenesisUnix)
		v.check(err)
	}
	v.certified("cosignatures of another size", index, log, four[:3])
}

// spare is the character of base64 with its lowest bit set.
func spare(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return alphabet[strings.IndexByte(alphabet, c)|1:][:1]
}

// certified adds a receipt under a certificate that no policy accepts.
func (v *verdicts) certified(name string, index uint64, log tlog.LogSignature, cosignatures []tlog.Cosignature) {
	v.Helper()
	c, err := tlog.NewCertificate(v.Newest().Checkpoint, log, cosignatures)
	v.check(err)
	text, err := receipt.Build(v.Store.Leaves[index], index, v.Path(index), c)
	v.check(err)
	v.add(name, v.name, text, receipt.Refuted, receipt.StepCertificate)
}

func (v *verdicts) check(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

// badBundles holds items that are valid in themselves, in the wrong place.
func (v *verdicts) badBundles(first, second []uint64) {
	other, full := v.Bundle(second[0]), v.Bundle(first[2])
	for _, b := range []*recordv1.Bundle{other, full} {
		b.Approval, b.Module = v.Prove(approvalBefore(v.T, v.Network, first[0])), algorithm().Module
	}
	v.bundle("with the module", full, receipt.Verified, receipt.StepModule, func(*recordv1.Bundle) {})
	late := v.Prove(v.registeredAgain(1)) // now in force; nothing was endorsed after it
	full.Receipt, full.Nodes = v.Receipt(first[2]), v.nodesBefore(first[2])
	full.EndorsementSet = v.Bundle(first[2]).EndorsementSet
	full.Registration, full.Config = v.Bundle(first[2]).Registration, v.Bundle(first[2]).Config
	full.NationalTable = v.Bundle(first[2]).NationalTable
	full.Parameters, full.History = v.Bundle(first[2]).Parameters, v.Bundle(first[2]).History
	full.Rollovers, full.Approval = v.Bundle(first[2]).Rollovers, v.Prove(approvalBefore(v.T, v.Network, first[0]))
	other = v.Bundle(second[0])
	for _, c := range []struct {
		name, step string
		change     func(b *recordv1.Bundle)
	}{
		{"receipt of another meter", receipt.StepRegistration, func(b *recordv1.Bundle) { b.Receipt = other.Receipt }},
		{"receipt of another sample", receipt.StepRawVector, func(b *recordv1.Bundle) { b.Receipt = v.Receipt(first[1]) }},
		{"another endorsement set", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.EndorsementSet = other.EndorsementSet }},
		{"another meter's registration", receipt.StepRegistration, func(b *recordv1.Bundle) { b.Registration = other.Registration }},
		{"a registration as configuration", receipt.StepConfiguration, func(b *recordv1.Bundle) { b.Config = b.Registration }},
		{"another node", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.Nodes[1] = other.Nodes[1] }},
		{"nodes in another order", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.Nodes[0], b.Nodes[1] = b.Nodes[1], b.Nodes[0] }},
		{"a node more", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.Nodes = append(b.Nodes, other.Nodes[1]) }},
		{"a replica as a node", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.Nodes[0] = v.Prove(nodeRecord(v.T, v.Network, v.Replicas[0].ID)) }},
		{"a node registered after the set", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.Nodes[1] = late }},
		{"another meter's rollover", receipt.StepMeterSignature, func(b *recordv1.Bundle) { b.Rollovers = other.Rollovers }},
		{"a rollover twice", receipt.StepMeterSignature, func(b *recordv1.Bundle) { b.Rollovers = append(b.Rollovers, b.Rollovers[0]) }},
		{"the rollover left out", receipt.StepMeterSignature, func(b *recordv1.Bundle) { b.Rollovers = nil }},
		{"the parameters left out", receipt.StepRegistration, func(b *recordv1.Bundle) { b.Parameters = nil }},
		{"another meter's history", receipt.StepHistory, func(b *recordv1.Bundle) { b.History = other.History }},
		{"a statement of the history twice", receipt.StepHistory, func(b *recordv1.Bundle) { b.History = append(b.History, b.History[0]) }},
		{"a rollover in the history", receipt.StepHistory, func(b *recordv1.Bundle) { b.History = append(b.Rollovers, b.History...) }},
		{"another raw vector", receipt.StepRawVector, func(b *recordv1.Bundle) { b.RawVector = other.RawVector }},
		{"another module", receipt.StepModule, func(b *recordv1.Bundle) { b.Module = []byte("another") }},
		{"another item's proof", receipt.StepRegistration, func(b *recordv1.Bundle) { b.Registration.Proof = b.Approval.Proof }},
		{"an item's index", receipt.StepRegistration, func(b *recordv1.Bundle) { b.Registration.Index++ }},
		{"an item's index beyond the tree", receipt.StepApproval, func(b *recordv1.Bundle) { b.Approval.Index = 1 << 63 }},
	} {
		v.bundle(c.name, full, receipt.Refuted, c.step, c.change)
	}
}

// registeredAgain registers an endorser once more under the same key.
func (v *verdicts) registeredAgain(endorser int) uint64 {
	node := v.Endorsers[endorser]
	header := v.Header(record.SubjectNode(node.ID))
	again := v.Registration(node, header.GetSequence(), [32]byte(header.GetPredecessor()))
	return v.Accept(v.Sign(again, statetest.Root(node.Organisation), node.Key))
}

// nodesBefore are the registrations that stood when a measurement was made.
func (v *verdicts) nodesBefore(index uint64) []*recordv1.ProvenRecord {
	var nodes []*recordv1.ProvenRecord
	for _, e := range v.Endorsers[:2] {
		at := slices.IndexFunc(v.Store.Leaves[:index], func(leaf []byte) bool { return bytes.Contains(leaf, []byte("node/"+e.ID)) })
		nodes = append(nodes, v.Prove(uint64(at)))
	}
	return nodes
}

func (v *verdicts) undecided(index uint64) {
	b := v.Bundle(index)
	b.Nodes, b.Approval = v.nodesBefore(index), v.Prove(approvalBefore(v.T, v.Network, index))
	for _, c := range []struct {
		name, step string
		drop       func(b *recordv1.Bundle)
	}{
		{"no configuration", receipt.StepConfiguration, func(b *recordv1.Bundle) { b.Config = nil }},
		{"no registration", receipt.StepRegistration, func(b *recordv1.Bundle) { b.Registration = nil }},
		{"no approval", receipt.StepApproval, func(b *recordv1.Bundle) { b.Approval = nil }},
		{"no endorsement set", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.EndorsementSet = nil }},
		{"no nodes", receipt.StepEndorsements, func(b *recordv1.Bundle) { b.Nodes = nil }},
	} {
		v.bundle(c.name, b, receipt.Undecidable, c.step, c.drop)
	}
	v.bundle("no raw vector", b, receipt.Verified, "", func(b *recordv1.Bundle) { b.RawVector = nil })
	open, err := trust.Parse([]byte(v.to.Trust[v.name]))
	v.check(err)
	ended, err := trust.New(trust.Epoch{Policy: open.Newest().Policy, LastSize: 7})
	v.check(err)
	v.to.Trust["ended"] = string(ended.Bytes())
	v.add("the trust bundle ends before", "ended", v.Receipt(index), receipt.Undecidable, receipt.StepCertificate)
	v.add("no trust bundle", "", v.Receipt(index), receipt.Undecidable, receipt.StepCertificate)
	stranger := statetest.New(v.T, statetest.Options{Organisations: 5})
	p, err := state.PolicyOf(stranger.Config, stranger.ID)
	v.check(err)
	b2, err := trust.New(trust.Epoch{Policy: p})
	v.check(err)
	v.to.Trust["stranger"] = string(b2.Bytes())
	v.add("another network's trust bundle", "stranger", v.Receipt(index), receipt.Refuted, receipt.StepCertificate)
	b3, err := trust.New(trust.Epoch{Policy: p, LastSize: 7})
	v.check(err)
	v.to.Trust["stranger, ended"] = string(b3.Bytes())
	v.add("another network's trust bundle that ends before", "stranger, ended", v.Receipt(index), receipt.Refuted, receipt.StepCertificate)
}

// liars are replicas and endorsers that collude: all is certified.
func (v *verdicts) liars() {
	lie := func(name, step string, lie func(*claim.Claim)) {
		at := v.Measure([]int{0, 2, 3}, receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(800, 4), Lie: lie})
		v.bundle(name, v.Bundle(at[0]), receipt.Refuted, step, func(*recordv1.Bundle) {})
	}
	lie("a claim about another input", receipt.StepReExecution, func(c *claim.Claim) { c.Input[0] ^= 1 })
	pretended := v.Terms()
	pretended.Schema = algorithm().Schema
	pretended.Schema.Refusals = append(pretended.Schema.Refusals, approval.Refusal{Code: 9, Name: "PRETENDED"})
	pretend(v.T, v.Network, pretended)
	lie("a code that the schema does not name", receipt.StepApproval, func(c *claim.Claim) { c.Result = statetest.Result(9) })
	pretended.Schema.Values = append(pretended.Schema.Values, approval.Field{Name: "pretended", Unit: "1"})
	pretend(v.T, v.Network, pretended)
	lie("a value that the schema does not have", receipt.StepApproval, func(c *claim.Claim) { c.Result = statetest.Result(0, 1, 2, 3) })
	honest := *pretended
	honest.Schema = algorithm().Schema
	dearer, lax := honest, honest
	dearer.FuelLimit++
	pretend(v.T, v.Network, &dearer)
	lie("another fuel limit", receipt.StepApproval, func(c *claim.Claim) { c.FuelLimit++ })
	lax.Policy = policy.OutOf(2, policy.Organisation("org-01"), policy.Organisation("org-02"), policy.Organisation("org-03"))
	pretend(v.T, v.Network, &lax)
	at := v.Measure([]int{1, 2, 3}, receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(800, 4)})
	v.bundle("a policy that is not satisfied", v.Bundle(at[0]), receipt.Refuted, receipt.StepEndorsements, func(*recordv1.Bundle) {})
	ended := honest
	ended.Sequence, ended.Predecessor, ended.NotAfterUnix = v.Terms().Sequence, v.Terms().Predecessor, v.NowUnix // the first that is not covered
	v.Accept(v.SignApproval(&ended, statetest.Body(), statetest.Maker()))
	value, err := state.GetAlgorithm(v.Store, v.Algorithm)
	v.check(err)
	v.Approval = digest.Digest(value.GetApproval())
	pretend(v.T, v.Network, &honest)
	lie("a capture when the approval has ended", receipt.StepApproval, func(*claim.Claim) {})
	v.Approve()
}

// reconfigured exchanges the notified body's key: what it signed before is
// accepted on the certificate's word.
func (v *verdicts) reconfigured(index uint64) {
	before := v.Config
	config := proto.CloneOf(before)
	config.Header = v.Header(record.SubjectNetwork)
	config.NotifiedBodies[0].Keys[0] = statetest.Tagged(signature.Ed25519, statetest.Key("body/new"))
	v.Accept(v.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"), statetest.Key("body/new")))
	v.bundle("the genesis configuration, with a newer one in force", v.Bundle(index), receipt.Refuted, receipt.StepConfiguration, func(*recordv1.Bundle) {})
	at := v.Measure([]int{0, 2, 3}, receipttest.Capture{Meter: "m-2", Samples: receipttest.Pulse(900, 5)})
	v.bundle("signed by a key that the configuration no longer has", v.Bundle(at[0]), receipt.Verified, receipt.StepRegistration, func(*recordv1.Bundle) {})
}

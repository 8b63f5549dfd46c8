package receipt_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// verify encodes and judges a bundle.
func verify(t *testing.T, n *receipttest.Network, b *recordv1.Bundle, r receipt.Runner) (*receipt.Contents, receipt.Report) {
	t.Helper()
	encoded, err := receipt.BuildBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	return receipt.VerifyBundle(encoded, n.Trust(), r)
}

func TestBundleVerifies(t *testing.T) {
	n, first, second := ledger(t)
	for _, index := range append(first, second...) {
		b := n.Bundle(index)
		contents, report := verify(t, n, b, runner{})
		if report.Verdict != receipt.Verified || report.Conclusion != receipt.ConclusionEndorsed || len(contents.Endorsers) != 2 {
			t.Fatalf("without a module:\n%s", report.String())
		}
		b.Module = algorithm().Module
		if _, report = verify(t, n, b, runner{}); report.Verdict != receipt.Verified || report.Conclusion != receipt.ConclusionReExecuted {
			t.Errorf("with the module:\n%s", report.String())
		}
		for _, s := range report.Steps {
			if s.Verdict != receipt.Verified {
				t.Errorf("%+v", s)
			}
		}
	}
}

// Refused results are re-executed like any other.
func TestBundleOfARefusalVerifies(t *testing.T) {
	n, first, _ := ledger(t)
	b := n.Bundle(first[1])
	b.Module = algorithm().Module
	contents, report := verify(t, n, b, runner{})
	if report.Verdict != receipt.Verified || contents.Receipt.Result.Code != 8 {
		t.Error(report.String())
	}
	if s := receipt.Describe(contents.Receipt, contents); !s.Refused || s.CodeName != "LOW_SNR" || strings.Contains(s.String(), "\nmeasured") {
		t.Error(s.String())
	}
}

// What the verifier lacks is undecidable; the conclusion says that much less.
func TestBundleWithoutPartsConcludesLess(t *testing.T) {
	n, first, _ := ledger(t)
	full := n.Bundle(first[2])
	full.Module = algorithm().Module
	for _, c := range []struct {
		name       string
		drop       func(b *recordv1.Bundle)
		runner     receipt.Runner
		step       string
		verdict    receipt.Verdict
		conclusion string
	}{
		{"no engine", func(*recordv1.Bundle) {}, nil, receipt.StepReExecution, receipt.Verified, receipt.ConclusionEndorsed},
		{"a failing engine", func(*recordv1.Bundle) {}, runner{errors.New("no memory")}, receipt.StepReExecution, receipt.Verified, receipt.ConclusionEndorsed},
		{"no module", func(b *recordv1.Bundle) { b.Module = nil }, runner{}, receipt.StepModule, receipt.Verified, receipt.ConclusionEndorsed},
		{"no raw vector", func(b *recordv1.Bundle) { b.RawVector = nil }, runner{}, receipt.StepRawVector, receipt.Verified, receipt.ConclusionEndorsed},
		{"no set", func(b *recordv1.Bundle) { b.EndorsementSet = nil }, runner{}, receipt.StepEndorsements, receipt.Undecidable, ""},
		{"no nodes", func(b *recordv1.Bundle) { b.Nodes = nil }, runner{}, receipt.StepEndorsements, receipt.Undecidable, ""},
		{"no registration", func(b *recordv1.Bundle) { b.Registration = nil }, runner{}, receipt.StepMeterSignature, receipt.Undecidable, ""},
		{"no approval", func(b *recordv1.Bundle) { b.Approval = nil }, runner{}, receipt.StepApproval, receipt.Undecidable, ""},
		{"no configuration", func(b *recordv1.Bundle) { b.Config = nil }, runner{}, receipt.StepConfiguration, receipt.Undecidable, ""},
		// Leaving a rollover out hides the key in force: then the signature is wrong.
		{"no rollovers", func(b *recordv1.Bundle) { b.Rollovers = nil }, runner{}, receipt.StepMeterSignature, receipt.Refuted, ""},
	} {
		b := proto.Clone(full).(*recordv1.Bundle)
		c.drop(b)
		_, report := verify(t, n, b, c.runner)
		if report.Verdict != c.verdict || c.conclusion != "" && report.Conclusion != c.conclusion {
			t.Errorf("%s:\n%s", c.name, report.String())
		}
		if s := report.Step(c.step); s.Verdict == receipt.Verified || s.Detail == "" {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

// Each item is exchanged for another one that is valid in itself and stands on
// the same ledger.
func TestB2_EveryExchangedItemOfABundleIsRefused(t *testing.T) {
	n, first, second := ledger(t)
	n.Approve() // renewed: another valid approval of the same module
	third := n.Measure([]int{1, 2}, receipttest.Capture{Meter: "m-2", Samples: receipttest.Pulse(900, 5)})
	other, others := n.Bundle(second[0]), n.Bundle(third[0])
	full := n.Bundle(first[0])
	full.Module = algorithm().Module
	if _, report := verify(t, n, full, runner{}); report.Step(receipt.StepApproval).Verdict != receipt.Refuted {
		t.Fatalf("the approval now in force is not the one that was:\n%s", report.String())
	}
	full.Approval = n.Prove(approvalBefore(t, n, first[0]))
	if _, report := verify(t, n, full, runner{}); report.Conclusion != receipt.ConclusionReExecuted {
		t.Fatal(report.String())
	}
	for _, c := range []struct {
		name     string
		exchange func(b *recordv1.Bundle)
		step     string
	}{
		{"receipt of another meter", func(b *recordv1.Bundle) { b.Receipt = other.Receipt }, receipt.StepRegistration},
		{"receipt of the same meter", func(b *recordv1.Bundle) { b.Receipt = n.Receipt(first[1]) }, receipt.StepRawVector},
		{"endorsement set", func(b *recordv1.Bundle) { b.EndorsementSet = other.EndorsementSet }, receipt.StepEndorsements},
		{"registration", func(b *recordv1.Bundle) { b.Registration = other.Registration }, receipt.StepRegistration},
		{"approval", func(b *recordv1.Bundle) { b.Approval = others.Approval }, receipt.StepApproval},
		{"configuration", func(b *recordv1.Bundle) { b.Config = full.Registration }, receipt.StepConfiguration},
		{"one node", func(b *recordv1.Bundle) { b.Nodes[1] = other.Nodes[1] }, receipt.StepEndorsements},
		{"nodes' order", func(b *recordv1.Bundle) { b.Nodes[0], b.Nodes[1] = b.Nodes[1], b.Nodes[0] }, receipt.StepEndorsements},
		{"a node more", func(b *recordv1.Bundle) { b.Nodes = append(b.Nodes, other.Nodes[1]) }, receipt.StepEndorsements},
		{"a node that is a replica", func(b *recordv1.Bundle) { b.Nodes[0] = n.Prove(nodeRecord(t, n, n.Replicas[0].ID)) }, receipt.StepEndorsements},
		{"rollover", func(b *recordv1.Bundle) { b.Rollovers = other.Rollovers }, receipt.StepMeterSignature},
		{"rollover twice", func(b *recordv1.Bundle) { b.Rollovers = append(b.Rollovers, b.Rollovers[0]) }, receipt.StepMeterSignature},
		{"raw vector", func(b *recordv1.Bundle) { b.RawVector = n.Raw(first[1]) }, receipt.StepRawVector},
		{"module", func(b *recordv1.Bundle) { b.Module = []byte("another module") }, receipt.StepModule},
		{"proof", func(b *recordv1.Bundle) { b.Registration.Proof = b.Approval.Proof }, receipt.StepRegistration},
		{"index", func(b *recordv1.Bundle) { b.Registration.Index++ }, receipt.StepRegistration},
		{"record under its proof", func(b *recordv1.Bundle) { b.Registration.Record = other.Registration.Record }, receipt.StepRegistration},
	} {
		b := proto.Clone(full).(*recordv1.Bundle)
		c.exchange(b)
		if proto.Equal(b, full) {
			t.Fatalf("%s: nothing was exchanged", c.name)
		}
		if _, report := verify(t, n, b, runner{}); report.Verdict != receipt.Refuted || report.Step(c.step).Verdict != receipt.Refuted {
			t.Errorf("%s:\n%s", c.name, report.String())
		}
	}
}

// approvalBefore is the newest approval that stands before a record.
func approvalBefore(t *testing.T, n *receipttest.Network, index uint64) uint64 {
	t.Helper()
	for i := index; i > 0; i-- {
		if r, err := record.Parse(n.Store.Leaves[i]); err == nil && r.GetStatement().GetPayloadType() == record.TypeApproval {
			return i
		}
	}
	t.Fatal("no approval")
	return 0
}

func nodeRecord(t *testing.T, n *receipttest.Network, id string) uint64 {
	t.Helper()
	for i, leaf := range n.Store.Leaves {
		r, err := record.Parse(leaf)
		if err != nil || r.GetStatement().GetPayloadType() != record.TypeNodeRegistration {
			continue
		}
		var m recordv1.NodeRegistration
		if err := proto.Unmarshal(r.GetStatement().GetPayload(), &m); err == nil && m.GetNodeId() == id {
			return uint64(i)
		}
	}
	t.Fatalf("no node %s", id)
	return 0
}

// Colluding endorsers sign a wrong value: all is certified and endorsed, and
// the re-execution shows it.
func TestReExecutionExposesCollusion(t *testing.T) {
	n, _, _ := ledger(t)
	for name, lie := range map[string]func(*claim.Claim){
		"result": func(c *claim.Claim) { c.Result = statetest.Result(0, 55_000, 1) },
		"fuel":   func(c *claim.Claim) { c.FuelUsed++ },
		"input":  func(c *claim.Claim) { c.Input[0] ^= 1 },
	} {
		at := n.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(800, 4), Lie: lie})
		b := n.Bundle(at[0])
		// That the claim is about another input shows without the module.
		if _, report := verify(t, n, b, runner{}); (report.Conclusion == receipt.ConclusionEndorsed) == (name == "input") {
			t.Errorf("%s, without the module:\n%s", name, report.String())
		}
		b.Module = algorithm().Module
		if _, report := verify(t, n, b, runner{}); report.Verdict != receipt.Refuted || report.Step(receipt.StepReExecution).Verdict != receipt.Refuted {
			t.Errorf("%s:\n%s", name, report.String())
		}
	}
}

// pretend makes the replicas judge by other terms than the approval's.
func pretend(t *testing.T, n *receipttest.Network, terms *approval.Approval) {
	t.Helper()
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	if value.ApprovalPayload, err = terms.Encode(); err != nil {
		t.Fatal(err)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	n.Store.Values[state.AlgorithmKey(n.Algorithm)] = b
}

// Replicas that collude with the endorsers record what the approved schema
// gives no meaning to: all is certified and endorsed, and the approval shows it.
func TestS1_ResultOutsideTheSchemaIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		result  []byte
		refusal uint32 // what they pretend the schema has
		value   bool   // likewise
	}{
		"undefined refusal": {result: statetest.Result(9), refusal: 9},
		"undefined value":   {result: statetest.Result(0, 1, 2, 3), value: true},
	} {
		n, _, _ := ledger(t)
		pretended := n.Terms()
		pretended.Schema = algorithm().Schema
		if c.refusal != 0 {
			pretended.Schema.Refusals = append(pretended.Schema.Refusals, approval.Refusal{Code: c.refusal, Name: "PRETENDED"})
		}
		if c.value {
			pretended.Schema.Values = append(pretended.Schema.Values, approval.Field{Name: "pretended", Unit: "1"})
		}
		pretend(t, n, pretended)
		at := n.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(800, 4),
			Lie: func(cl *claim.Claim) { cl.Result = c.result }})
		_, report := verify(t, n, n.Bundle(at[0]), runner{})
		if step := report.Step(receipt.StepApproval); report.Verdict != receipt.Refuted || step.Verdict != receipt.Refuted || !strings.Contains(step.Detail, "schema") {
			t.Errorf("%s:\n%s", name, report.String())
		}
	}
}

func TestReExecutionByAnotherEngineIsCompared(t *testing.T) {
	n, first, _ := ledger(t)
	b := n.Bundle(first[0])
	b.Module = algorithm().Module
	if _, report := verify(t, n, b, liar{}); report.Step(receipt.StepReExecution).Verdict != receipt.Refuted {
		t.Error(report.String())
	}
}

func TestB1_BundleBoundsAndForm(t *testing.T) {
	n, first, _ := ledger(t)
	full := n.Bundle(first[0])
	for _, c := range []struct {
		name   string
		change func(b *recordv1.Bundle)
		want   reason.Reason
	}{
		{"raw vector", func(b *recordv1.Bundle) { b.RawVector = make([]byte, record.MaxRawVectorBytes+1) }, reason.TooLarge},
		{"module", func(b *recordv1.Bundle) { b.Module = make([]byte, receipt.MaxModuleBytes+1) }, reason.TooLarge},
		{"record", func(b *recordv1.Bundle) { b.Approval.Record = make([]byte, record.MaxBytes+1) }, reason.TooLarge},
		{"empty record", func(b *recordv1.Bundle) { b.Approval.Record = nil }, reason.TooLarge},
		{"path", func(b *recordv1.Bundle) { b.Approval.Proof = make([][]byte, 65) }, reason.TooLarge},
		{"hash", func(b *recordv1.Bundle) { b.Approval.Proof[0] = b.Approval.Proof[0][1:] }, reason.Malformed},
		{"nodes", func(b *recordv1.Bundle) { b.Nodes = make([]*recordv1.ProvenRecord, receipt.MaxNodes+1) }, reason.TooLarge},
		{"receipt", func(b *recordv1.Bundle) { b.Receipt = nil }, reason.Malformed},
	} {
		b := proto.Clone(full).(*recordv1.Bundle)
		c.change(b)
		if _, err := receipt.BuildBundle(b); reason.Of(err) != c.want {
			t.Errorf("%s: BuildBundle says %v, want %s", c.name, err, c.want)
		}
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := receipt.ParseBundle(encoded); reason.Of(err) != c.want {
			t.Errorf("%s: ParseBundle says %v, want %s", c.name, err, c.want)
		}
	}
	encoded, err := receipt.BuildBundle(full)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"unknown field": append(append([]byte(nil), encoded...), 0xf8, 0x07, 1),
		"no version":    encoded[2:],
		"twice":         append(append([]byte(nil), encoded...), encoded...),
		"too large":     make([]byte, receipt.MaxBundleBytes+1),
	} {
		if _, err := receipt.ParseBundle(b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

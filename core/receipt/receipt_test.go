package receipt_test

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
)

func TestReceiptVerifies(t *testing.T) {
	n, first, second := ledger(t)
	for _, index := range append(first, second...) {
		r, report := receipt.Verify(n.Receipt(index), n.Trust())
		if r == nil || report.Verdict != receipt.Verified || report.Conclusion != receipt.ConclusionCertified {
			t.Fatalf("record %d:\n%s", index, report.String())
		}
		names := make([]string, len(report.Steps))
		for i, s := range report.Steps {
			names[i] = s.Name
		}
		if got := strings.Join(names, ","); got != "canonical form,inclusion,certificate,record form,meter signature" {
			t.Errorf("steps are %s", got)
		}
		if s := report.Step(receipt.StepMeterSignature); s.Verdict != receipt.Undecidable || !s.Optional {
			t.Errorf("meter signature without a key: %+v", s)
		}
	}
}

// A verifier without trust, or with a bundle that ends before the tree, decides
// nothing; one of another network refutes.
func TestReceiptWithoutTrustIsUndecidable(t *testing.T) {
	n, first, _ := ledger(t)
	text := n.Receipt(first[0])
	if _, report := receipt.Verify(text, nil); report.Verdict != receipt.Undecidable {
		t.Errorf("without trust:\n%s", report.String())
	}
	ended, err := trust.New(trust.Epoch{Policy: n.Trust().Newest().Policy, LastSize: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, report := receipt.Verify(text, ended); report.Verdict != receipt.Undecidable {
		t.Errorf("with a bundle that ends at size 3:\n%s", report.String())
	}
	if _, report := receipt.Verify(text, strangers(t)); report.Verdict != receipt.Refuted {
		t.Errorf("under another network's trust:\n%s", report.String())
	}
}

// strangers is the trust bundle of another network with the same keys.
func strangers(t *testing.T) *trust.Bundle {
	t.Helper()
	n, _, _ := ledger(t)
	own := n.Trust().Newest().Policy
	var logs, replicas []tlog.VerifierKey
	for _, k := range own.Logs {
		k.Name = "other.lacre/0011223344556677"
		logs = append(logs, k)
	}
	for _, w := range own.Witnesses {
		replicas = append(replicas, w.Key)
	}
	policy, err := tlog.NewQuorumPolicy(logs, replicas, 3)
	if err != nil {
		t.Fatal(err)
	}
	b, err := trust.New(trust.Epoch{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestB2_EveryFlippedBitOfAReceiptIsRefused(t *testing.T) {
	n, first, _ := ledger(t)
	text, trusted := n.Receipt(first[0]), n.Trust()
	v := receipt.Verifier{Trust: trusted, Signatures: signature.NewCache(1 << 12), Certificates: new(tlog.Certificates), Brief: true}
	if _, report := v.Receipt(text); report.Verdict != receipt.Verified {
		t.Fatal(report.String())
	}
	for i := range text {
		for bit := range 8 {
			flipped := bytes.Clone(text)
			flipped[i] ^= 1 << bit
			if _, report := v.Receipt(flipped); report.Verdict == receipt.Verified {
				t.Fatalf("bit %d of byte %d (%q) flipped: still verified", bit, i, text[i])
			}
		}
	}
}

// Brief changes what a report says about what was verified, and nothing else.
func TestABriefReportHasTheSameVerdicts(t *testing.T) {
	n, first, _ := ledger(t)
	text := n.Receipt(first[0])
	for name, c := range map[string]struct {
		verifier receipt.Verifier
		text     []byte
	}{
		"good":         {receipt.Verifier{Trust: n.Trust()}, text},
		"no trust":     {receipt.Verifier{}, text},
		"cut":          {receipt.Verifier{Trust: n.Trust()}, text[:len(text)-1]},
		"other leaf":   {receipt.Verifier{Trust: n.Trust()}, bytes.Replace(text, []byte("index "), []byte("index 1"), 1)},
		"other origin": {receipt.Verifier{Trust: n.Trust()}, bytes.ReplaceAll(text, []byte(n.Newest().Checkpoint.Origin), []byte("other.example/0"))},
	} {
		full, want := c.verifier.Receipt(c.text)
		c.verifier.Brief, c.verifier.Certificates = true, new(tlog.Certificates)
		for range 2 {
			brief, got := c.verifier.Receipt(c.text)
			if (brief == nil) != (full == nil) || got.Verdict != want.Verdict || got.Conclusion != want.Conclusion || len(got.Steps) != len(want.Steps) {
				t.Fatalf("%s: brief\n%sfull\n%s", name, got.String(), want.String())
			}
			for i, s := range got.Steps {
				if s.Verdict == receipt.Verified {
					s.Detail = want.Steps[i].Detail
				}
				if s != want.Steps[i] {
					t.Errorf("%s: step %+v, in full %+v", name, s, want.Steps[i])
				}
			}
		}
	}
}

// The decoded parts, too: a bit of the record, of a hash or of a signature,
// encoded again in canonical form.
func TestB2_EveryFlippedBitUnderTheBase64IsRefused(t *testing.T) {
	n, first, _ := ledger(t)
	lines := strings.Split(string(n.Receipt(first[0])), "\n")
	v := receipt.Verifier{Trust: n.Trust(), Signatures: signature.NewCache(1 << 12), Certificates: new(tlog.Certificates)}
	flips := 0
	for l, line := range lines {
		words := strings.Split(line, " ")
		encoded := words[len(words)-1]
		b, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(b) < 16 {
			continue
		}
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				words[len(words)-1] = base64.StdEncoding.EncodeToString(b)
				b[i] ^= 1 << bit
				changed := append([]string(nil), lines...)
				changed[l] = strings.Join(words, " ")
				flips++
				if _, report := v.Receipt([]byte(strings.Join(changed, "\n"))); report.Verdict == receipt.Verified {
					t.Fatalf("line %d, byte %d, bit %d flipped: still verified", l+1, i, bit)
				}
			}
		}
	}
	if flips < 8*1000 {
		t.Errorf("only %d bits were flipped", flips)
	}
}

func TestB2_SurplusCosignatureIsRefused(t *testing.T) {
	n, first, _ := ledger(t)
	c := n.Newest().Checkpoint
	log, err := tlog.SignLog(n.Replicas[0].Log, c)
	if err != nil {
		t.Fatal(err)
	}
	var all []tlog.Cosignature
	for _, r := range n.Replicas {
		s, err := tlog.Cosign(r.Cosigner, state.CosignerName(c.Origin, r.ID), c, statetest.GenesisUnix)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	leaf, path := n.Store.Leaves[first[0]], n.Path(first[0])
	verdict := func(cosignatures []tlog.Cosignature) receipt.Report {
		other, err := tlog.NewCertificate(c, log, cosignatures)
		if err != nil {
			t.Fatal(err)
		}
		text, err := receipt.Build(leaf, first[0], path, other)
		if err != nil {
			t.Fatal(err)
		}
		_, report := receipt.Verify(text, n.Trust())
		return report
	}
	if report := verdict(all[:3]); report.Verdict != receipt.Verified {
		t.Errorf("three of four:\n%s", report.String())
	}
	for name, cosignatures := range map[string][]tlog.Cosignature{"four": all, "two": all[:2]} {
		if report := verdict(cosignatures); report.Step(receipt.StepCertificate).Verdict != receipt.Refuted {
			t.Errorf("%s of four:\n%s", name, report.String())
		}
	}
	// A surplus cosignature does not make up for a flipped one, wherever the bit is.
	for bit := range 8 * signature.Size {
		flipped := slices.Clone(all)
		flipped[1].Bytes[bit/8] ^= 1 << (bit % 8)
		if report := verdict(flipped); report.Verdict != receipt.Refuted {
			t.Fatalf("four of four, bit %d of one flipped:\n%s", bit, report.String())
		}
	}
}

func TestBuildRefusesWhatWouldNotVerify(t *testing.T) {
	n, first, _ := ledger(t)
	leaf := n.Store.Leaves[first[0]]
	path := n.Path(first[0])
	if _, err := receipt.Build(leaf, first[0]+1, path, n.Newest()); err == nil {
		t.Error("another index")
	}
	if _, err := receipt.Build(leaf, first[0], path[1:], n.Newest()); err == nil {
		t.Error("a short path")
	}
	if _, err := receipt.Build(leaf, first[0], path, nil); err == nil {
		t.Error("no certificate")
	}
	statement := n.Store.Leaves[0]
	if _, err := receipt.Build(statement, 0, n.Path(0), n.Newest()); err == nil {
		t.Error("a statement")
	}
	// Such a proof is a good tlog-proof, but no receipt.
	proof, err := tlog.NewProof(statement, 0, n.Path(0), n.Newest())
	if err != nil {
		t.Fatal(err)
	}
	r, report := receipt.Verify(proof.Text(), n.Trust())
	if r != nil || report.Step(receipt.StepRecordForm).Verdict != receipt.Refuted || report.Step(receipt.StepCertificate).Verdict != receipt.Verified {
		t.Error(report.String())
	}
	if _, err := receipt.Parse(proof.Text()); err == nil {
		t.Error("Parse took it")
	}
}

// What is refuted early leaves the later steps undecidable, and all are listed.
func TestReportAlwaysListsEveryStep(t *testing.T) {
	n, first, _ := ledger(t)
	_, garbage := receipt.Verify([]byte("garbage"), n.Trust())
	_, noBundle := receipt.VerifyBundle([]byte("garbage"), n.Trust(), nil)
	b := n.Bundle(first[0])
	b.Receipt = []byte("garbage")
	encoded, err := receipt.BuildBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	_, noReceipt := receipt.VerifyBundle(encoded, n.Trust(), nil)
	for _, c := range []struct {
		report receipt.Report
		steps  int
	}{{garbage, 5}, {noBundle, 14}, {noReceipt, 14}} {
		if len(c.report.Steps) != c.steps || c.report.Verdict != receipt.Refuted || c.report.Steps[0].Verdict != receipt.Refuted {
			t.Errorf("%d steps wanted:\n%s", c.steps, c.report.String())
		}
		for _, s := range c.report.Steps[1:] {
			if s.Verdict != receipt.Undecidable || s.Detail == "" {
				t.Errorf("step after garbage: %+v", s)
			}
		}
	}
}

package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

func TestGoodLedgerPasses(t *testing.T) {
	n := honest(t)
	o := options(n)
	var last audit.Progress
	calls := 0
	o.Progress = func(p audit.Progress) { last, calls = p, calls+1 }
	r := run(t, copyOf(n), o)
	head := n.Store.Head()
	if r.Verdict != receipt.Verified || len(r.Findings) != 0 || r.ReExecuted != 4 || r.Measurements != 4 ||
		r.Height != head.Height || r.TreeSize != head.Size || r.Records != head.Size || r.CertifiedHeight != head.Height || r.Network != n.ID {
		t.Errorf("%+v\n%s", r, r)
	}
	if calls != len(n.Store.Blocks) || last.Height != head.Height || last.Records != head.Size {
		t.Errorf("%d calls, the last %+v", calls, last)
	}
	if !strings.Contains(r.String(), "chosen with seed 1") || !strings.Contains(r.Conclusion, "all 4 measurements") {
		t.Error(r.String())
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// Accounting counts Measurement leaves only, for each organisation that endorsed.
func TestS5_ComputationsCountMeasurements(t *testing.T) {
	n := honest(t)
	r := run(t, copyOf(n), options(n))
	if got := r.Computations; len(got) != 3 || got["org-00"] != 4 || got["org-01"] != 3 || got["org-02"] != 1 || r.Codes[0] != 4 {
		t.Errorf("computations %v, codes %v", got, r.Codes)
	}
}

// The endorsers sign a wrong claim with good signatures, and the ledger takes
// it: the audit says what is wrong and who signed.
func TestCollusionIsExposedWithNames(t *testing.T) {
	for _, c := range []struct {
		kind audit.Kind
		lie  func(*claim.Claim)
	}{
		{audit.WrongResult, func(c *claim.Claim) { c.Result = statetest.Result(0, 55_000, 1) }},
		{audit.WrongResult, func(c *claim.Claim) { c.Result = statetest.Result(8) }}, // a valid result suppressed
		{audit.WrongFuel, func(c *claim.Claim) { c.FuelUsed++ }},
		{audit.WrongInput, func(c *claim.Claim) { c.Input[0] ^= 1 }},
	} {
		n := honest(t)
		lie := pulse("m-2", 500)
		lie.Lie = c.lie
		at := n.Measure([]int{1, 3}, pulse("m-1", 400), lie)
		r := run(t, copyOf(n), options(n))
		f := only(t, "collusion", r, c.kind)
		if r.Verdict != receipt.Refuted || f.Index != at[1] || f.Height != n.Store.Head().Height || f.Meter != "m-2" || f.Counter != 2 ||
			endorsers(f) != "[endorser-01 of org-01 endorser-03 of org-03]" || f.Claimed == f.Found || f.Claimed == "" {
			t.Errorf("%s:\n%+v\n%s", c.kind, f, r)
		}
	}
}

func TestRawVectorsAreChecked(t *testing.T) {
	n := honest(t)
	s := copyOf(n)
	s.block(0).Raw[1] = nil
	f := only(t, "absent", run(t, s, options(n)), audit.DataLoss)
	if f.Meter != "m-1" || f.Counter != 3 || f.Verdict != receipt.Refuted {
		t.Errorf("%+v", f)
	}
	s.block(0).Raw[1] = []byte{}
	only(t, "empty", run(t, s, options(n)), audit.DataLoss)
	s = copyOf(n)
	s.block(0).Raw[1][40] ^= 1
	r := run(t, s, options(n))
	f = only(t, "altered", r, audit.RawVectorAltered)
	if f.Meter != "m-1" || f.Counter != 3 || f.Claimed == f.Found || r.ReExecuted != 3 {
		t.Errorf("%+v", f)
	}
	s.block(0).Raw = nil
	only(t, "no list", run(t, s, options(n)), audit.DataLoss)
}

func TestModulesThatCannotRunAreUndecidable(t *testing.T) {
	n := honest(t)
	for name, modules := range map[string]func(digest.Digest) ([]byte, bool){
		"absent":  func(digest.Digest) ([]byte, bool) { return nil, false },
		"another": func(digest.Digest) ([]byte, bool) { return append(module(), 0), true },
	} {
		o := options(n)
		o.Modules = modules
		if r := run(t, copyOf(n), o); only(t, name, r, audit.ModuleUnavailable).Verdict != receipt.Undecidable || r.Verdict != receipt.Undecidable || r.ReExecuted != 0 {
			t.Errorf("%s:\n%s", name, r)
		}
	}
	o := options(n)
	o.Modules = nil
	if r := run(t, copyOf(n), o); r.Verdict != receipt.Verified || !strings.Contains(r.Conclusion, "nothing was re-executed") {
		t.Errorf("without a module store:\n%s", r)
	}
}

// withhold renews the module's approval as withheld.
func withhold(t *testing.T, n *receipttest.Network) {
	t.Helper()
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	terms, err := approval.Parse(value.GetApprovalPayload())
	if err != nil {
		t.Fatal(err)
	}
	renewed := n.Terms()
	terms.Sequence, terms.Predecessor, terms.Disclosure = renewed.Sequence, renewed.Predecessor, approval.Withheld
	n.Accept(n.SignApproval(terms, statetest.Body(), statetest.Maker()))
	if value, err = state.GetAlgorithm(n.Store, n.Algorithm); err != nil {
		t.Fatal(err)
	}
	n.Approval = digest.Digest(value.GetApproval())
}

// A module that the approval withholds is named so: who holds the escrowed copy
// re-executes, everybody else cannot decide.
func TestWithheldModuleIsUndecidableWithoutTheEscrowedCopy(t *testing.T) {
	n := network(t)
	withhold(t, n)
	n.Measure([]int{0, 1}, pulse("m-1", 900))
	o := options(n) // which knows the bytes; but they were not lent
	without := func(name string) {
		t.Helper()
		r := run(t, copyOf(n), o)
		if f := only(t, name, r, audit.ModuleWithheld); f.Verdict != receipt.Undecidable || r.ReExecuted != 0 || !strings.Contains(r.String(), "withheld by its approval") {
			t.Errorf("%s:\n%s", name, r)
		}
	}
	without("no escrow")
	o.Escrow = func(digest.Digest) ([]byte, bool) { return nil, false }
	without("an escrow of other modules")
	o.Escrow = installed
	if r := run(t, copyOf(n), o); r.Verdict != receipt.Verified || r.ReExecuted != 1 {
		t.Errorf("with the escrowed copy:\n%s", r)
	}
	o.Escrow = func(digest.Digest) ([]byte, bool) { return append(module(), 0), true }
	if r := run(t, copyOf(n), o); only(t, "altered", r, audit.ModuleUnavailable).Verdict != receipt.Undecidable {
		t.Errorf("with an altered copy:\n%s", r)
	}
}

// What was public first and withheld then is re-executed as each approval says.
func TestDisclosureIsTheApprovalsOfEachMeasurement(t *testing.T) {
	n := honest(t)
	before := run(t, copyOf(n), options(n)).ReExecuted
	withhold(t, n)
	n.Measure([]int{0, 1}, pulse("m-1", 900))
	r := run(t, copyOf(n), options(n))
	if only(t, "withheld later", r, audit.ModuleWithheld); before == 0 || r.ReExecuted != before {
		t.Errorf("%d of the %d public ones re-executed:\n%s", r.ReExecuted, before, r)
	}
}

// An approved module that breaks the profile is refused by the sandbox here too.
func TestModuleOutsideTheProfileIsUndecidable(t *testing.T) {
	bad := []byte("\x00asm\x01\x00\x00\x00")
	n := receipttest.Found(t, receipttest.Algorithm{
		Module: bad, Parameters: []int64{7, 8}, Schema: statetest.New(t, statetest.Options{}).Terms().Schema,
		Run: func([]byte, uint64) ([]byte, uint64) { return statetest.Result(0, 1, 2, 3), 1 },
	})
	n.Register("m-1")
	n.Measure([]int{0, 1}, pulse("m-1", 900))
	o := options(n)
	o.Modules = func(digest.Digest) ([]byte, bool) { return bad, true }
	f := only(t, "profile", run(t, copyOf(n), o), audit.ModuleUnavailable)
	if !strings.Contains(f.Detail, "the sandbox refuses it") {
		t.Error(f)
	}
}

func TestSampleIsChosenBySeed(t *testing.T) {
	n := network(t)
	var captures []receipttest.Capture
	for i := range 60 {
		captures = append(captures, pulse("m-1", int16(100+i)))
	}
	for _, c := range captures[:20] {
		c.Lie = func(c *claim.Claim) { c.FuelUsed++ } // findings show which were chosen
		n.Measure([]int{0, 1}, c)
	}
	n.Measure([]int{0, 1}, captures[20:]...)
	chosen := func(seed uint64, permille int) (string, uint64) {
		o := options(n)
		o.Seed, o.SamplePermille = seed, permille
		r := run(t, copyOf(n), o)
		var b bytes.Buffer
		for _, f := range r.Findings {
			b.WriteString(f.String() + "\n")
		}
		return b.String(), r.ReExecuted
	}
	all, count := chosen(1, 0)
	if count != 60 || strings.Count(all, "WRONG_FUEL") != 20 {
		t.Errorf("all: %d re-executed\n%s", count, all)
	}
	a, countA := chosen(7, 500)
	b, countB := chosen(7, 500)
	c, _ := chosen(8, 500)
	if a != b || countA != countB || a == c || countA < 10 || countA > 50 {
		t.Errorf("seed 7: %d and %d of 60, the same as seed 8: %v", countA, countB, a == c)
	}
	o := options(n)
	o.Seed = 0
	if one, two := run(t, copyOf(n), o), run(t, copyOf(n), o); one.Seed == 0 || one.Seed == two.Seed {
		t.Errorf("drawn seeds %d and %d", one.Seed, two.Seed)
	}
	o.SamplePermille = 1001
	if _, err := audit.Run(t.Context(), copyOf(n), o); err == nil {
		t.Error("1001 per mille")
	}
}

func TestSinceAndLedgerOnly(t *testing.T) {
	n := honest(t)
	s := copyOf(n)
	for _, b := range s.blocks[:len(s.blocks)-1] {
		b.Raw = nil
	}
	o := options(n)
	o.Since = n.Store.Head().Height
	if r := run(t, s, o); r.Verdict != receipt.Verified || r.ReExecuted != 1 || r.FromHeight != 0 || r.Measurements != 4 {
		t.Errorf("since the newest:\n%s", r)
	}
	s.block(0).Raw = nil
	o = options(n)
	o.LedgerOnly = true
	if r := run(t, s, o); r.Verdict != receipt.Verified || r.ReExecuted != 0 {
		t.Errorf("ledger only:\n%s", r)
	}
}

func TestResumeGoesOnWhereItEnded(t *testing.T) {
	n := honest(t)
	whole := copyOf(n)
	full := run(t, whole, options(n))
	for cut := 1; cut < len(whole.blocks); cut++ {
		first := run(t, &source{blocks: whole.blocks[:cut]}, options(n))
		kept, err := audit.ParseState(first.State.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		o := options(n)
		o.Resume = kept
		rest := run(t, whole, o)
		if rest.Verdict != receipt.Verified || rest.FromHeight != uint64(cut) || first.Records+rest.Records != full.Records ||
			first.ReExecuted+rest.ReExecuted != full.ReExecuted || !bytes.Equal(rest.State.Bytes(), full.State.Bytes()) {
			t.Errorf("cut at %d:\n%s%s", cut, first, rest)
		}
		if !bytes.Equal(kept.Bytes(), first.State.Bytes()) {
			t.Error("the resumed state was changed")
		}
	}
	// Nothing new is a good audit, too.
	o := options(n)
	o.Resume = full.State
	if r := run(t, whole, o); r.Verdict != receipt.Verified || r.Records != 0 {
		t.Errorf("nothing new:\n%s", r)
	}
}

// A source that fails on the way, as a lost connection does, leaves a state from
// which the audit goes on; one that fails within a block does not.
func TestAuditGoesOnAfterALostConnection(t *testing.T) {
	n := honest(t)
	whole := copyOf(n)
	full := run(t, whole, options(n))
	for cut := 1; cut < len(whole.blocks); cut++ {
		lost := errors.New("connection lost")
		first, err := audit.Run(t.Context(), &source{blocks: whole.blocks[:cut], fail: lost}, options(n))
		if !errors.Is(err, lost) || first.State == nil || first.State.Next() != uint64(cut) {
			t.Fatalf("lost after %d blocks: %v, state %v", cut, err, first.State)
		}
		o := options(n)
		o.Resume = first.State
		rest := run(t, whole, o)
		if rest.Verdict != receipt.Verified || first.ReExecuted+rest.ReExecuted != full.ReExecuted || !bytes.Equal(rest.State.Bytes(), full.State.Bytes()) {
			t.Errorf("lost after %d blocks:\n%s%s", cut, first, rest)
		}
	}
	if first, err := audit.Run(t.Context(), &source{fail: errors.New("refused")}, options(n)); err == nil || first.State != nil {
		t.Errorf("lost before the first block: %v, a state %v", err, first.State != nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o := options(n)
	o.Progress = func(audit.Progress) { cancel() }
	if first, err := audit.Run(ctx, whole, o); err == nil || first.State != nil {
		t.Errorf("interrupted, so that re-executions may be missing: %v, a state %v", err, first.State != nil)
	}
}

// Blocks are read again without a replay, and are those that replayed, or an error.
func TestBlocksAreReadAgain(t *testing.T) {
	n := honest(t)
	whole := copyOf(n)
	replayed := run(t, whole, options(n)).State
	var visited []*audit.Block
	if err := replayed.Again(t.Context(), whole, func(b *audit.Block) { visited = append(visited, b) }); err != nil || !slices.Equal(visited, whole.blocks) {
		t.Fatalf("%d of %d blocks: %v", len(visited), len(whole.blocks), err)
	}
	lost := errors.New("connection lost")
	for name, c := range map[string]struct {
		source *source
		want   string
	}{
		"a block less":       {&source{blocks: whole.blocks[:len(whole.blocks)-1]}, "has it no more"},
		"a block left out":   {&source{blocks: slices.Delete(slices.Clone(whole.blocks), 1, 2)}, "block 1 again: the source gives block 2"},
		"a lost connection":  {&source{blocks: whole.blocks[:2], fail: lost}, "connection lost"},
		"another leaf in it": {func() *source { s := copyOf(n); s.blocks[1].Leaves[0][9] ^= 1; return s }(), "not the one that it gave before"},
	} {
		if err := replayed.Again(t.Context(), c.source, func(*audit.Block) {}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := replayed.Again(ctx, whole, func(*audit.Block) { t.Error("visited") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What the transition reads again is what replayed: whatever a source gives
// instead, also after the state was kept, is an error and decides nothing.
func TestASourceCannotChangeWhatItGave(t *testing.T) {
	n := honest(t)
	kept := copyOf(n)
	report := run(t, kept, options(n))
	replayed, err := audit.ParseState(report.State.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for index, want := range n.Store.Leaves {
		got, err := replayed.ViewFrom(t.Context(), kept).Record(uint64(index))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("record %d: %x, %v", index, got, err)
		}
	}
	if _, err := replayed.ViewFrom(t.Context(), kept).Record(uint64(len(n.Store.Leaves))); err == nil {
		t.Error("a record beyond the end is read")
	}
	for name, change := range map[string]func(s *source){
		"a leaf":         func(s *source) { s.blocks[3].Leaves[0][5] ^= 1 },
		"a leaf less":    func(s *source) { s.blocks[3].Leaves = s.blocks[3].Leaves[1:] },
		"another order":  func(s *source) { slices.Reverse(s.blocks[3].Leaves) },
		"another block":  func(s *source) { s.blocks[3] = s.blocks[2] },
		"its number":     func(s *source) { s.blocks[3].Height = 4 },
		"no block":       func(s *source) { s.blocks = s.blocks[:3] },
		"an error, once": func(s *source) { s.blocks, s.fail = s.blocks[:3], errors.New("the line is down") },
	} {
		t.Run(name, func(t *testing.T) {
			s := copyOf(n)
			change(s)
			if got, err := replayed.ViewFrom(t.Context(), s).Record(n.Store.Blocks[3].FirstIndex); err == nil {
				t.Errorf("record is %x", got)
			}
		})
	}
}

func TestAuditEndsWithTheSourceAndTheContext(t *testing.T) {
	n := honest(t)
	s := copyOf(n)
	s.fail = errors.New("disk on fire")
	if r, err := audit.Run(t.Context(), s, options(n)); !errors.Is(err, s.fail) || r == nil || r.Height != n.Store.Head().Height {
		t.Errorf("%v, %v", err, r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o := options(n)
	o.Progress = func(p audit.Progress) {
		if p.Height == 2 {
			cancel()
		}
	}
	if r, err := audit.Run(ctx, copyOf(n), o); !errors.Is(err, context.Canceled) || r.Height != 2 {
		t.Errorf("%v, %v", err, r)
	}
	if r := run(t, &source{}, options(n)); r.Verdict != receipt.Undecidable {
		t.Errorf("an empty source:\n%s", r)
	}
}

func TestStateIsReadBackExactly(t *testing.T) {
	n := honest(t)
	good := run(t, copyOf(n), options(n)).State.Bytes()
	for _, at := range []int{0, 25, len(good) / 2, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if _, err := audit.ParseState(bad); !errors.Is(err, audit.ErrState) {
			t.Errorf("byte %d flipped: %v", at, err)
		}
	}
	for _, n := range []int{0, 20, 60, len(good) - 1} {
		if _, err := audit.ParseState(good[:n]); !errors.Is(err, audit.ErrState) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
}

package canary_test

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/cli/internal/canary"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/vector"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// measure is the approved module: the speed is a sample's height.
func measure(input []byte, _ uint64) ([]byte, uint64) {
	in, err := abi.DecodeInput(input)
	if err != nil {
		panic(err)
	}
	return statetest.Result(abi.CodeValid, int64(in.Samples[0][16])), 1
}

type module struct{}

func (module) Run(_, input []byte, limit uint64) ([]byte, uint64, error) {
	result, used := measure(input, limit)
	return result, used, nil
}

// bench is a ledger with a meter, and a notified body that tests.
type bench struct {
	*receipttest.Network
	t       *testing.T
	counter uint64
	tests   map[string]*recordv1.CanaryExpectation
}

func newBench(t *testing.T) *bench {
	n := receipttest.Found(t, receipttest.Algorithm{
		Module: []byte("a module"), Parameters: []int64{7}, Run: measure,
		Schema: approval.Schema{Parameters: []approval.Field{{Name: "offset", Unit: "1"}}, Values: []approval.Field{{Name: "speed", Unit: "km/h"}}},
	})
	n.Register("m-1")
	return &bench{Network: n, t: t, counter: 1, tests: map[string]*recordv1.CanaryExpectation{}}
}

// expect is a vector of the meter's counter, and the result that the body says.
func expect(counter uint64, height int16, says int64) *recordv1.CanaryVector {
	raw, err := vector.Encode(recordv1.Encoding_ENCODING_INT16, receipttest.Pulse(height, 5))
	if err != nil {
		panic(err)
	}
	d := sample.DigestRaw(raw)
	return &recordv1.CanaryVector{MeterId: "m-1", Counter: counter, RawDigest: d[:], Result: statetest.Result(abi.CodeValid, says)}
}

func (b *bench) commit(id string, vectors ...*recordv1.CanaryVector) {
	b.t.Helper()
	e := &recordv1.CanaryExpectation{Salt: bytes.Repeat([]byte{byte(len(b.tests))}, 32), Vectors: vectors}
	b.tests[id] = e
	b.commitTo(id, state.CanaryCommitment(wire.MustEncode(e)))
}

func (b *bench) commitTo(id string, d digest.Digest) {
	b.t.Helper()
	b.NowUnix++
	b.Accept(b.Sign(&recordv1.CanaryCommitment{
		Header: b.Header(record.SubjectCanary(id)), CanaryId: id, NotifiedBody: "nb", Commitment: d[:],
	}, statetest.Body()))
}

// send lets vehicles pass, whose results these endorsers sign.
func (b *bench) send(endorsers []int, lie func(*claim.Claim), heights ...int16) {
	b.t.Helper()
	b.NowUnix++
	var list []receipttest.Capture
	for _, h := range heights {
		list = append(list, receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(h, 5), Lie: lie})
		b.counter++
	}
	b.Measure(endorsers, list...)
}

func (b *bench) reveal(id string, verdicts ...recordv1.CanaryVerdict) {
	b.t.Helper()
	b.NowUnix++
	b.Accept(b.Sign(&recordv1.CanaryReveal{
		Header: b.Header(record.SubjectCanary(id)), CanaryId: id, NotifiedBody: "nb", Expectation: wire.MustEncode(b.tests[id]), Verdicts: verdicts,
	}, statetest.Body()))
}

// disagree is a gateway's report.
func (b *bench) disagree(counter uint64, detail string) {
	b.t.Helper()
	report := wire.MustEncode(&recordv1.EventReport{
		NetworkId: b.ID.Bytes(), Reporter: b.Gateway.ID, Kind: recordv1.EventKind_EVENT_KIND_ENDORSERS_DISAGREE,
		Subject: "meter/m-1", Counter: counter, Detail: detail,
	})
	sig, err := signature.Sign(b.Gateway.Key, signature.Ed25519ZIP215, record.EventMessage(report))
	if err != nil {
		b.t.Fatal(err)
	}
	leaf, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_SecurityEvent{SecurityEvent: &recordv1.SecurityEvent{Report: report, Signature: sig}}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Accept(leaf)
}

const (
	isMatch    = recordv1.CanaryVerdict_CANARY_VERDICT_MATCH
	isMismatch = recordv1.CanaryVerdict_CANARY_VERDICT_MISMATCH
	isMissing  = recordv1.CanaryVerdict_CANARY_VERDICT_MISSING
)

// source is a copy of a ledger with its raw vectors; certified is the first
// height without a certificate.
type source struct {
	blocks []*audit.Block
	again  func(*audit.Block) // changes what is read from a height on
}

func copyOf(b *bench, certified int) *source {
	s := &source{}
	for i, ref := range b.Store.Blocks {
		one := &audit.Block{Height: ref.Height}
		if i < certified {
			one.Certificate = b.Certificate(ref.Height)
		}
		for at, leaf := range b.Store.BlockLeaves(ref.Height) {
			one.Leaves = append(one.Leaves, bytes.Clone(leaf))
			one.Raw = append(one.Raw, b.Raw(ref.FirstIndex+uint64(at)))
		}
		s.blocks = append(s.blocks, one)
	}
	return s
}

func (s *source) Blocks(_ context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for _, b := range s.blocks[from:] {
			if from > 0 && s.again != nil {
				s.again(b)
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

func (b *bench) options() canary.Options {
	return canary.Options{
		Trust: b.Trust(), Overdue: time.Hour, Runner: module{},
		Modules: func(d digest.Digest) ([]byte, bool) { return []byte("a module"), d == b.Algorithm },
	}
}

func (b *bench) list(o canary.Options) *canary.List {
	b.t.Helper()
	l, report, err := canary.Of(b.t.Context(), copyOf(b, 1<<30), o)
	if err != nil || l == nil {
		b.t.Fatalf("%v\n%v", err, report)
	}
	return l
}

func lies(value int64) func(*claim.Claim) {
	return func(c *claim.Claim) { c.Result = statetest.Result(abi.CodeValid, value) }
}

// Whose a mismatch is shows by running the module again: the endorsers', the
// notified body's, or that the meter was asked something else.
func TestListSaysWhoseAMismatchIs(t *testing.T) {
	b := newBench(t)
	b.commit("all-of-them", expect(1, 900, 900), expect(2, 800, 800), expect(3, 700, 701), expect(4, 600, 600), expect(5, 500, 500), expect(6, 400, 400))
	b.send([]int{0, 1}, nil, 900)
	b.send([]int{0, 2}, lies(80), 800) // they lie
	b.send([]int{0, 1}, nil, 700)      // the body erred
	b.send([]int{1, 3}, nil, 601)      // the meter had another vector
	b.send([]int{2, 3}, lies(50), 501) // and here they lie about it
	b.disagree(2, "claim a of endorser-00, endorser-02; claim b of endorser-01")
	b.reveal("all-of-them", isMatch, isMismatch, isMismatch, isMismatch, isMismatch, isMissing)
	l := b.list(b.options())
	c := l.Canaries[0]
	if c.Standing != canary.Revealed || c.Match != 1 || c.Mismatch != 4 || c.Missing != 1 || len(c.Remarks) != 0 || l.Objections() != 5 {
		t.Errorf("%+v", c)
	}
	for i, want := range []struct {
		cause   canary.Cause
		by      string
		reports int
	}{
		{"", "org-00 org-01", 0}, {canary.WrongResult, "org-00 org-02", 1}, {canary.WrongExpectation, "org-00 org-01", 0},
		{canary.OtherVector, "org-01 org-03", 0}, {canary.WrongResult, "org-02 org-03", 0}, {"", "", 0},
	} {
		v := c.Vectors[i]
		if v.Cause != want.cause || strings.Join(v.Organisations, " ") != want.by || len(v.Disagreements) != want.reports || v.SignedAfter != (want.by != "") {
			t.Errorf("vector %d: %+v, want %+v", i+1, v, want)
		}
	}
	if want := []canary.Tested{{"org-00", 1, 1, 1}, {"org-01", 1, 0, 2}, {"org-02", 0, 2, 0}, {"org-03", 0, 1, 1}}; !slices.Equal(l.Organisations, want) {
		t.Errorf("%+v, want %+v", l.Organisations, want)
	}
	if text := l.String(); !strings.Contains(text, "counter 2  mismatch  record") || !strings.Contains(text, "claim b of endorser-01") ||
		!strings.Contains(text, "the endorsers' result is wrong: expected code 0, values [800], endorsed code 0, values [80]; run again code 0, values [800]") {
		t.Errorf("%s", text)
	}
	o := b.options()
	o.Modules = nil
	if v := b.list(o).Canaries[0].Vectors[1]; v.Cause != canary.NotRun {
		t.Errorf("without the module: %+v", v)
	}
}

// A list that goes on from a kept state is the list of a whole replay.
func TestResumedListIsTheSame(t *testing.T) {
	b := newBench(t)
	b.commit("first", expect(1, 900, 900), expect(2, 800, 800))
	b.send([]int{0, 1}, nil, 900)
	b.send([]int{0, 2}, lies(80), 800)
	b.disagree(2, "claim a of endorser-00; claim b of endorser-01")
	b.reveal("first", isMatch, isMismatch)
	b.commit("second", expect(3, 700, 700))
	want := b.list(b.options()).String()
	for cut := 1; cut <= len(b.Store.Blocks); cut++ {
		all := copyOf(b, 1<<30)
		before, err := audit.Run(t.Context(), &source{blocks: all.blocks[:cut]}, audit.Options{Trust: b.Trust(), LedgerOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		o := b.options()
		o.Resume = before.State
		if got := b.list(o).String(); got != want {
			t.Errorf("resumed at %d:\n%s\nwant\n%s", cut, got, want)
		}
	}
	o := b.options()
	all, err := audit.Run(t.Context(), copyOf(b, 1<<30), audit.Options{Trust: b.Trust(), LedgerOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	o.Resume = all.State
	other := copyOf(b, 1<<30)
	other.blocks[3].Leaves[0][5] ^= 1
	if l, _, err := canary.Of(t.Context(), other, o); err == nil || l != nil {
		t.Error("another block passed")
	}
}

// A body that commits often and shows what it likes is seen to: what it never
// revealed, what it committed to twice, and what it knew before.
func TestListShowsWhatABodyWithholds(t *testing.T) {
	b := newBench(t)
	b.commit("hopeful", expect(1, 900, 900), expect(2, 800, 800))
	b.commit("hedged", expect(1, 900, 1), expect(2, 800, 2))
	b.commitTo("copied", state.CanaryCommitment(wire.MustEncode(b.tests["hopeful"])))
	b.send([]int{0, 1}, lies(1), 900)
	b.reveal("hedged", isMatch, isMissing)
	b.send([]int{0, 1}, nil, 800)
	b.NowUnix += 30 * 60
	b.commit("fresh", expect(3, 700, 700))
	b.NowUnix += 45 * 60
	b.send([]int{0, 1}, nil, 700)
	l := b.list(b.options())
	standing := map[string]canary.Standing{}
	for _, c := range l.Canaries {
		standing[c.ID] = c.Standing
	}
	for id, want := range map[string]canary.Standing{"hopeful": canary.Overdue, "hedged": canary.Revealed, "copied": canary.Overdue, "fresh": canary.Open} {
		if standing[id] != want {
			t.Errorf("%s is %s, want %s", id, standing[id], want)
		}
	}
	if v := l.Canaries[1].Vectors[1]; !v.AfterReveal || v.Verdict != "missing" || len(l.Organisations) != 1+1 || l.Organisations[0].Match != 1 {
		t.Errorf("measured after the reveal: %+v, %+v", v, l.Organisations)
	}
	if !strings.Contains(l.Canaries[2].Remarks[0], "the same commitment as of canary hopeful") {
		t.Errorf("copied: %q", l.Canaries[2].Remarks)
	}
	for _, want := range []string{"OVERDUE: not revealed for 1h", "OPEN: not revealed for 45m", "never revealed", "measured after the reveal", "4 canaries: 1 revealed, 1 open, 2 overdue"} {
		if !strings.Contains(l.String(), want) {
			t.Errorf("no %q in\n%s", want, l)
		}
	}

	b.reveal("hopeful", isMismatch, isMatch) // late, and both stand side by side
	l = b.list(b.options())
	if got := strings.Join(l.Canaries[1].Remarks, "; "); !strings.Contains(got, "2 of its vectors were committed to by canary hopeful too") {
		t.Errorf("%q", got)
	}
	before := b.options() // as it stood before anything was revealed
	before.AtUnixNano = b.Store.Blocks[5].BlockTimeUnixNano
	if l := b.list(before); len(l.Canaries) != 3 || l.Canaries[0].Standing != canary.Open || l.Canaries[1].Standing != canary.Open {
		t.Errorf("as of block 5: %+v", l.Canaries)
	}
}

// What a meter signed before the commitment, and delivered after it, the body may
// have seen computed: the list says that nothing excludes it.
func TestListShowsSamplesThatMayBeOlder(t *testing.T) {
	b := newBench(t)
	known := b.Store.Head()
	b.commit("late", expect(1, 900, 900))
	b.NowUnix++
	b.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-1", Samples: receipttest.Pulse(900, 5), Header: func(h *sample.Header) {
		h.KnownHeight, h.KnownBlock = known.Height, known.Header
	}})
	b.reveal("late", isMatch)
	c := b.list(b.options()).Canaries[0]
	if c.Vectors[0].SignedAfter || len(c.Remarks) != 1 || !strings.Contains(c.Remarks[0], "do not show that they were signed after") {
		t.Errorf("%+v", c)
	}
}

// There is no list of a ledger that does not hold, and nothing in it that is not
// certified; a source that changes what it gave is found out.
func TestListIsOfTheCertifiedLedger(t *testing.T) {
	b := newBench(t)
	b.commit("one", expect(1, 900, 900))
	b.send([]int{0, 1}, nil, 900)
	b.reveal("one", isMatch)
	altered := copyOf(b, 1<<30)
	leaf := altered.blocks[len(altered.blocks)-1].Leaves[0]
	leaf[len(leaf)/2] ^= 1
	if l, report, err := canary.Of(t.Context(), altered, b.options()); l != nil || err != nil || report.Verdict != receipt.Refuted {
		t.Errorf("altered: %+v, %v", l, err)
	}
	l, _, err := canary.Of(t.Context(), copyOf(b, len(b.Store.Blocks)-1), b.options())
	if err != nil || l.Canaries[0].Standing != canary.Open {
		t.Errorf("the reveal is not certified: %+v, %v", l, err)
	}
	changing := copyOf(b, 1<<30)
	changing.again = func(one *audit.Block) { one.Leaves = one.Leaves[1:] }
	if l, _, err := canary.Of(t.Context(), changing, b.options()); err == nil || l != nil || !strings.Contains(err.Error(), "not the one that it gave before") {
		t.Errorf("read again it is another: %+v, %v", l, err)
	}
}

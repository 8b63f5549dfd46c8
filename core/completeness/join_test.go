package completeness_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/completeness"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state"
)

// Files that follow each other are one span; what lies between them is missing.
func TestS6_FilesJoinToOneSpan(t *testing.T) {
	n := ledger(t)
	one := func(first, last uint64, counters ...uint64) *completeness.Result {
		return verify(t, n, file(t, n, "m-1", first, last, counters...))
	}
	for name, c := range map[string]struct {
		files   []*completeness.Result
		want    receipt.Verdict
		present uint64
		missing []completeness.Range
		says    string
	}{
		"one":             {[]*completeness.Result{one(1, 5, 1, 2, 3, 4, 5)}, receipt.Verified, 5, nil, "from counter 1 to 5"},
		"two":             {[]*completeness.Result{one(1, 3, 1, 2, 3), one(4, 5, 4, 5)}, receipt.Verified, 5, nil, "all 5 samples of meter m-1 from counter 1 to 5"},
		"in any order":    {[]*completeness.Result{one(3, 3, 3), one(4, 5, 4, 5), one(1, 2, 1, 2)}, receipt.Verified, 5, nil, "complete"},
		"a gap":           {[]*completeness.Result{one(1, 2, 1, 2), one(4, 5, 4, 5)}, receipt.Undecidable, 4, []completeness.Range{{First: 3, Last: 3}}, "missing counters: 3"},
		"gaps that touch": {[]*completeness.Result{one(1, 2, 1), one(4, 5, 5)}, receipt.Undecidable, 2, []completeness.Range{{First: 2, Last: 4}}, "missing counters: 2 to 4"},
		"an overlap":      {[]*completeness.Result{one(1, 3, 1, 2, 3), one(3, 5, 3, 4, 5)}, receipt.Refuted, 3, nil, "counters 3 to 3 are in two files"},
		"another meter":   {[]*completeness.Result{one(2, 5, 2, 3, 4, 5), verify(t, n, file(t, n, "m-2", 1, 1, 1))}, receipt.Refuted, 1, nil, "are of meter m-1"},
		"none":            {nil, receipt.Refuted, 0, nil, "there is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(c.files)
			r := completeness.Join(c.files)
			if r.Verdict != c.want || r.Present != c.present || !slices.Equal(r.Missing, c.missing) || !strings.Contains(r.Conclusion, c.says) {
				t.Errorf("%+v", r)
			}
			if !slices.Equal(c.files, before) {
				t.Error("the caller's list is changed")
			}
		})
	}
	unknown := completeness.Verify(mustBuild(t, n), nil)
	if r := completeness.Join([]*completeness.Result{one(1, 3, 1, 2, 3), unknown}); r.Verdict != receipt.Undecidable || !strings.Contains(r.Conclusion, "no trust bundle") {
		t.Errorf("a file of which nobody says who certifies: %+v", r)
	}
	if r := completeness.Join([]*completeness.Result{one(1, 3, 1, 2, 3), completeness.Verify([]byte("x"), n.Trust())}); r.Verdict != receipt.Refuted {
		t.Errorf("a file that is none: %+v", r)
	}
}

// Each file alone holds; the second follows another sample than the first ends
// with.
func TestS3_ABrokenLinkBetweenFilesIsRefuted(t *testing.T) {
	n := ledger(t)
	for name, c := range map[string]struct {
		previous digest.Digest
		want     receipt.Verdict
	}{"linked": {digest.Zero, receipt.Verified}, "broken": {digest.Plain([]byte("another")), receipt.Refuted}} {
		t.Run(name, func(t *testing.T) {
			one, sampleOne := forged(t, n, 1, digest.Zero)
			if c.previous.IsZero() {
				c.previous = sampleOne
			}
			two, _ := forged(t, n, 2, c.previous)
			leaf := n.Store.Leaves[registrationOf(t, n, "m-2")]
			first, second := certify(t, n, leaf, one), certify(t, n, leaf, one, two)
			second.FirstCounter, second.Measurements = 2, second.Measurements[1:]
			a, b := verify(t, n, first), verify(t, n, second)
			if a.Verdict != receipt.Verified || b.Verdict != receipt.Verified {
				t.Fatalf("%+v, %+v", a, b)
			}
			r := completeness.Join([]*completeness.Result{b, a})
			if r.Verdict != c.want || c.want == receipt.Refuted && !strings.Contains(r.Conclusion, "counter 2 follows sample") {
				t.Errorf("%+v", r)
			}
		})
	}
}

func registrationOf(t *testing.T, n *receipttest.Network, meter string) uint64 {
	t.Helper()
	m, err := state.GetMeter(n.Store, meter)
	if err != nil {
		t.Fatal(err)
	}
	return m.GetRegistrationIndex()
}

func mustBuild(t *testing.T, n *receipttest.Network) []byte {
	t.Helper()
	encoded, err := completeness.Build(file(t, n, "m-1", 4, 5, 4, 5))
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

package completeness

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/lacre-metrology/lacre/core/completeness"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// ledger has samples 1 to 4 of meter m-1, a minute apart, in blocks of their own.
func ledger(t *testing.T) *receipttest.Network {
	n := &receipttest.Network{Network: statetest.New(t, statetest.Options{})}
	n.Network.Approve()
	m := n.Network.Register("m-1")
	for range 4 {
		n.NowUnix += 60
		n.AcceptCaptures(m.Capture())
	}
	return n
}

// source is a copy of a ledger with certificates up to a height.
type source struct {
	blocks []*audit.Block
	fail   error
}

func copyOf(n *receipttest.Network, certified int) *source {
	s := &source{}
	for i, ref := range n.Store.Blocks {
		b := &audit.Block{Height: ref.Height}
		if i < certified {
			b.Certificate = n.Certificate(ref.Height)
		}
		for _, leaf := range n.Store.BlockLeaves(ref.Height) {
			b.Leaves = append(b.Leaves, bytes.Clone(leaf))
		}
		s.blocks = append(s.blocks, b)
	}
	return s
}

func (s *source) Blocks(_ context.Context, from uint64) iter.Seq2[*audit.Block, error] {
	return func(yield func(*audit.Block, error) bool) {
		for _, b := range s.blocks[from:] {
			if !yield(b, nil) {
				return
			}
		}
		if s.fail != nil {
			yield(nil, s.fail)
		}
	}
}

func TestS6_CollectedFileVerifies(t *testing.T) {
	n := ledger(t)
	second := statetest.Second
	for name, c := range map[string]struct {
		o           Options
		certified   int
		first, last uint64
		missing     int
	}{
		"by counters":             {Options{First: 1, Last: 4}, 100, 1, 4, 0},
		"a part":                  {Options{First: 2, Last: 3}, 100, 2, 3, 0},
		"beyond the newest":       {Options{First: 3, Last: 6}, 100, 3, 6, 1},
		"by captures":             {Options{FromUnixNano: (statetest.GenesisUnix + 120) * second, UntilUnixNano: (statetest.GenesisUnix + 240) * second}, 100, 1, 4, 0}, // with both neighbours
		"by captures, at the end": {Options{FromUnixNano: (statetest.GenesisUnix + 200) * second, UntilUnixNano: (statetest.GenesisUnix + 900) * second}, 100, 3, 4, 0},
		"without an end":          {Options{FromUnixNano: 1}, 100, 1, 4, 0},
		"the last two blocks":     {Options{First: 1, Last: 4}, len(n.Store.Blocks) - 2, 1, 4, 1}, // are not certified
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Trust, c.o.Meter = n.Trust(), "m-1"
			files, _, err := Of(t.Context(), copyOf(n, c.certified), c.o)
			if err != nil || len(files) != 1 {
				t.Fatalf("%d files, %v", len(files), err)
			}
			r := completeness.Verify(files[0], n.Trust())
			want := receipt.Verified
			if c.missing > 0 {
				want = receipt.Undecidable
			}
			if r.Verdict != want || r.First != c.first || r.Last != c.last || len(r.Missing) != c.missing {
				t.Errorf("%+v; want %v, %d to %d, %d ranges missing", r, want, c.first, c.last, c.missing)
			}
		})
	}
}

// What goes on from a kept state gives the very file that a whole replay gives,
// and no file when the source gives other blocks, or another certificate, now.
func TestResumedGivesTheSameFile(t *testing.T) {
	n := ledger(t)
	o := Options{Trust: n.Trust(), Meter: "m-1", First: 1, Last: 4}
	whole, _, err := Of(t.Context(), copyOf(n, 100), o)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut <= len(n.Store.Blocks); cut++ {
		before, err := audit.Run(t.Context(), &source{blocks: copyOf(n, 100).blocks[:cut]}, audit.Options{Trust: n.Trust(), LedgerOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		o.Resume = before.State
		files, report, err := Of(t.Context(), copyOf(n, 100), o)
		if err != nil || len(files) != 1 || !bytes.Equal(files[0], whole[0]) || report.FromHeight != uint64(cut) {
			t.Errorf("resumed at %d: %d files, %v", cut, len(files), err)
		}
	}
	other := copyOf(n, 100)
	other.blocks[2].Leaves[0][5] ^= 1
	if files, _, err := Of(t.Context(), other, o); err == nil || files != nil {
		t.Error("another block passed")
	}
	other = copyOf(n, 100)
	last := len(other.blocks) - 1
	other.blocks[last].Certificate = other.blocks[last-1].Certificate
	if files, _, err := Of(t.Context(), other, o); err == nil || files != nil {
		t.Error("another certificate passed")
	}
}

// A longer span is several files, which join to one.
func TestS6_ALongSpanIsSeveralFiles(t *testing.T) {
	n := ledger(t)
	m := n.Network.Register("m-2")
	for range 9 {
		var captures []*statetest.Capture
		for range 120 {
			captures = append(captures, m.Capture())
		}
		n.NowUnix++
		n.AcceptCaptures(captures...)
	}
	for last, want := range map[uint64]struct {
		files   int
		verdict receipt.Verdict
	}{1024: {1, receipt.Verified}, 1080: {2, receipt.Verified}, 3000: {3, receipt.Undecidable}} {
		files, _, err := Of(t.Context(), copyOf(n, 100), Options{Trust: n.Trust(), Meter: "m-2", First: 1, Last: last})
		if err != nil || len(files) != want.files {
			t.Fatalf("up to %d: %d files, %v", last, len(files), err)
		}
		var results []*completeness.Result
		for _, f := range files {
			results = append(results, completeness.Verify(f, n.Trust()))
		}
		if r := completeness.Join(results); r.Verdict != want.verdict || r.Present != min(last, 1080) || r.Last != last {
			t.Errorf("up to %d: %+v", last, r)
		}
	}
}

// What is missing at the end of a day shows by the sample after it.
func TestS6_AGapAtTheEndOfATimeIsNamed(t *testing.T) {
	n := &receipttest.Network{Network: statetest.New(t, statetest.Options{})}
	n.Network.Approve()
	m := n.Network.Register("m-1")
	n.AcceptCaptures(m.Capture())
	n.NowUnix += 60
	m.Capture() // of the day, and never delivered
	n.NowUnix += 86_400
	n.AcceptCaptures(m.Capture())
	files, _, err := Of(t.Context(), copyOf(n, 100), Options{Trust: n.Trust(), Meter: "m-1", FromUnixNano: 1, UntilUnixNano: (n.NowUnix - 60) * statetest.Second})
	if err != nil || len(files) != 1 {
		t.Fatal(err)
	}
	if r := completeness.Verify(files[0], n.Trust()); r.Verdict != receipt.Undecidable || len(r.Missing) != 1 || r.Missing[0].First != 2 {
		t.Errorf("%+v", r)
	}
}

func TestCollectedFileIsNoneOfWhatDoesNotHold(t *testing.T) {
	n := ledger(t)
	o := Options{Trust: n.Trust(), Meter: "m-1", First: 1, Last: 4}
	altered := copyOf(n, 100)
	altered.blocks[3].Leaves[1][30] ^= 1
	if file, report, err := Of(t.Context(), altered, o); file != nil || err != nil || report.Verdict != receipt.Refuted {
		t.Errorf("altered: %d bytes, %v, %v", len(file), report.Verdict, err)
	}
	if file, report, err := Of(t.Context(), copyOf(n, 0), Options{Meter: "m-1", First: 1, Last: 4}); file != nil || err != nil || report.Verdict == receipt.Verified {
		t.Errorf("nobody certifies: %d bytes, %v, %v", len(file), report.Verdict, err)
	}
	failing := copyOf(n, 100)
	failing.fail = errors.New("the line is down")
	if file, _, err := Of(t.Context(), failing, o); file != nil || !errors.Is(err, failing.fail) {
		t.Errorf("a source that failed: %d bytes, %v", len(file), err)
	}
	for want, change := range map[reason.Reason]func(*Options){
		reason.UnknownMeter: func(o *Options) { o.Meter = "m-9" },
		reason.NotFound:     func(o *Options) { o.First, o.FromUnixNano = 0, 1<<62 },
		reason.TooLarge:     func(o *Options) { o.Last = MaxFiles*completeness.MaxMeasurements + 1 },
	} {
		other := o
		change(&other)
		if file, _, err := Of(t.Context(), copyOf(n, 100), other); file != nil || reason.Of(err) != want {
			t.Errorf("%s: %d bytes, %v", want, len(file), err)
		}
	}
}

package receipt_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// A measured value is never shown without its considered one, or without why
// there is none.
func TestMeasuredValueIsShownWithItsConsideredOne(t *testing.T) {
	n, first, _ := ledger(t)
	n.NationalTable = ""
	n.Register("m-free")
	n.NationalTable = "none"
	n.Register("m-waiting")
	free := n.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-free", Samples: receipttest.Pulse(900, 5)})[0]
	waiting := n.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-waiting", Samples: receipttest.Pulse(900, 5)})[0]
	same := func(*recordv1.Bundle) {}
	for name, c := range map[string]struct {
		index      uint64
		change     func(*recordv1.Bundle)
		considered string
		why        string
	}{
		"valid":                   {first[0], same, "21.567", ""},
		"refused":                 {first[1], same, "", "the algorithm refused to measure: LOW_SNR"},
		"a meter under no table":  {free, same, "", "the meter is under no national table"},
		"a table not there yet":   {waiting, same, "", "no version of national table none"},
		"a table that is missing": {first[0], func(b *recordv1.Bundle) { b.NationalTable = nil }, "", "no version of national table br"},
		"a table that is refuted": {first[0], func(b *recordv1.Bundle) { b.NationalTable.Index++ }, "", "no version of national table br"},
		"no registration":         {first[0], func(b *recordv1.Bundle) { b.Registration = nil }, "", "registration and approval"},
		"no approval":             {first[0], func(b *recordv1.Bundle) { b.Approval = nil }, "", "registration and approval"},
	} {
		t.Run(name, func(t *testing.T) {
			b := proto.CloneOf(n.Bundle(c.index))
			c.change(b)
			contents, _ := verify(t, n, b, nil)
			s := receipt.Describe(contents.Receipt, contents)
			if s.Considered.Considered != c.considered || !strings.Contains(s.Considered.Why, c.why) || (s.Considered.Why == "") != (c.why == "") {
				t.Errorf("considered %q, none because %q; want %q and %q", s.Considered.Considered, s.Considered.Why, c.considered, c.why)
			}
			if (s.Considered.Considered == "") != strings.Contains(s.String(), "\nconsidered    none: ") {
				t.Errorf("the text does not say it:\n%s", s)
			}
		})
	}
	r, err := receipt.Parse(n.Receipt(first[0]))
	if err != nil {
		t.Fatal(err)
	}
	if s := receipt.Describe(r, nil); s.Considered.Why == "" || s.Considered.Considered != "" {
		t.Errorf("a receipt alone: %+v", s.Considered)
	}
}

// The version in force at the capture is used, whatever came later.
func TestS2_ConsideredUnderTheVersionInForceAtTheCapture(t *testing.T) {
	n, first, _ := ledger(t)
	strict := sumTable(n.Network, "br")
	strict.Bands = []*recordv1.ErrorBand{{Absolute: 1_000}}
	n.Accept(n.Sign(strict, statetest.Body()))
	n.NowUnix += 60
	later := n.Measure([]int{0, 1}, receipttest.Capture{Meter: "m-2", Samples: receipttest.Pulse(900, 5)})[0]
	for index, want := range map[uint64][2]string{first[0]: {"7", "21.567"}, later: {"1", "27.567"}} {
		contents, report := verify(t, n, n.Bundle(index), nil)
		s := receipt.Describe(contents.Receipt, contents).Considered
		if report.Verdict != receipt.Verified || s.PermissibleError != want[0] || s.Considered != want[1] || s.Measured != "28.567" {
			t.Errorf("record %d: %+v, want %v\n%s", index, s, want, report.String())
		}
	}
}

func TestShortDecimal(t *testing.T) {
	for _, c := range []struct {
		number int64
		scale  int
		want   string
	}{{10_500_000_000, -9, "10.5"}, {7_000_000_000, -9, "7"}, {7_000_070_000, -9, "7.00007"}, {0, -9, "0"}, {1_500, 2, "150000"}, {100, 0, "100"}} {
		if got := receipt.ShortDecimal(c.number, c.scale); got != c.want {
			t.Errorf("%d times 10^%d is %q, want %q", c.number, c.scale, got, c.want)
		}
	}
}

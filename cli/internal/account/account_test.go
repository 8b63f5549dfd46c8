package account_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/algorithms/abi"
	"github.com/lacre-metrology/lacre/cli/internal/account"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/receipt/receipttest"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// ledger has two meters and three blocks of measurements over two days: one
// refused, one late.
func ledger(t *testing.T) *receipttest.Network {
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
	n.NowUnix += 10
	n.Measure([]int{0, 1}, pulse("m-1", 900), pulse("m-2", 800), pulse("m-1", 3))
	n.NowUnix += 86_400
	n.Measure([]int{0, 2, 3}, pulse("m-1", 700))
	return n
}

func pulse(meter string, height int16) receipttest.Capture {
	return receipttest.Capture{Meter: meter, Samples: receipttest.Pulse(height, 5)}
}

// source is a copy of a ledger; certified is the first height without a
// certificate.
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

func of(t *testing.T, s audit.Source, trusted *trust.Bundle, o account.Options) (*account.Account, *audit.Report) {
	t.Helper()
	o.Trust = trusted
	a, report, err := account.Of(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, report
}

const all = 1 << 30

func TestS5_AccountCountsEachMeasurementOnceForEachOrganisation(t *testing.T) {
	n := ledger(t)
	owners := map[string]string{"m-1": "a city"}
	for by, want := range map[account.By]map[string]account.Row{
		account.Organisation: {
			"org-00": {Measurements: 4, Refused: 1, Computations: map[string]uint64{"org-00": 4}},
			"org-01": {Measurements: 3, Refused: 1, Computations: map[string]uint64{"org-01": 3}},
			"org-02": {Measurements: 1, Computations: map[string]uint64{"org-02": 1}},
			"org-03": {Measurements: 1, Computations: map[string]uint64{"org-03": 1}},
		},
		account.Meter: {
			"m-1": {Measurements: 3, Refused: 1, Computations: map[string]uint64{"org-00": 3, "org-01": 2, "org-02": 1, "org-03": 1}},
			"m-2": {Measurements: 1, Computations: map[string]uint64{"org-00": 1, "org-01": 1}},
		},
		account.Owner: {
			"a city":         {Measurements: 3, Refused: 1, Computations: map[string]uint64{"org-00": 3, "org-01": 2, "org-02": 1, "org-03": 1}},
			account.Unlisted: {Measurements: 1, Computations: map[string]uint64{"org-00": 1, "org-01": 1}},
		},
		account.Site: {
			"km 41": {Measurements: 4, Refused: 1, Computations: map[string]uint64{"org-00": 4, "org-01": 3, "org-02": 1, "org-03": 1}},
		},
		account.Period: {
			"2026-01-01": {Measurements: 3, Refused: 1, Computations: map[string]uint64{"org-00": 3, "org-01": 3}},
			"2026-01-02": {Measurements: 1, Computations: map[string]uint64{"org-00": 1, "org-02": 1, "org-03": 1}},
		},
	} {
		t.Run(string(by), func(t *testing.T) {
			a, _ := of(t, copyOf(n, all), n.Trust(), account.Options{By: by, Period: "day", Owners: owners})
			if a.CertifiedHeight != n.Store.Head().Height {
				t.Errorf("certified up to %d, the ledger has %d", a.CertifiedHeight, n.Store.Head().Height)
			}
			if len(a.Rows) != len(want) {
				t.Fatalf("%d rows, want %d: %+v", len(a.Rows), len(want), a.Rows)
			}
			for _, r := range a.Rows {
				w := want[r.Key]
				if r.Measurements != w.Measurements || r.Refused != w.Refused || r.Late != 0 || !maps.Equal(r.Computations, w.Computations) {
					t.Errorf("%+v, want %+v", r, w)
				}
			}
		})
	}
}

func TestAccountCountsLateMeasurements(t *testing.T) {
	n := &receipttest.Network{Network: statetest.New(t, statetest.Options{})}
	n.Network.Approve()
	m := n.Network.Register("m-2")
	early := m.Capture()
	n.NowUnix += 3 * 86_400
	b := n.Batch(early)
	b.Measurements[0].Disposition = recordv1.Disposition_DISPOSITION_LATE
	for _, o := range n.Submit(b.Records(), b.Raw) {
		if !o.Accepted {
			t.Fatalf("%+v", o)
		}
	}
	a, _ := of(t, copyOf(n, all), n.Trust(), account.Options{By: account.Meter})
	if len(a.Rows) != 1 || a.Rows[0].Late != 1 || a.Rows[0].Computations["org-00"] != 1 {
		t.Errorf("%+v", a.Rows)
	}
}

// A meter that moved counts where it stood at each capture, one that came late
// included.
func TestAccountTakesTheSiteInForceAtTheCapture(t *testing.T) {
	n := &receipttest.Network{Network: statetest.New(t, statetest.Options{})}
	n.Network.Approve()
	m := n.Network.Register("m-1")
	before, late := m.Capture(), m.Capture()
	n.AcceptCaptures(before)
	n.NowUnix += 60
	moved := n.Parameters("m-1", n.NowUnix*statetest.Second)
	moved.Site = proto.CloneOf(moved.Site)
	moved.Site.Name = "km 97"
	n.Accept(n.Sign(moved, statetest.Body()))
	n.NowUnix += 60
	n.AcceptCaptures(m.Capture(), m.Capture())
	n.AcceptCaptures(late)
	a, _ := of(t, copyOf(n, all), n.Trust(), account.Options{By: account.Site})
	if len(a.Rows) != 2 || a.Rows[0].Key != "km 41" || a.Rows[0].Measurements != 2 || a.Rows[1].Key != "km 97" || a.Rows[1].Measurements != 2 {
		t.Errorf("%+v", a.Rows)
	}
}

// Accounts of one part after the other add up to the account of all, wherever
// the ledger was cut.
func TestAccountsContinue(t *testing.T) {
	n := ledger(t)
	for _, by := range []account.By{account.Organisation, account.Site} {
		whole, _ := of(t, copyOf(n, all), n.Trust(), account.Options{By: by})
		for cut := 1; cut <= len(n.Store.Blocks); cut++ {
			part := copyOf(n, all)
			part.blocks = part.blocks[:cut]
			first, report := of(t, part, n.Trust(), account.Options{By: by})
			kept, err := audit.ParseState(report.State.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			second, _ := of(t, copyOf(n, all), n.Trust(), account.Options{By: by, Resume: kept})
			if second.FromHeight != uint64(cut) || second.CertifiedHeight != whole.CertifiedHeight || second.CertifiedTime != whole.CertifiedTime {
				t.Errorf("cut at %d: from %d up to %d of %s", cut, second.FromHeight, second.CertifiedHeight, second.CertifiedTime)
			}
			sum := map[string]uint64{}
			for _, a := range []*account.Account{first, second} {
				for _, r := range a.Rows {
					sum[r.Key] += r.Measurements
				}
			}
			for _, r := range whole.Rows {
				if sum[r.Key] != r.Measurements {
					t.Errorf("cut at %d: %d of %s, all of it has %d", cut, sum[r.Key], r.Key, r.Measurements)
				}
			}
		}
	}
}

// Between what was certified then and where the replay ended lie blocks that the
// earlier account did not count: it is not continued there.
func TestAccountDoesNotContinueBehindUncertifiedBlocks(t *testing.T) {
	n := ledger(t)
	_, report := of(t, copyOf(n, len(n.Store.Blocks)-1), n.Trust(), account.Options{By: account.Meter})
	a, _, err := account.Of(t.Context(), copyOf(n, all), account.Options{Trust: n.Trust(), By: account.Meter, Resume: report.State})
	if err == nil || a != nil || !strings.Contains(err.Error(), "no certificate covered") {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAccountTakesBlockTimesOfAWindow(t *testing.T) {
	n := ledger(t)
	second := n.Store.Head().BlockTimeUnixNano
	for name, c := range map[string]struct {
		from, until int64
		want        uint64
	}{
		"all":            {0, 0, 4},
		"from the last":  {second, 0, 1},
		"after the last": {second + 1, 0, 0},
		"before it":      {0, second, 3},
		"with it":        {0, second + 1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := of(t, copyOf(n, all), n.Trust(), account.Options{By: account.Meter, FromUnixNano: c.from, UntilUnixNano: c.until})
			got := uint64(0)
			for _, r := range a.Rows {
				got += r.Measurements
			}
			if got != c.want {
				t.Errorf("%d measurements, want %d", got, c.want)
			}
		})
	}
}

// What no certificate covers is not counted, and the account says so.
func TestAccountEndsAtTheCertifiedHeight(t *testing.T) {
	n := ledger(t)
	blocks := len(n.Store.Blocks)
	a, report := of(t, copyOf(n, blocks-1), n.Trust(), account.Options{By: account.Organisation})
	if report.Verdict != receipt.Undecidable || a.CertifiedHeight != uint64(blocks-2) || a.Rows[0].Computations["org-00"] != 3 {
		t.Errorf("%v, certified up to %d: %+v", report.Verdict, a.CertifiedHeight, a.Rows)
	}
	if a, report := of(t, copyOf(n, 0), nil, account.Options{By: account.Organisation}); a != nil || report.Verdict == receipt.Verified {
		t.Errorf("an account without a trust bundle: %+v", a)
	}
}

// A ledger that does not hold gives no account, whichever copy lies.
func TestAccountOfAnAlteredLedgerIsNone(t *testing.T) {
	n := ledger(t)
	for i := range n.Store.Blocks {
		s := copyOf(n, all)
		leaf := s.blocks[i].Leaves[len(s.blocks[i].Leaves)/2]
		leaf[len(leaf)/2] ^= 1
		if a, report := of(t, s, n.Trust(), account.Options{By: account.Organisation}); a != nil || report.Verdict != receipt.Refuted {
			t.Errorf("block %d altered: %v, %+v", i, report.Verdict, a)
		}
	}
	s := copyOf(n, all)
	s.fail = errors.New("the line is down")
	if a, _, err := account.Of(t.Context(), s, account.Options{Trust: n.Trust(), By: account.Organisation}); !errors.Is(err, s.fail) || a != nil {
		t.Errorf("a source that failed: %v, %+v", err, a)
	}
}

func TestAccountAsTextAndCSV(t *testing.T) {
	n := ledger(t)
	a, _ := of(t, copyOf(n, all), n.Trust(), account.Options{By: account.Meter})
	if want := "meter,measurements,refused,late,computed by org-00,computed by org-01,computed by org-02,computed by org-03\n" +
		"m-1,3,1,0,3,2,1,1\nm-2,1,0,0,1,1,0,0\n"; a.CSV() != want {
		t.Errorf("%s", a.CSV())
	}
	for _, line := range []string{"counted up to block 5 of 2026-01-02T", "m-1               3        1     0"} {
		if !strings.Contains(a.String(), line) {
			t.Errorf("no %q in\n%s", line, a)
		}
	}
}

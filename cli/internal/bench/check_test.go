package bench

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
)

// fakeLedger is a replica that holds what it is given, and can lose it.
type fakeLedger struct {
	leaves map[string][][]byte // records of a meter, in order
}

func (f *fakeLedger) ListMeasurements(_ context.Context, in *ledgerv1.ListMeasurementsRequest, _ ...grpc.CallOption) (*ledgerv1.ListMeasurementsResponse, error) {
	const page = 3 // small, so that paging is tested
	start := 0
	if token := in.GetPageToken(); token != "" {
		if _, err := fmt.Sscan(token, &start); err != nil {
			return nil, err
		}
	}
	all := f.leaves[in.GetMeterId()]
	end := min(start+page, len(all))
	response := &ledgerv1.ListMeasurementsResponse{}
	for _, leaf := range all[start:end] {
		response.Measurements = append(response.Measurements, &ledgerv1.ListedMeasurement{Record: leaf})
	}
	if end < len(all) {
		response.NextPageToken = fmt.Sprint(end)
	}
	return response, nil
}

// signing makes a sender that has signed n samples, and the leaves of them.
func signing(t *testing.T, id string, n int) (*sender, [][]byte) {
	t.Helper()
	r := &run{Options: Defaults(), tally: new(tally), networkID: digest.Plain([]byte("network")), head: &head{}}
	r.head.known.Store(&meter.KnownBlock{Height: 1, Header: digest.Plain([]byte("block"))})
	s := &sender{run: r, id: id, key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	var leaves [][]byte
	for range n {
		shot, err := s.sign([]byte("raw"), r.head.newest())
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{Header: shot.request.GetHeader()}}})
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leaf)
		s.settle(shot.counter, certified)
	}
	return s, leaves
}

func TestSamplesFormAChain(t *testing.T) {
	s, leaves := signing(t, "meter", 3)
	previous := digest.Zero
	for i, leaf := range leaves {
		r, err := record.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := sample.Parse(r.GetMeasurement().GetHeader())
		if err != nil {
			t.Fatal(err)
		}
		if signed.Counter != uint64(i)+1 || signed.Previous != previous || signed.Digest != s.samples[i] {
			t.Errorf("sample %d has counter %d and previous %s, want %d and %s", i, signed.Counter, signed.Previous.Short(), i+1, previous.Short())
		}
		previous = signed.Digest
	}
}

// TestComparisonFindsEveryLoss alters the ledger or the fates in one way each.
func TestComparisonFindsEveryLoss(t *testing.T) {
	const n = 8
	tests := []struct {
		name  string
		alter func(s *sender, leaves [][]byte, other [][]byte) [][]byte
		want  Losses
		says  string
	}{
		{name: "nothing", alter: func(_ *sender, l, _ [][]byte) [][]byte { return l }},
		{name: "one that was acknowledged is gone", want: Losses{NotOnLedger: 1, Gaps: 1}, says: "counter 4 has a receipt, and the ledger lacks it",
			alter: func(_ *sender, l, _ [][]byte) [][]byte { return append(l[:3:3], l[4:]...) }},
		{name: "the newest is gone", want: Losses{NotOnLedger: 1}, says: "counter 8 has a receipt",
			alter: func(_ *sender, l, _ [][]byte) [][]byte { return l[:n-1] }},
		{name: "all are gone", want: Losses{NotOnLedger: n},
			alter: func(*sender, [][]byte, [][]byte) [][]byte { return nil }},
		{name: "another sample under one counter", want: Losses{Differing: 1}, says: "counter 2 is sample",
			alter: func(_ *sender, l, other [][]byte) [][]byte { l[1] = other[1]; return l }},
		{name: "one that was never signed", want: Losses{Differing: 1}, says: "never signed",
			alter: func(_ *sender, l, other [][]byte) [][]byte { return append(l, other[n]) }},
		{name: "one without an answer that is on the ledger", want: Losses{Unanswered: 1}, says: "counter 5 has no answer",
			alter: func(s *sender, l, _ [][]byte) [][]byte { s.settle(5, unanswered); return l }},
		{name: "the newest has no answer and is not on the ledger", want: Losses{Unanswered: 1},
			alter: func(s *sender, l, _ [][]byte) [][]byte { s.settle(n, unanswered); return l[:n-1] }},
		{name: "one was refused", want: Losses{Refused: 1, Gaps: 1},
			alter: func(s *sender, l, _ [][]byte) [][]byte { s.settle(3, refused); return append(l[:2:2], l[3:]...) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			good, goodLeaves := signing(t, "good", n)
			s, leaves := signing(t, "meter", n)
			_, other := signing(t, "meter", n+1) // signed at another time, so other samples
			ledger := &fakeLedger{leaves: map[string][][]byte{"good": goodLeaves, "meter": test.alter(s, leaves, other)}}
			var counts tally
			got, total, err := compare(t.Context(), ledger, []*sender{good, s}, &counts)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want || got.Any() != (test.want != Losses{}) {
				t.Errorf("found %+v, want %+v", got, test.want)
			}
			if want := int64(n + len(ledger.leaves["meter"])); total != want {
				t.Errorf("%d leaves, want %d", total, want)
			}
			if said := strings.Join(counts.examples, "\n"); !strings.Contains(said, test.says) {
				t.Errorf("examples are %q, want one that says %q", said, test.says)
			}
		})
	}
}

// TestComparisonRefusesALyingReplica: a leaf of another meter, or one twice.
func TestComparisonRefusesALyingReplica(t *testing.T) {
	s, leaves := signing(t, "meter", 2)
	_, foreign := signing(t, "other", 1)
	for name, listed := range map[string][][]byte{
		"a leaf twice":            {leaves[0], leaves[1], leaves[0]},
		"a leaf of another meter": {leaves[0], foreign[0]},
		"rubbish":                 {leaves[0], {1, 2, 3}},
	} {
		if _, _, err := compare(t.Context(), &fakeLedger{leaves: map[string][][]byte{"meter": listed}}, []*sender{s}, new(tally)); err == nil {
			t.Errorf("%s: taken as good", name)
		}
	}
}

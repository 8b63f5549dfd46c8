package fsm

import (
	"bytes"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
)

// What was parsed ahead counts for an entry with the very same bytes and for no
// other. So that its use can be seen, what is said to be parsed here is something
// else, which the transition refuses.
func TestC5_ParsedAheadCountsForTheSameBytesOnly(t *testing.T) {
	r := newReplica(t, statetest.New(t, statetest.Options{}))
	meters := r.meters(2)
	p, err := decode(r.measurements(meters))
	if err != nil {
		t.Fatal(err)
	}
	submission := p.GetSubmissions()[0]
	garbage := Parse(&replicav1.Submission{Records: [][]byte{{1}}})
	flipped := func(pieces [][]byte, i int) [][]byte {
		changed := bytes.Clone(pieces[i])
		changed[len(changed)-1] ^= 1
		out := append([][]byte{}, pieces...)
		out[i] = changed
		return out
	}
	for name, c := range map[string]struct {
		expected *replicav1.Submission
		used     bool
	}{
		"the same bytes elsewhere": {&replicav1.Submission{Records: flipped(flipped(submission.GetRecords(), 0), 0), RawVectors: flipped(flipped(submission.GetRawVectors(), 1), 1)}, true},
		"another first record":     {&replicav1.Submission{Records: flipped(submission.GetRecords(), 0), RawVectors: submission.GetRawVectors()}, false},
		"another last record":      {&replicav1.Submission{Records: flipped(submission.GetRecords(), 2), RawVectors: submission.GetRawVectors()}, false},
		"another raw vector":       {&replicav1.Submission{Records: submission.GetRecords(), RawVectors: flipped(submission.GetRawVectors(), 1)}, false},
		"a record more":            {&replicav1.Submission{Records: append([][]byte{}, append(submission.GetRecords(), []byte{1})...), RawVectors: submission.GetRawVectors()}, false},
		"no raw vectors":           {&replicav1.Submission{Records: submission.GetRecords()}, false},
	} {
		forget := r.machine.Expect(c.expected, garbage)
		again := r.machine.Expect(c.expected, garbage)
		if used := r.machine.expected.parse(submission) == garbage; used != c.used {
			t.Errorf("%s: what was parsed ahead is used: %v, want %v", name, used, c.used)
		}
		forget()
		if used := r.machine.expected.parse(submission) == garbage; used != c.used {
			t.Errorf("%s: the other call's is used: %v, want %v", name, used, c.used)
		}
		again()
		if r.machine.expected.parse(submission) == garbage || len(r.machine.expected.of) > 0 {
			t.Errorf("%s: it is used after both calls forgot it", name)
		}
	}

	// In an entry: what is ordered is refused as the garbage is.
	r = newReplica(t, statetest.New(t, statetest.Options{}))
	entry := r.measurements(r.meters(1))
	if p, err = decode(entry); err != nil {
		t.Fatal(err)
	}
	garbage = Parse(&replicav1.Submission{Records: [][]byte{{1}, {1}}, RawVectors: [][]byte{{1}}})
	forget := r.machine.Expect(p.GetSubmissions()[0], garbage)
	applied := r.apply(entry)
	forget()
	if len(applied.Results) != 1 || applied.Results[0][0].Reason != reason.NotCanonical {
		t.Errorf("the entry applied as %+v (digest %s)", applied, digest.Of(digest.Entry, entry).Short())
	}
}

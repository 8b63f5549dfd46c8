package completeness

import (
	"cmp"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
)

// edges are what a file can be joined to others by.
type edges struct {
	registration digest.Digest  // leaf hash
	previous     *digest.Digest // that the sample of the first counter names; nil without that sample
	last         *digest.Digest // of the sample of the last counter; nil without it
}

// Join judges files of one meter as one span, in whatever order they come: each
// begins with the counter after the last of the one before, and its first sample
// names the last one of that file. What lies between two files is missing; files
// that overlap are refused, so that nothing is counted twice. The verdict is the
// worst of all. The ledger's place and time are of the largest tree.
func Join(results []*Result) *Result {
	if len(results) == 0 {
		return (&Result{Missing: []Range{}}).refute("there is no file")
	}
	list := slices.Clone(results)
	slices.SortStableFunc(list, func(a, b *Result) int { return cmp.Compare(a.First, b.First) })
	for _, r := range list {
		if r.Verdict == receipt.Refuted {
			return (&Result{Missing: []Range{}, First: r.First, Last: r.Last}).refute("counters %d to %d: %s", r.First, r.Last, r.Conclusion)
		}
	}
	all := *list[0]
	all.Missing = slices.Clone(all.Missing)
	unknown := all.certificate
	for _, r := range list[1:] {
		switch {
		case r.Origin != all.Origin || r.edges.registration != all.edges.registration:
			return all.refute("counters %d to %d are of meter %s of %s, those before of meter %s of %s", r.First, r.Last, r.Meter, r.Origin, all.Meter, all.Origin)
		case r.First <= all.Last:
			return all.refute("counters %d to %d are in two files: give files of spans that follow each other", r.First, min(r.Last, all.Last))
		case r.First > all.Last+1:
			all.miss(Range{all.Last + 1, r.First - 1})
		case all.edges.last != nil && r.edges.previous != nil && *r.edges.previous != *all.edges.last:
			return all.refute("counter %d follows sample %s, counter %d is sample %s", r.First, *r.edges.previous, all.Last, *all.edges.last)
		}
		all.append(r)
		unknown = cmp.Or(unknown, r.certificate)
	}
	if unknown != "" {
		all.Verdict, all.Conclusion = receipt.Undecidable, unknown
	} else {
		all.conclude()
	}
	return &all
}

// append adds the file that follows.
func (r *Result) append(next *Result) {
	r.Last, r.edges.last = next.Last, next.edges.last
	r.Present, r.Refused, r.Late = r.Present+next.Present, r.Refused+next.Refused, r.Late+next.Late
	for _, m := range next.Missing {
		r.miss(m)
	}
	r.Since = cmp.Or(r.Since, next.Since)
	r.Until = cmp.Or(next.Until, r.Until)
	if next.TreeSize > r.TreeSize {
		r.TreeSize, r.Cosigned = next.TreeSize, next.Cosigned
	}
}

// miss adds a range that is missing; ranges that touch are one.
func (r *Result) miss(m Range) {
	if n := len(r.Missing); n > 0 && r.Missing[n-1].Last+1 == m.First {
		r.Missing[n-1].Last = m.Last
		return
	}
	r.Missing = append(r.Missing, m)
}

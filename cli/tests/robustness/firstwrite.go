package main

import (
	"fmt"
	"slices"
	"time"
)

// firstWrite is what came after a leader's death: the first sample that was signed
// after it, and has its receipt. What can be promised is only how soon it comes
// while enough nodes can reach each other: among many faults others are often out
// when a leader dies, and nothing can be certified until one is back.
type firstWrite struct {
	Ms      int64 `json:"ms"`       // since the death
	WholeMs int64 `json:"whole_ms"` // since enough nodes were there, untouched by any fault, until it came; the same if they were all the time
}

// whole tells whether enough nodes were there all the time.
func (w firstWrite) whole() bool { return w.Ms == w.WholeMs }

func (w firstWrite) String() string {
	if w.whole() {
		return fmt.Sprint(w.Ms)
	}
	return fmt.Sprintf("%d (%d since enough nodes were there)", w.Ms, w.WholeMs)
}

// firstWrites finds, for each death of a leader, the first sample that was signed
// after it and acknowledged. whole is outages.whole.
func (r *result) firstWrites(deaths []death, acks []acknowledged, whole func(sets [][]string, from, until time.Time) time.Time) {
	for _, d := range deaths {
		if d.perhaps || r.Liar != "" {
			continue // beside a liar nothing is promised
		}
		var first time.Time
		for _, a := range acks {
			if a.signed.After(d.at) && (first.IsZero() || a.at.Before(first)) {
				first = a.at
			}
		}
		if first.IsZero() {
			r.NoWrite++
			continue
		}
		r.FirstWrites = append(r.FirstWrites, firstWrite{
			Ms:      first.Sub(d.at).Milliseconds(),
			WholeMs: first.Sub(whole(d.enough, d.at, first)).Milliseconds(),
		})
	}
}

// summariseFirstWrites tells of all deaths of leaders, those while enough nodes
// were there apart from the rest.
func summariseFirstWrites(all []firstWrite) {
	list := func(of func(firstWrite) (int64, bool)) (ms []int64) {
		for _, w := range all {
			if took, counts := of(w); counts {
				ms = append(ms, took)
			}
		}
		slices.Sort(ms)
		return ms
	}
	for _, group := range []struct {
		what string
		ms   []int64
	}{
		{"first write after a leader's death while enough nodes were there", list(func(w firstWrite) (int64, bool) { return w.Ms, w.whole() })},
		{"first write after one while others were out", list(func(w firstWrite) (int64, bool) { return w.Ms, !w.whole() })},
		{"the same, since enough were there again", list(func(w firstWrite) (int64, bool) { return w.WholeMs, !w.whole() })},
	} {
		if n := len(group.ms); n > 0 {
			fmt.Printf("%s, of %d: median %d ms, 99th percentile %d ms, longest %d ms\n",
				group.what, n, percentile(group.ms, 50), percentile(group.ms, 99), group.ms[n-1])
		}
	}
}

// percentile of an ascending list: the nearest rank.
func percentile(sorted []int64, p int) int64 {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

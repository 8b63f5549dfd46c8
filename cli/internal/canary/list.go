package canary

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
)

// Standing is how a commitment stands.
type Standing string

// The standings.
const (
	Revealed Standing = "revealed"
	Open     Standing = "open"    // not revealed, and not for long
	Overdue  Standing = "overdue" // not revealed, for longer than the auditor allows
)

// List is every canary that a certified ledger holds. Every time but a sample's
// own is block time.
type List struct {
	Network         digest.Digest `json:"network"`
	CertifiedHeight uint64        `json:"certifiedHeight"` // nothing above it is in the list
	At              string        `json:"at"`              // the list is of this time
	OverdueAfter    string        `json:"overdueAfter"`    // how long a commitment may stay open
	Canaries        []Canary      `json:"canaries"`        // in the order of their commitments
	// Organisations are those that endorsed vectors of revealed canaries, ascending.
	Organisations []Tested `json:"organisations"`
}

// Canary is one commitment, and what became of it.
type Canary struct {
	ID             string        `json:"id"`
	NotifiedBody   string        `json:"notifiedBody"`
	Commitment     digest.Digest `json:"commitment"`
	CommittedIndex uint64        `json:"committedIndex"` // of its leaf
	CommittedAt    string        `json:"committedAt"`
	Standing       Standing      `json:"standing"`
	OpenFor        string        `json:"openFor"` // until it was revealed, or until now
	RevealedIndex  uint64        `json:"revealedIndex,omitempty"`
	RevealedAt     string        `json:"revealedAt,omitempty"`
	Match          int           `json:"match"`
	Mismatch       int           `json:"mismatch"`
	Missing        int           `json:"missing"`
	Vectors        []Judged      `json:"vectors"` // of a revealed one
	// Remarks are what an auditor should ask the notified body about.
	Remarks []string `json:"remarks"`
}

// Judged is one vector of a revealed canary.
type Judged struct {
	Meter   string `json:"meter"`
	Counter uint64 `json:"counter"`
	Verdict string `json:"verdict"` // match, mismatch or missing, as revealed and as every replica judged
	// Index and Organisations are of the measurement that the ledger has now, also
	// where it came only after the reveal; none without one.
	Index         uint64   `json:"index,omitempty"`
	AfterReveal   bool     `json:"afterReveal,omitempty"`
	Organisations []string `json:"organisations"` // that endorsed it, ascending
	// SignedAfter says that the sample names a block as new as the commitment's, so
	// the meter signed it, and the endorsers computed it, after the commitment.
	SignedAfter bool   `json:"signedAfter"`
	Cause       Cause  `json:"cause,omitempty"` // of a mismatch
	Detail      string `json:"detail,omitempty"`
	// Disagreements are gateways' reports that endorsers signed different claims on
	// this sample. They are on the gateway's word: who was outvoted stands in no
	// endorsement set.
	Disagreements []string `json:"disagreements,omitempty"`
}

// Cause says whose a mismatch is.
type Cause string

// The causes of a mismatch.
const (
	// OtherVector: the meter signed another raw vector than the one prepared; its
	// endorsers were asked something else.
	OtherVector Cause = "another raw vector was sent"
	// WrongResult: the module, run again, gives another result than the endorsers
	// signed.
	WrongResult Cause = "the endorsers' result is wrong"
	// WrongExpectation: the module, run again, gives what the endorsers signed.
	WrongExpectation Cause = "the expectation is wrong"
	// NotRun: without the module or the raw vector nobody knows.
	NotRun Cause = "not run again"
)

// Tested counts what the ledger holds of an organisation.
type Tested struct {
	Organisation string `json:"organisation"`
	Match        int    `json:"match"`    // vectors that it endorsed as expected
	Wrong        int    `json:"wrong"`    // that it endorsed with a wrong result
	Mismatch     int    `json:"mismatch"` // that it endorsed otherwise than expected for another cause, or for none known
}

// Objections counts what an auditor must ask about: mismatches, missing vectors
// and overdue commitments.
func (l *List) Objections() int {
	n := 0
	for _, c := range l.Canaries {
		n += c.Mismatch + c.Missing
		if c.Standing == Overdue {
			n++
		}
	}
	return n
}

// count sums up by organisation.
func (l *List) count() {
	by := map[string]*Tested{}
	for _, c := range l.Canaries {
		for _, v := range c.Vectors {
			if v.AfterReveal {
				continue // it was no secret any more
			}
			for _, organisation := range v.Organisations {
				t := by[organisation]
				if t == nil {
					t = &Tested{Organisation: organisation}
					by[organisation] = t
				}
				switch {
				case v.Verdict == match:
					t.Match++
				case v.Cause == WrongResult:
					t.Wrong++
				default:
					t.Mismatch++
				}
			}
		}
	}
	l.Organisations = make([]Tested, 0, len(by))
	for _, t := range by {
		l.Organisations = append(l.Organisations, *t)
	}
	slices.SortFunc(l.Organisations, func(x, y Tested) int { return strings.Compare(x.Organisation, y.Organisation) })
}

// remark notes what can be seen only when all canaries are seen together.
func (l *List) remark() {
	commitments := map[digest.Digest]string{}
	vectors := map[vectorKey]string{}
	for i := range l.Canaries {
		c := &l.Canaries[i]
		say := func(format string, args ...any) { c.Remarks = append(c.Remarks, fmt.Sprintf(format, args...)) }
		if other, ok := commitments[c.Commitment]; ok {
			say("the same commitment as of canary %s", other)
		} else {
			commitments[c.Commitment] = c.ID
		}
		again, after, before := 0, 0, 0
		other := ""
		for _, v := range c.Vectors {
			key := vectorKey{v.Meter, v.Counter}
			if first, ok := vectors[key]; ok {
				again, other = again+1, first
			} else {
				vectors[key] = c.ID
			}
			if v.AfterReveal {
				after++
			} else if len(v.Organisations) > 0 && !v.SignedAfter {
				before++
			}
		}
		if again > 0 {
			say("%d of its vectors were committed to by canary %s too", again, other)
		}
		if after > 0 {
			say("%d of its vectors were measured after the reveal, when they were no secret", after)
		}
		if before > 0 {
			say("%d of its samples do not show that they were signed after the commitment", before)
		}
		if c.Standing == Overdue {
			say("never revealed: what it expected, and what was measured, nobody else knows")
		}
	}
}

type vectorKey struct {
	meter   string
	counter uint64
}

// String is the list for people.
func (l *List) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "network %s\ncanaries up to block %d, as of %s; overdue after %s\n", l.Network, l.CertifiedHeight, l.At, l.OverdueAfter)
	counts := map[Standing]int{}
	for _, c := range l.Canaries {
		counts[c.Standing]++
		fmt.Fprintf(&b, "\ncanary %s of %s, committed %s (record %d)\n", c.ID, c.NotifiedBody, c.CommittedAt, c.CommittedIndex)
		if c.Standing == Revealed {
			fmt.Fprintf(&b, "  revealed %s (record %d), after %s: %d match, %d mismatch, %d missing\n", c.RevealedAt, c.RevealedIndex, c.OpenFor, c.Match, c.Mismatch, c.Missing)
		} else {
			fmt.Fprintf(&b, "  %s: not revealed for %s; commitment %s\n", strings.ToUpper(string(c.Standing)), c.OpenFor, c.Commitment)
		}
		for _, v := range c.Vectors {
			v.text(&b)
		}
		for _, r := range c.Remarks {
			fmt.Fprintf(&b, "  remark: %s\n", r)
		}
	}
	if len(l.Organisations) > 0 {
		fmt.Fprintf(&b, "\n%-24s  %8s  %8s  %8s\n", "organisation", "match", "wrong", "mismatch")
		for _, t := range l.Organisations {
			fmt.Fprintf(&b, "%-24s  %8d  %8d  %8d\n", t.Organisation, t.Match, t.Wrong, t.Mismatch)
		}
	}
	fmt.Fprintf(&b, "\n%d canaries: %d revealed, %d open, %d overdue\n", len(l.Canaries), counts[Revealed], counts[Open], counts[Overdue])
	return b.String()
}

func (v Judged) text(b *strings.Builder) {
	fmt.Fprintf(b, "  meter %s counter %d  %-8s", v.Meter, v.Counter, v.Verdict)
	if len(v.Organisations) > 0 {
		fmt.Fprintf(b, "  record %d, endorsed by %s", v.Index, strings.Join(v.Organisations, ", "))
	}
	if v.AfterReveal {
		b.WriteString(", after the reveal")
	}
	if v.Cause != "" {
		fmt.Fprintf(b, "; %s: %s", v.Cause, v.Detail)
	}
	b.WriteByte('\n')
	for _, d := range v.Disagreements {
		fmt.Fprintf(b, "    a gateway reports: %s\n", d)
	}
}

func timeText(unixNano int64) string { return time.Unix(0, unixNano).UTC().Format(time.RFC3339Nano) }

// spanText is a duration to the second.
func spanText(nano int64) string { return time.Duration(nano).Truncate(time.Second).String() }

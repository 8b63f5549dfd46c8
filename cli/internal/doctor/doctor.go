// Package doctor looks at nodes and their network as an operator would who has
// all the runbooks in mind: it says what was found, and what helps.
//
// Source: architecture, rules C1, C6, N1, S4; issue "Prove the spine", part 1.
//
// Invariants:
//   - It changes nothing: no record is submitted, no file of a node is written,
//     no lock is held longer than it takes to see that nobody else holds it.
//   - What the ledger says is read as a follower reads it, from the genesis
//     block on and under its certificates; a replica's word alone decides nothing
//     but that replica's own health.
//   - What could not be checked is skipped and said so, never passed.
//   - No private key leaves this package, nor is one printed.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Level is how an item stands.
type Level string

// The levels, the worst last.
const (
	OK      Level = "ok"
	Skipped Level = "skipped" // it could not be checked
	Warn    Level = "warn"
	Fail    Level = "fail"
)

// Item is one check of one node, or of the network.
type Item struct {
	Node   string `json:"node"`  // its id, or "network"
	Check  string `json:"check"` // stable: scripts may rely on it
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"` // never empty for warn and fail
}

// Verdict is the report as a whole.
type Verdict string

// The verdicts.
const (
	Sound     Verdict = "sound"     // nothing failed, and at least one replica answered
	Unsound   Verdict = "unsound"   // something failed
	Undecided Verdict = "undecided" // nothing failed, but no replica could be asked
)

// Report is all that was found, node by node.
type Report struct {
	Verdict Verdict `json:"verdict"`
	Items   []Item  `json:"items"`
	// Replicas is where the replicas stand, ascending by id.
	Replicas []Replica `json:"replicas"`
}

// Options says what is looked at.
type Options struct {
	Dir     string           // of a network (with network.json); "" for none
	Configs []string         // configuration files of nodes; those of Dir besides
	Now     func() time.Time // compared with the cosigners' clocks; nil means time.Now
	Timeout time.Duration    // of each question to a node; 0 means 3 s
}

// networkNode is the Node of items that concern no node in particular.
const networkNode = "network"

// examination is one run.
type examination struct {
	Options
	items     []Item
	standings []Replica
	nodes     []*node
	book      book
	answered  int // replicas that answered
	named     []namedPiece
	unread    error // why named is not all
}

// Run examines. The error is one of the command line: nothing to look at.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	x := &examination{Options: o}
	if err := x.load(); err != nil {
		return nil, err
	}
	for _, n := range x.nodes {
		x.local(n)
	}
	x.network(ctx)
	return x.report(), nil
}

func (x *examination) report() *Report {
	r := &Report{Verdict: Sound, Items: x.items, Replicas: x.standings}
	for _, i := range r.Items {
		if i.Level == Fail {
			r.Verdict = Unsound
		}
	}
	if r.Verdict == Sound && x.answered == 0 {
		r.Verdict = Undecided
	}
	return r
}

func (x *examination) add(node, check string, level Level, remedy, found string, args ...any) {
	if level == OK {
		remedy = ""
	}
	x.items = append(x.items, Item{Node: node, Check: check, Level: level, Found: fmt.Sprintf(found, args...), Remedy: remedy})
}

// judge adds an item that is ok or fails with an error.
func (x *examination) judge(node, check string, err error, remedy, found string, args ...any) bool {
	if err != nil {
		x.add(node, check, Fail, remedy, "%v", err)
		return false
	}
	x.add(node, check, OK, "", found, args...)
	return true
}

// Text is the report for people: a line for each item, its remedy below it, and a
// count.
func (r *Report) Text() string {
	var b strings.Builder
	count := make(map[Level]int)
	for _, i := range r.Items {
		count[i.Level]++
		fmt.Fprintf(&b, "%-8s %-20s %-13s %s\n", i.Level, i.Node, i.Check, strings.ReplaceAll(i.Found, "\n", "; "))
		if i.Remedy != "" {
			fmt.Fprintf(&b, "%8s Remedy: %s\n", "", i.Remedy)
		}
	}
	fmt.Fprintf(&b, "%s: %d ok, %d warnings, %d failed, %d skipped\n", r.Verdict, count[OK], count[Warn], count[Fail], count[Skipped])
	return b.String()
}

// Package policy is the endorsement policy of a type approval: which
// organisations, and how many of them, must recompute a result.
//
// Source: architecture, rule S1 ("enough distinct organisations under the
// approval's policy"); the paper, section on the endorsement policy.
//
// Invariants:
//   - An organisation stands in a policy at most once, so k branches are never
//     satisfied by one organisation alone, and Fewest is the number that must
//     collude to forge a result.
//   - Depth and size are bounded; evaluation is a plain walk.
package policy

import (
	"fmt"
	"strings"

	"github.com/lacre-metrology/lacre/core/record"
)

// Bounds of a policy.
const (
	MaxDepth         = 4  // levels of OutOf
	MaxOrganisations = 64 // leaves
)

// Policy is either a leaf that names one organisation, or a threshold over
// sub-policies. Its JSON form is {"organisation":"ID"} or
// {"threshold":n,"of":[...]}.
type Policy struct {
	Organisation string   `json:"organisation,omitempty"`
	Threshold    int      `json:"threshold,omitempty"`
	Of           []Policy `json:"of,omitempty"`
}

// Organisation is the policy that this organisation alone satisfies.
func Organisation(id string) Policy { return Policy{Organisation: id} }

// OutOf is the policy that n of the sub-policies satisfy.
func OutOf(n int, of ...Policy) Policy { return Policy{Threshold: n, Of: of} }

// Check says whether the policy is well formed: each node either a leaf with a
// valid id or a threshold from 1 to the number of its branches, no organisation
// twice, at most MaxDepth levels and MaxOrganisations leaves.
func (p Policy) Check() error {
	return p.check(0, make(map[string]bool))
}

func (p Policy) check(depth int, seen map[string]bool) error {
	if p.Organisation != "" {
		if p.Threshold != 0 || len(p.Of) != 0 {
			return fmt.Errorf("policy names organisation %q and has a threshold %d of %d, want one of the two", p.Organisation, p.Threshold, len(p.Of))
		}
		if err := record.CheckID(p.Organisation); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		if seen[p.Organisation] {
			return fmt.Errorf("policy names organisation %q twice", p.Organisation)
		}
		seen[p.Organisation] = true
		if len(seen) > MaxOrganisations {
			return fmt.Errorf("policy names more than %d organisations", MaxOrganisations)
		}
		return nil
	}
	if depth >= MaxDepth {
		return fmt.Errorf("policy is nested deeper than %d levels", MaxDepth)
	}
	if p.Threshold < 1 || p.Threshold > len(p.Of) {
		return fmt.Errorf("policy wants %d out of %d", p.Threshold, len(p.Of))
	}
	for _, sub := range p.Of {
		if err := sub.check(depth+1, seen); err != nil {
			return err
		}
	}
	return nil
}

// Satisfied reports whether these organisations satisfy a checked policy.
func (p Policy) Satisfied(organisations map[string]bool) bool {
	if p.Organisation != "" {
		return organisations[p.Organisation]
	}
	n := 0
	for _, sub := range p.Of {
		if sub.Satisfied(organisations) {
			n++
		}
	}
	return p.Threshold > 0 && n >= p.Threshold
}

// Organisations lists the leaves, from left to right.
func (p Policy) Organisations() []string {
	if p.Organisation != "" {
		return []string{p.Organisation}
	}
	var all []string
	for _, sub := range p.Of {
		all = append(all, sub.Organisations()...)
	}
	return all
}

// Fewest is the smallest number of organisations that satisfy a checked policy:
// how many must collude to forge a result.
func (p Policy) Fewest() int {
	if p.Organisation != "" {
		return 1
	}
	// The cheapest Threshold branches, found by repeated selection: policies are small.
	costs := make([]int, len(p.Of))
	for i, sub := range p.Of {
		costs[i] = sub.Fewest()
	}
	total := 0
	for range p.Threshold {
		cheapest := -1
		for i, c := range costs {
			if c > 0 && (cheapest < 0 || c < costs[cheapest]) {
				cheapest = i
			}
		}
		total += costs[cheapest]
		costs[cheapest] = 0
	}
	return total
}

// String is the policy for people: "2 of (inmetro, ptb, 1 of (a, b))".
func (p Policy) String() string {
	if p.Organisation != "" {
		return p.Organisation
	}
	parts := make([]string, len(p.Of))
	for i, sub := range p.Of {
		parts[i] = sub.String()
	}
	return fmt.Sprintf("%d of (%s)", p.Threshold, strings.Join(parts, ", "))
}

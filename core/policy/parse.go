package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// Parse reads a policy as people write it, and checks it: an organisation
// between single quotes, OutOf(n, ..) , AND(..) for all of them and OR(..) for one:
//
//	OutOf(2, 'institute', 'operator', AND('university', 'authority'))
//
// White space between the parts counts for nothing. The form on the ledger is
// the JSON one, where AND and OR are thresholds too.
func Parse(text string) (Policy, error) {
	r := reader{text: text}
	p, err := r.policy(0)
	if err == nil && r.skip() != "" {
		err = r.errorf("the end")
	}
	if err != nil {
		return Policy{}, err
	}
	return p, p.Check()
}

type reader struct {
	text string
	at   int
}

// skip passes white space and returns what is left.
func (r *reader) skip() string {
	left := strings.TrimLeft(r.text[r.at:], " \t\n")
	r.at = len(r.text) - len(left)
	return left
}

// take passes a token if it comes next.
func (r *reader) take(token string) bool {
	if !strings.HasPrefix(r.skip(), token) {
		return false
	}
	r.at += len(token)
	return true
}

func (r *reader) errorf(want string) error {
	left := r.skip()
	if left == "" {
		left = "nothing"
	}
	return fmt.Errorf("policy: at byte %d comes %.20q, want %s", r.at, left, want)
}

func (r *reader) policy(depth int) (Policy, error) {
	if depth > MaxDepth {
		return Policy{}, fmt.Errorf("policy is nested deeper than %d levels", MaxDepth)
	}
	if r.take("'") {
		id, _, closed := strings.Cut(r.text[r.at:], "'")
		if !closed {
			return Policy{}, r.errorf("an organisation's closing quote")
		}
		r.at += len(id) + 1
		return Organisation(id), nil
	}
	for name, threshold := range map[string]func(n int) int{"AND": func(n int) int { return n }, "OR": func(int) int { return 1 }} {
		if r.take(name) {
			of, err := r.branches(depth, true)
			return OutOf(threshold(len(of)), of...), err
		}
	}
	if !r.take("OutOf") {
		return Policy{}, r.errorf("'ORGANISATION', OutOf, AND or OR")
	}
	if !r.take("(") {
		return Policy{}, r.errorf("(")
	}
	number := r.skip()
	number = number[:len(number)-len(strings.TrimLeft(number, "0123456789"))]
	n, err := strconv.Atoi(number)
	if err != nil {
		return Policy{}, r.errorf("how many")
	}
	r.at += len(number)
	of, err := r.branches(depth, false)
	return OutOf(n, of...), err
}

// branches reads (.., ..), or what follows its first element.
func (r *reader) branches(depth int, first bool) (of []Policy, err error) {
	if first && !r.take("(") {
		return nil, r.errorf("(")
	}
	for {
		if !first && !r.take(",") {
			if r.take(")") {
				return of, nil
			}
			return nil, r.errorf(", or )")
		}
		first = false
		if len(of) == MaxOrganisations {
			return nil, fmt.Errorf("policy names more than %d branches", MaxOrganisations)
		}
		p, err := r.policy(depth + 1)
		if err != nil {
			return nil, err
		}
		of = append(of, p)
	}
}

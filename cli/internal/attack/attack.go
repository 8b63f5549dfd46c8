// Package attack tries what an attacker would, on a network of real nodes with
// real keys (package devnet), and wants each attempt answered: refused with its
// reason, or exposed afterwards, and on the record where the architecture says so.
//
// Source: the paper, section "Security analysis" (four attacks); architecture,
// "Threats"; docs/attacks.md, which a test holds to All.
//
// Invariants:
//   - An attacker has what the scenario says: keys, a node's identity, a disk.
//     Everything else passes through the same ports as everybody's.
//   - Scenarios share one network and leave its honest parties as they were; the
//     ones that cannot come last.
//   - A scenario that could not be tried is an error, never a success of defence.
package attack

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Scenario is one attack.
type Scenario struct {
	Name     string `json:"name"`
	Attacker string `json:"attacker"` // who it is, what it has and does
	Answer   string `json:"answer"`   // what the system answers: a reason, or how it shows
	Record   string `json:"record"`   // what stays on the ledger or elsewhere

	run   func(context.Context, *stage) (string, error)
	after bool // on the disks, once the network has stopped
}

// Result is what came of one attempt.
type Result struct {
	Scenario
	Held   bool   `json:"held"`   // false: the attack succeeded
	Seen   string `json:"seen"`   // what was observed
	Millis int64  `json:"millis"` // how long it took
}

// All are the scenarios in the order in which they run.
func All() []Scenario {
	return []Scenario{
		tamperedSample, forgedSample, alteredHeader, replayedSample, backDated, futureDated, unknownMeter, equivocation,
		maliciousModule, oneColludes, forgedApproval, replayedStatement, stolenNodeKey, lyingGateway,
		rewrittenTail, strangerReadsEvidence, flood, manyCollude, tamperedDisk,
	}
}

// Find is the scenario of a name.
func Find(name string) (Scenario, bool) {
	for _, s := range All() {
		if s.Name == name {
			return s, true
		}
	}
	return Scenario{}, false
}

// succeededError says that an attack succeeded; the text says how.
type succeededError struct{ how string }

func (e *succeededError) Error() string { return "the attack succeeded: " + e.how }

func succeeded(format string, args ...any) error {
	return &succeededError{fmt.Sprintf(format, args...)}
}

// Run sets a network up in an empty directory and tries the scenarios. The error
// is about what could not be tried.
func Run(ctx context.Context, dir string, scenarios []Scenario, report func(Result)) (err error) {
	s, err := raise(ctx, dir)
	if err != nil {
		return fmt.Errorf("set the network up: %w", err)
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	for _, scenario := range scenarios {
		if scenario.after {
			if err := s.stop(); err != nil {
				return err
			}
		}
		started := time.Now()
		seen, err := scenario.run(ctx, s)
		result := Result{Scenario: scenario, Held: err == nil, Seen: seen, Millis: time.Since(started).Milliseconds()}
		var broken *succeededError
		switch {
		case errors.As(err, &broken):
			result.Seen = broken.how
		case err != nil:
			return fmt.Errorf("%s could not be tried: %w", scenario.Name, err)
		}
		report(result)
	}
	return nil
}

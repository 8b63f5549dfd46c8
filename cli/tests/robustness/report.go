package main

import (
	"fmt"
	"time"
)

// print tells a result in a line, and each violation in one of its own.
func (r *result) print() {
	verdict := "ok"
	if len(r.Violations) > 0 {
		verdict = "VIOLATED"
	}
	fmt.Printf("seed %d: %s; %d faults, %d of %d acknowledged, %d blocks, %d operations, settled in %.1f s, first write after a leader's death %v ms, %.1f s\n",
		r.Seed, verdict, r.Faults, r.Acknowledged, r.Sent, r.Blocks, r.History.Operations, r.SettleSeconds, r.FirstWrites, r.Seconds)
	if r.Liar != "" {
		fmt.Printf("  %s lied; misled and stopped: %q; named as a double signer: %q\n", r.Liar, r.Misled, r.DoubleSigner)
	}
	if r.Membership != "" {
		fmt.Printf("  membership changed: %s\n", r.Membership)
	}
	if r.Recovered != "" {
		fmt.Printf("  root keys continued the ledger: %s\n", r.Recovered)
	}
	if len(r.Altered) > 0 {
		fmt.Printf("  %s was altered at %q; found by %q\n", r.Damaged, r.Altered, r.FoundBy)
	}
	for _, v := range r.Violations {
		fmt.Println("  !", v)
	}
	for _, e := range r.Exits {
		fmt.Printf("  %s ended with code %d:\n%s\n", e.Node, e.Code, e.Log)
	}
}

// summarise tells of all seeds.
func summarise(all []*result, took time.Duration) {
	var faults, acknowledged, sent, operations, bad int
	var first []firstWrite
	for _, r := range all {
		faults += r.Faults
		acknowledged += r.Acknowledged
		sent += r.Sent
		operations += r.History.Operations
		first = append(first, r.FirstWrites...)
		if len(r.Violations) > 0 {
			bad++
		}
	}
	fmt.Printf("%d seeds in %s: %d violated; %d faults, %d of %d samples acknowledged, %d operations checked\n",
		len(all), took.Round(time.Second), bad, faults, acknowledged, sent, operations)
	summariseFirstWrites(first)
}

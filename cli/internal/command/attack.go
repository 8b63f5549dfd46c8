package command

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/attack"
)

func newAttack(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "attack",
		Short: "Attacks on a network of real nodes, and what answers each",
	}, newAttackList(a), newAttackRun(a))
}

func newAttackList(a *app) *cobra.Command {
	return a.reading(&cobra.Command{
		Use:     "list",
		Short:   "List the attacks: who does what, what answers, what stays on the record",
		Example: `  lacre attack list --json`,
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			var b strings.Builder
			for _, s := range attack.All() {
				fmt.Fprintf(&b, "%s\n  attack  %s\n  answer  %s\n  record  %s\n", s.Name, s.Attacker, s.Answer, s.Record)
			}
			return a.print(attack.All(), b.String())
		},
	})
}

func newAttackRun(a *app) *cobra.Command {
	var all bool
	c := a.reading(&cobra.Command{
		Use:   "run NAME...",
		Short: "Try attacks on a network that is founded for it and thrown away",
		Long: `Founds a network of real nodes in a temporary directory, tries each attack
against it, and says what was seen. The attacker has the keys that the scenario
gives it, and uses the same ports as everybody.

Exit code: 0 every attack was answered, 1 one succeeded, 3 one could not be tried.`,
		Example: `  lacre attack run --all
  lacre attack run many-collude --json`,
		RunE: func(c *cobra.Command, args []string) error {
			scenarios, err := chosen(all, args)
			if err != nil {
				return err
			}
			return a.runAttacks(c.Context(), scenarios)
		},
	})
	c.Flags().BoolVar(&all, "all", false, "try all of them")
	return c
}

// chosen are the scenarios that the command line names, in the order in which
// they must run.
func chosen(all bool, names []string) (scenarios []attack.Scenario, err error) {
	if all == (len(names) > 0) {
		return nil, usage("name attacks, or give --all; \"lacre attack list\" lists them")
	}
	wanted := make(map[string]bool)
	for _, name := range names {
		if _, ok := attack.Find(name); !ok {
			return nil, usage("there is no attack %q; \"lacre attack list\" lists them", name)
		}
		wanted[name] = true
	}
	for _, s := range attack.All() {
		if all || wanted[s.Name] {
			scenarios = append(scenarios, s)
		}
	}
	return scenarios, nil
}

func (a *app) runAttacks(ctx context.Context, scenarios []attack.Scenario) error {
	dir, err := os.MkdirTemp("", "lacre-attack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left lies in the system's temporary directory.
	results, broken := []attack.Result{}, 0
	var b strings.Builder
	err = attack.Run(ctx, dir, scenarios, func(r attack.Result) {
		results = append(results, r)
		word := "answered"
		if !r.Held {
			word, broken = "SUCCEEDED", broken+1
		}
		fmt.Fprintf(&b, "%-9s %s: %s\n", word, r.Name, r.Seen)
		a.say("%-9s %-24s %5d ms", word, r.Name, r.Millis)
	})
	fmt.Fprintf(&b, "%d attacks, %d succeeded\n", len(results), broken)
	if e := a.print(results, b.String()); e != nil {
		return e
	}
	if err == nil && broken > 0 {
		return exit(ExitRefuted)
	}
	return err
}

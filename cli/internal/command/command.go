// Package command is the command line `lacre`: each file holds one command or
// one family, and only translates between the command line and the packages
// that do the work.
//
// Source: issue "The whole path", part 8; github.com/spf13/cobra.
//
// Invariants:
//   - What a command is asked for goes to stdout; progress, hints and errors go
//     to stderr. So stdout can be piped.
//   - Every reading command has --json: one JSON value on stdout.
//   - The exit code is one of exit.go, which says what each means.
//   - Text for people holds nothing that a terminal would act on (plain).
//   - A check that could not be made is never reported as passed.
package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// app is what the commands of one invocation share.
type app struct {
	in       io.Reader
	out, err io.Writer
	json     bool // --json of the command that runs
}

// Main runs the command line until it ends or SIGINT or SIGTERM comes, and
// returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := newRoot(&app{in: stdin, out: stdout, err: stderr})
	root.SetArgs(args)
	return finish(stderr, root.ExecuteContext(ctx))
}

func newRoot(a *app) *cobra.Command {
	root := group(&cobra.Command{
		Use:   "lacre",
		Short: "Measurements that anyone can check: signed, recomputed, certified",
		Long: `Lacre is a distributed measuring system: meters sign raw data, independent
organisations recompute the measured value with approved software, and a
replicated ledger keeps the record so that anyone can check it offline.

Start with "lacre demo", or with "lacre dev" and the examples that it prints.
"lacre help exit-codes" lists the exit codes.`,
		Example: `  lacre demo
  lacre dev
  lacre receipt verify receipt.tlog --trust trust`,
		SilenceErrors: true, // finish prints them
		SilenceUsage:  true,
	},
		newDemo(a), newDev(a), newInit(a), newNetwork(a), newNode(a), newRecovery(a), newConfig(a), newCertificate(a), newKey(a), newApproval(a), newReceipt(a), newBundle(a), newTrust(a), newMeter(a), newEvidence(a), newAudit(a), newLedger(a), newAccount(a), newEvents(a), newCompleteness(a), newTable(a), newModule(a), newCanary(a), newAttack(a), newLoadBench(a), newDoctor(a), newStatus(a), newVersion(a),
		&cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodes},
		newPorts(),
	)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	return root
}

// group is a command that only holds others.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.AddCommand(children...)
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := ""
		for _, s := range c.SuggestionsFor(args[0]) {
			hint += fmt.Sprintf("; did you mean %q?", s)
		}
		return usage("%s has no command %q%s", c.CommandPath(), args[0], hint)
	}
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// exactly wants n arguments, named as the command's usage line names them.
func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("%q takes %d arguments, not %d; usage: %s", c.CommandPath(), n, len(args), c.UseLine())
		}
		return nil
	}
}

// atLeastOne wants an argument or more.
func atLeastOne(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("%q takes at least one argument; usage: %s", c.CommandPath(), c.UseLine())
	}
	return nil
}

// reading gives a command --json.
func (a *app) reading(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print one JSON value instead of text")
	return c
}

// print writes a value as JSON, or the text.
func (a *app) print(value any, text string) error {
	if !a.json {
		_, err := io.WriteString(a.out, plain(text))
		return err
	}
	encoder := json.NewEncoder(a.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// say prints a line for people to stderr.
func (a *app) say(format string, args ...any) {
	io.WriteString(a.err, plain(fmt.Sprintf(format+"\n", args...))) //nolint:errcheck // a hint that nobody reads changes nothing.
}

package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/canary"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/cli/internal/runner"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// canaryList is the command line of `canary list`.
type canaryList struct {
	accountRun // target, trust and ledger
	at         string
	overdue    time.Duration
	modules    []string
}

func newCanaryList(a *app) *cobra.Command {
	var r canaryList
	c := a.reading(&cobra.Command{
		Use:   "list",
		Short: "List all canaries of a ledger: revealed, open and overdue",
		Long: `Replays the ledger as "lacre audit" does, which judges every revealed verdict again,
compares it with its certificates, and lists every commitment: how old it is, whether
it was revealed, the verdict on each vector and which organisations endorsed it.
Where a result is not the expected one, the module is run again, and shows whether
the endorsers are wrong or the expectation. A commitment that was not revealed for
longer than --overdue is called so: a body that commits often and reveals what it
likes shows here. Times are block times; --at lists what stood at such a time.

With --state the state of the replay is kept; --resume replays only what came since.
The blocks before are read again too, but only compared with what was replayed. Give
it a file of its own: an account that goes on from it would not count these blocks.

Exit code: 0 nothing to ask about, 1 a mismatch, a missing vector, an overdue
commitment, or a ledger that does not hold, 2 nothing of it is certified.`,
		Example: `  lacre canary list
  lacre canary list --overdue 168h --at 2026-07-01 --json
  lacre canary list --resume --state canaries.state
  lacre canary list --ledger nodes/replica-authority/data --trust trust`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runCanaryList(c.Context(), &r) },
	})
	r.flags(c)
	r.trust.flags(c)
	f := c.Flags()
	f.StringVar(&r.ledger, "ledger", "", "a replica's data directory, or HOST:PORT of a running one")
	f.StringVar(&r.at, "at", "", "block time of which the list is: a date, or RFC 3339 (default: the newest certified block's)")
	f.DurationVar(&r.overdue, "overdue", 30*24*time.Hour, "how long a commitment may stay unrevealed")
	r.stateFlags(c, "lacre-canary.state", "replay what came after the list whose state is kept")
	f.StringArrayVar(&r.modules, "module", nil, "file of a further module that measurements name (repeat)")
	return c
}

func (a *app) runCanaryList(ctx context.Context, r *canaryList) error {
	o := canary.Options{Overdue: r.overdue}
	if r.overdue <= 0 {
		return usage("--overdue is %s, want a positive duration such as 168h", r.overdue)
	}
	var err error
	if o.AtUnixNano, err = blockTime("--at", r.at); err != nil {
		return err
	}
	if o.Trust, err = r.certifying(); err != nil {
		return err
	}
	if o.Resume, err = r.resumed(); err != nil {
		return err
	}
	known := map[digest.Digest][]byte{digest.Plain(speed.Module()): speed.Module()}
	for _, file := range r.modules {
		module, err := readModule(file)
		if err != nil {
			return err
		}
		known[digest.Plain(module)] = module
	}
	o.Modules = func(d digest.Digest) ([]byte, bool) {
		module, ok := known[d]
		return module, ok
	}
	engine, err := runner.New(ctx)
	if err != nil {
		return err
	}
	defer engine.Close() //nolint:errcheck // its results are out.
	o.Runner = engine
	bar := progress.New(a.err, "blocks")
	defer bar.Stop()
	var list *canary.List
	var report *audit.Report
	err = r.read(ctx, func(s, full audit.Source, blocks uint64) (err error) {
		o.Raw = full
		o.Progress = func(p audit.Progress) { bar.Set(int(min(p.Height+1, blocks)), int(blocks)) }
		list, report, err = canary.Of(ctx, s, o)
		return err
	})
	bar.Stop()
	switch {
	case err != nil:
		return err
	case list == nil:
		a.say("there is no list of a ledger that does not hold, or of which nothing is certified:\n%s", report)
		return exit(exitOf(report.Verdict))
	}
	if err := a.keepState(r.state, report.State); err != nil {
		return err
	}
	if err := a.print(list, plain(list.String())); err != nil {
		return err
	}
	if list.Objections() > 0 {
		return exit(ExitRefuted)
	}
	return nil
}

package command

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/events"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

// eventsRun is the command line of `events`.
type eventsRun struct {
	accountRun // target, trust, ledger and block times
	kinds      []string
	subject    string
}

func newEvents(a *app) *cobra.Command {
	var r eventsRun
	c := a.reading(&cobra.Command{
		Use:   "events",
		Short: "List the security events: refused modules, disagreements, readings of evidence",
		Long: `Replays the ledger as "lacre audit" does, compares it with its certificates, and
lists what the nodes reported: a module that no approval names was offered to an
endorser, endorsers disagreed, a meter signed one counter twice, the two engines
differed, an authority was given a piece of evidence. Times are block times. The
detail of a report is its reporter's word.

With --state the state of the replay is kept; --resume replays only what came since.
The blocks before are read again too, but only compared with what was replayed. Give
it a file of its own: an account that goes on from it would not count these blocks.

Kinds: ` + strings.Join(events.Kinds(), ", ") + `.

Exit code: 0 listed, 1 the ledger does not hold, 2 nothing of it is certified.`,
		Example: `  lacre events
  lacre events --kind EVIDENCE_READ --from 2026-01-01 --json
  lacre events --subject meter/my-meter
  lacre events --ledger nodes/replica-authority/data --trust trust`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runEvents(c.Context(), &r) },
	})
	r.flags(c)
	r.trust.flags(c)
	f := c.Flags()
	f.StringVar(&r.ledger, "ledger", "", "a replica's data directory, or HOST:PORT of a running one")
	f.StringArrayVar(&r.kinds, "kind", nil, "kind of event (repeat; default: all)")
	f.StringVar(&r.subject, "subject", "", "what it happened to, such as meter/my-meter or algorithm/HEX, or its part before a slash")
	f.StringVar(&r.from, "from", "", "first block time that counts: a date, or RFC 3339")
	f.StringVar(&r.to, "to", "", "first block time that no longer counts")
	r.stateFlags(c, "lacre-events.state", "replay what came after the list whose state is kept")
	return c
}

func (a *app) runEvents(ctx context.Context, r *eventsRun) error {
	for _, kind := range r.kinds {
		if !slices.Contains(events.Kinds(), kind) {
			return usage("--kind is %q, want one of %s", kind, strings.Join(events.Kinds(), ", "))
		}
	}
	o := events.Options{Kinds: r.kinds, Subject: r.subject}
	var err error
	if o.FromUnixNano, err = blockTime("--from", r.from); err != nil {
		return err
	}
	if o.UntilUnixNano, err = blockTime("--to", r.to); err != nil {
		return err
	}
	if o.UntilUnixNano != 0 && o.UntilUnixNano <= o.FromUnixNano {
		return usage("--to %s is not after --from %s", r.to, r.from)
	}
	if o.Trust, err = r.certifying(); err != nil {
		return err
	}
	if o.Resume, err = r.resumed(); err != nil {
		return err
	}
	bar := progress.New(a.err, "blocks")
	defer bar.Stop()
	var list *events.List
	var report *audit.Report
	err = r.read(ctx, func(s, _ audit.Source, blocks uint64) (err error) {
		o.Progress = func(p audit.Progress) { bar.Set(int(min(p.Height+1, blocks)), int(blocks)) }
		list, report, err = events.Of(ctx, s, o)
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
	return a.print(list, plain(list.String()))
}

package command

import (
	"context"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	collect "github.com/lacre-metrology/lacre/cli/internal/completeness"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/core/completeness"
	"github.com/lacre-metrology/lacre/sandbox/audit"
)

func newCompleteness(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "completeness",
		Short: "Show that nothing is missing between two samples of a meter",
		Long: `Consecutive counters, each sample naming the digest of the one before: whoever
holds such a file sees, offline, that no measurement of the span was left out.`,
	}, newCompletenessProve(a), newCompletenessVerify(a))
}

// completenessRun is the command line of `completeness prove`.
type completenessRun struct {
	accountRun // target, trust, ledger, from and to
	out        string
}

func newCompletenessProve(a *app) *cobra.Command {
	var r completenessRun
	c := a.reading(&cobra.Command{
		Use:   "prove METER",
		Short: "Write the file that shows a meter's consecutive samples",
		Long: `Replays the ledger as "lacre audit" does, compares it with its certificates, and
writes the meter's registration, key rollovers and measurements from one counter to
another, each with its inclusion proof to the newest certificate. --from and --to
are counters, or both dates of capture by the meter's clock (the end not included);
a file covers at most 1,024 counters. Counters that are missing are named.

Exit code: 0 complete, 1 the ledger does not hold, 2 counters are missing or
nothing is certified.`,
		Example: `  lacre completeness prove my-meter --from 1 --to 500 --out my-meter.complete
  lacre completeness prove my-meter --from 2026-01-01 --to 2026-01-02 --ledger nodes/replica-authority/data --trust trust --out day.complete`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runCompleteness(c.Context(), &r, args[0]) },
	})
	r.flags(c)
	r.trust.flags(c)
	f := c.Flags()
	f.StringVar(&r.ledger, "ledger", "", "a replica's data directory, or HOST:PORT of a running one")
	f.StringVar(&r.from, "from", "", "first counter, or a date of capture")
	f.StringVar(&r.to, "to", "", "last counter, or the first date of capture that no longer counts")
	f.StringVar(&r.out, "out", "", "file to write")
	return c
}

func (r *completenessRun) span(o *collect.Options) (err error) {
	first, notFirst := strconv.ParseUint(r.from, 10, 64)
	last, notLast := strconv.ParseUint(r.to, 10, 64)
	switch {
	case r.from == "" || r.to == "":
		return usage("--from and --to are needed: two counters, or two dates of capture")
	case notFirst == nil && notLast == nil && first >= 1 && last >= first:
		o.First, o.Last = first, last
		return nil
	case notFirst == nil || notLast == nil:
		return usage("--from %s and --to %s: want two ascending counters from 1, or two dates", r.from, r.to)
	}
	if o.FromUnixNano, err = blockTime("--from", r.from); err != nil {
		return err
	}
	if o.UntilUnixNano, err = blockTime("--to", r.to); err != nil {
		return err
	}
	if o.UntilUnixNano <= o.FromUnixNano {
		return usage("--to %s is not after --from %s", r.to, r.from)
	}
	return nil
}

func (a *app) runCompleteness(ctx context.Context, r *completenessRun, meter string) error {
	o := collect.Options{Meter: meter}
	if err := r.span(&o); err != nil {
		return err
	}
	if r.out == "" {
		return usage("--out FILE is needed: the file is binary")
	}
	var err error
	if o.Trust, err = r.certifying(); err != nil {
		return err
	}
	bar := progress.New(a.err, "blocks")
	defer bar.Stop()
	var file []byte
	var report *audit.Report
	err = r.read(ctx, func(s audit.Source, blocks uint64) (err error) {
		o.Progress = func(p audit.Progress) { bar.Set(int(min(p.Height+1, blocks)), int(blocks)) }
		file, report, err = collect.Of(ctx, s, o)
		return err
	})
	bar.Stop()
	if err != nil {
		return err
	}
	if file == nil {
		a.say("there is no file of a ledger that does not hold, or of which nothing is certified:\n%s", report)
		return exit(exitOf(report.Verdict))
	}
	if err := a.writeFile(r.out, file); err != nil {
		return err
	}
	result := completeness.Verify(file, o.Trust)
	if err := a.print(result, result.String()); err != nil {
		return err
	}
	return exit(exitOf(result.Verdict))
}

func newCompletenessVerify(a *app) *cobra.Command {
	var t trustFlags
	c := a.reading(&cobra.Command{
		Use:   "verify FILE",
		Short: "Verify such a file, offline",
		Long: `Judges the file with nothing but the trust bundle: every item's inclusion proof and
the certificate, every sample's signature, and that each names the one before.

Exit code: 0 complete, 1 refuted, 2 counters are missing, or nobody says who certifies.`,
		Example: `  lacre completeness verify my-meter.complete --trust trust`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			trusted, err := t.read(nil)
			if err != nil {
				return err
			}
			result := completeness.Verify(file, trusted)
			if err := a.print(result, result.String()); err != nil {
				return err
			}
			return exit(exitOf(result.Verdict))
		},
	})
	t.flags(c)
	return c
}

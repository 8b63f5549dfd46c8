package command

import (
	"context"
	"fmt"
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
are counters, or both dates of capture by the meter's clock (the end not included):
then the sample before and the one after are in it too, so that nothing is missing
at the ends. A file covers at most 1,024 counters; a longer span is written to
FILE.1, FILE.2 and so on. Counters that are missing are named.

With --state the state of the replay is kept; --resume replays only what came since.
The blocks before are read again too, but only compared with what was replayed. Give
it a file of its own: an account that goes on from it would not count these blocks.

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
	r.stateFlags(c, "lacre-completeness.state", "replay what came after the run whose state is kept")
	f.StringVar(&r.out, "out", "", "file to write; with .1, .2 .. at its end when one does not suffice")
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
	if o.Resume, err = r.resumed(); err != nil {
		return err
	}
	bar := progress.New(a.err, "blocks")
	defer bar.Stop()
	var files [][]byte
	var report *audit.Report
	err = r.read(ctx, func(s, _ audit.Source, blocks uint64) (err error) {
		o.Progress = func(p audit.Progress) { bar.Set(int(min(p.Height+1, blocks)), int(blocks)) }
		files, report, err = collect.Of(ctx, s, o)
		return err
	})
	bar.Stop()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		a.say("there is no file of a ledger that does not hold, or of which nothing is certified:\n%s", report)
		return exit(exitOf(report.Verdict))
	}
	if err := a.keepState(r.state, report.State); err != nil {
		return err
	}
	results := make([]*completeness.Result, len(files))
	for i, file := range files {
		path := r.out
		if len(files) > 1 {
			path += fmt.Sprintf(".%d", i+1)
		}
		if err := a.writeFile(path, file); err != nil {
			return err
		}
		results[i] = completeness.Verify(file, o.Trust)
	}
	return a.judged(results)
}

// judged prints what files of one span show together.
func (a *app) judged(results []*completeness.Result) error {
	result := completeness.Join(results)
	if err := a.print(result, result.String()); err != nil {
		return err
	}
	return exit(exitOf(result.Verdict))
}

func newCompletenessVerify(a *app) *cobra.Command {
	var t trustFlags
	c := a.reading(&cobra.Command{
		Use:   "verify FILE...",
		Short: "Verify such files of one meter, offline",
		Long: `Judges the files with nothing but the trust bundle: every item's inclusion proof and
the certificate, every sample's signature, and that each names the one before.
Several files, in any order, are judged as one span: the first sample of each names
the last one of the file before.

Exit code: 0 complete, 1 refuted, 2 counters are missing, or nobody says who certifies.`,
		Example: `  lacre completeness verify my-meter.complete --trust trust
  lacre completeness verify my-meter.complete.1 my-meter.complete.2 --trust trust`,
		Args: atLeastOne,
		RunE: func(_ *cobra.Command, args []string) error {
			trusted, err := t.read(nil)
			if err != nil {
				return err
			}
			results := make([]*completeness.Result, len(args))
			for i, path := range args {
				file, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				results[i] = completeness.Verify(file, trusted)
			}
			return a.judged(results)
		},
	})
	t.flags(c)
	return c
}

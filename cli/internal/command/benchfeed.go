package command

import (
	"github.com/spf13/cobra"

	stick "github.com/lacre-metrology/lacre/cli/internal/bench"
)

func newBenchFeed(a *app) *cobra.Command {
	o := stick.FeedDefaults()
	c := a.reading(&cobra.Command{
		Use:   "feed",
		Short: "Feed one replica many measurements: is it as fast, and as small, at the end?",
		Long: `Gives the only replica of a network so many signed measurements, as fast as it
takes them, and shows rate, CPU, bytes and memory of each tenth. Then the replica
is started again twice, after SIGTERM and after SIGKILL, and the time until it
serves is shown. With --keep the directory stays, for "lacre bench audit DIR".

The measurements are genuine: of registered meters, with the results that the
endorser's sandbox gave, so an audit finds nothing. Raw vectors are small, 2 x 192
samples, unless --samples says otherwise. A million takes about 2 GB of disk.`,
		Example: `  lacre bench feed --measurements 100000
  lacre bench feed --measurements 10000000 --dir /tmp/large --keep --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usage("%w", err)
			}
			o.Progress = a.err
			report, err := stick.Feed(c.Context(), o)
			if err != nil {
				return err
			}
			return a.print(report, report.Text())
		},
	})
	f := c.Flags()
	f.IntVar(&o.Measurements, "measurements", o.Measurements, "how many")
	f.IntVar(&o.Clients, "meters", o.Clients, "number of meters that they are of")
	f.IntVar(&o.Samples, "samples", o.Samples, "samples of each of two channels")
	f.IntVar(&o.Batch, "batch", o.Batch, "measurements in a submission")
	f.IntVar(&o.InFlight, "in-flight", o.InFlight, "submissions on their way")
	f.StringVar(&o.Dir, "dir", "", "empty directory for the network (default: a temporary one)")
	f.BoolVar(&o.Keep, "keep", false, "leave the directory")
	return c
}

func newBenchAudit(a *app) *cobra.Command {
	o := stick.AuditDefaults()
	c := a.reading(&cobra.Command{
		Use:   "audit DIR",
		Short: "Measure an audit from disk, with re-execution",
		Long: `Audits the first replica of a stopped network, which "lacre bench feed --keep" or
"lacre bench --keep" left in DIR, as "lacre audit" does: every stored byte is
re-hashed, every block replayed, every certificate checked, and the approved module
run again on the raw vectors. Says how many measurements a second that was, and
where the CPU went. "lacre audit" repeats every re-execution on the interpreter
(--cross-check always); endorsers repeat what 5 % of a machine allow (budgeted).`,
		Example: `  lacre bench audit /tmp/large
  lacre bench audit /tmp/large --cross-check budgeted --profile audit.pprof --json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.Check(); err != nil {
				return usage("%w", err)
			}
			o.Dir, o.Progress = args[0], a.err
			report, err := stick.Audit(c.Context(), o)
			if err != nil {
				return err
			}
			if err := a.print(report, report.Text()); err != nil {
				return err
			}
			return failed(report.Failed(), "the ledger is %s", report.Verdict)
		},
	})
	f := c.Flags()
	f.StringVar(&o.CrossCheck, "cross-check", o.CrossCheck, "what is repeated on the interpreter: always, budgeted or never")
	f.IntVar(&o.Sample, "sample-permille", o.Sample, "share of the measurements to re-execute")
	f.StringVar(&o.Profile, "profile", "", "file for the CPU profile of replay and re-execution")
	return c
}

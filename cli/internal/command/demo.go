package command

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/demo"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
)

func newDemo(a *app) *cobra.Command {
	var o demo.Options
	var verbose bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole path once on this machine, and check all of it",
		Long: `Starts four organisations with a ledger replica each, three of them endorsing, an
ingest gateway and the approval service; has a module approved and meters
registered; lets simulated vehicles of known speed pass; prints accuracy,
throughput and a receipt; tries a tampered sample, a replayed sample and a
tampered module; and audits the whole ledger. Everything runs in one process,
but nothing passes between nodes except over TLS sockets on loopback.

The exit code is 0 only if all of it held.`,
		Example: `  lacre demo
  lacre demo --passes 100 --meters 2 --dir /tmp/lacre-demo`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out, o.Log = a.out, a.logger(verbose)
			bar := progress.New(a.err, "certified measurements")
			defer bar.Stop()
			o.Progress = bar.Set
			err := demo.Run(c.Context(), o)
			if errors.Is(err, demo.ErrFailed) {
				return &exitError{code: ExitRefuted, err: err}
			}
			return err
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", "", "directory for network, receipts and trust bundle; kept (default: a new temporary one)")
	c.Flags().IntVar(&o.Meters, "meters", 10, "number of meters")
	c.Flags().IntVar(&o.Passes, "passes", 1000, "number of vehicle passes in all")
	c.Flags().Uint64Var(&o.Seed, "seed", 0, "seed of the simulated traffic (default: a fixed one, printed)")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the nodes' logs")
	return c
}

// logger is where nodes log: nowhere unless asked. What ends a node is returned
// as an error anyway, and the ordering engine complains at every stop.
func (a *app) logger(verbose bool) *slog.Logger {
	if !verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.err, nil))
}

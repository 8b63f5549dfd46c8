package command

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	stick "github.com/lacre-metrology/lacre/cli/internal/bench"
)

func newLoadBench(a *app) *cobra.Command {
	o := stick.Defaults()
	c := a.reading(&cobra.Command{
		Use:   "bench",
		Short: "Measure rate, latency and cost on this machine, with every node a process of its own",
		Long: `Founds a fresh network in a temporary directory, starts four replicas, three
endorsers, the gateway and the approval service as processes of their own (from
the binaries beside this one, or on the PATH), registers a meter for each client
and lets the clients measure as fast as they can (a closed loop) or at a fixed
rate (--rate, an open loop).

A measurement counts only when its receipt and its endorsement set verified.
Afterwards the ledger is read and compared with what was acknowledged: the exit
code is 1 if anything was lost, refused or wrong. docs/performance.md says what
is measured and what is not.`,
		Example: `  lacre bench
  lacre bench --clients 600 --duration 30s --json
  lacre bench --rate 300 --clients 200 --meters p256`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usage("%w", err)
			}
			o.Progress = a.err
			report, err := stick.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if err := a.print(report, report.Text()); err != nil {
				return err
			}
			if report.Failed() {
				return &exitError{code: ExitRefuted, err: fmt.Errorf("the benchmark failed: %d verified, %+v", report.Verified, report.Losses)}
			}
			return nil
		},
	})
	f := c.Flags()
	f.IntVar(&o.Clients, "clients", o.Clients, "number of clients, each with its own meter, key and connection")
	f.Float64Var(&o.Rate, "rate", 0, "measurements that arrive each second, whatever becomes of them (an open loop); 0 lets each client send when it was answered")
	f.DurationVar(&o.Duration, "duration", o.Duration, "length of the measured window")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "load before the window")
	f.DurationVar(&o.Drain, "drain", o.Drain, "how long to wait for answers after the window")
	f.StringVar(&o.Meters, "meters", o.Meters, "what meters sign with: ed25519, p256 or mixed")
	f.IntVar(&o.Channels, "channels", o.Channels, "channels of a raw vector")
	f.IntVar(&o.Samples, "samples", o.Samples, "samples of each channel; 512 ms of signal, whatever their number")
	f.StringVar(&o.Encoding, "encoding", o.Encoding, "of raw vectors: rice (compact, the SDK's) or int16")
	f.IntVar(&o.Endorsements, "endorsements", o.Endorsements, "organisations that must endorse, of three")
	f.StringVar(&o.Call, "call", o.Call, "how clients call: stream (as the SDK does) or unary")
	f.IntVar(&o.Profiles, "profiles", o.Profiles, "simulated vehicle passes to draw raw vectors from")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "seed of the simulated passes")
	f.BoolVar(&o.Stages, "stages", o.Stages, "take CPU profiles and attribute them to stages (costs about 1 % of the rate)")
	f.DurationVar(&o.KillLeaderAfter, "kill-leader-after", 0, "kill -9 the leading replica so long into the window; 0 kills nothing")
	f.StringVar(&o.Dir, "dir", "", "empty directory for the network (default: a temporary one)")
	f.BoolVar(&o.Keep, "keep", false, "leave the directory, with the nodes' data and logs")
	f.StringVar(&o.ProfileDir, "profile", "", "directory for the raw CPU profiles (implies --stages)")
	c.AddCommand(newBenchTable(a))
	c.PreRun = func(*cobra.Command, []string) { o.Stages = o.Stages || o.ProfileDir != "" }
	return c
}

func newBenchTable(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "table FILE...",
		Short: "Put the JSON reports of several runs side by side, as Markdown",
		Example: `  lacre bench --json >before.json
  lacre bench table before.json after.json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("give the JSON report of at least one run")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			var reports []*stick.Report
			for _, file := range args {
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				r := new(stick.Report)
				if err := json.Unmarshal(text, r); err != nil {
					return fmt.Errorf("%s is no report of \"lacre bench --json\": %w", file, err)
				}
				reports = append(reports, r)
			}
			_, err := fmt.Fprint(a.out, stick.Table(reports))
			return err
		},
	}
}

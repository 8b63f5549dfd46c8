package command

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	stick "github.com/lacre-metrology/lacre/cli/internal/bench"
)

func newLoadBench(a *app) *cobra.Command {
	o := stick.Defaults()
	c := a.reading(&cobra.Command{
		Use:   "bench",
		Short: "Measure rate, latency and cost on this machine, with every node a process of its own",
		Long: `Founds a fresh network in a temporary directory, starts its replicas, endorsers,
the gateway and the approval service as processes of their own (from the binaries
beside this one, or on the PATH), registers a meter for each client and lets the
clients measure as fast as they can (a closed loop) or at a fixed rate (--rate, an
open loop). With --backlog a share of them is cut off again and again, and sends
what it captured meanwhile at once when it is back.

A measurement counts only when its receipt and its endorsement set verified.
Afterwards the ledger is read and compared with what was acknowledged: the exit
code is 1 if anything was lost, refused or wrong. docs/performance.md says what
is measured and what is not.`,
		Example: `  lacre bench
  lacre bench --clients 600 --duration 30s --json
  lacre bench --rate 300 --clients 200 --meters p256
  lacre bench --clients 600 --meters mixed --backlog 0.1
  lacre bench --clients 600 --replicas 7 --endorsers 1 --endorsements 1`,
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
			return failed(report.Failed(), "%d verified, %+v", report.Verified, report.Losses)
		},
	})
	f := c.Flags()
	networkFlags(f, &o)
	clientFlags(f, &o)
	f.Float64Var(&o.Rate, "rate", 0, "measurements that arrive each second, whatever becomes of them (an open loop); 0 lets each client send when it was answered")
	f.Float64Var(&o.Backlog, "backlog", 0, "share of the clients that are cut off again and again, such as 0.1")
	f.DurationVar(&o.Outage, "outage", o.Outage, "how long each of them is cut off")
	f.DurationVar(&o.KillLeaderAfter, "kill-leader-after", 0, "kill -9 the leading replica so long into the window; 0 kills nothing")
	c.AddCommand(newBenchTable(a), newBenchEndorsers(a), newBenchOverload(a), newBenchFeed(a), newBenchAudit(a), newBenchPlan(a))
	return c
}

// failed is the exit of a benchmark that measured something wrong.
func failed(is bool, format string, args ...any) error {
	if !is {
		return nil
	}
	return &exitError{code: ExitRefuted, err: fmt.Errorf("the benchmark failed: "+format, args...)}
}

// networkFlags are those of every run: the network, its meters, what is measured
// for how long.
func networkFlags(f *pflag.FlagSet, o *stick.Options) {
	f.IntVar(&o.Network.Replicas, "replicas", o.Network.Replicas, "organisations that run a replica, up to 7")
	f.IntVar(&o.Network.Endorsers, "endorsers", o.Network.Endorsers, "organisations that run an endorser, up to 3")
	f.IntVar(&o.Clients, "clients", o.Clients, "number of clients, each with its own meter, key and connection")
	f.DurationVar(&o.Duration, "duration", o.Duration, "length of the measured window")
	f.DurationVar(&o.Warmup, "warmup", o.Warmup, "load before the window")
	f.DurationVar(&o.Drain, "drain", o.Drain, "how long to wait for answers after the window")
	f.StringVar(&o.Meters, "meters", o.Meters, "what meters sign with: ed25519, p256 or mixed")
	f.IntVar(&o.Channels, "channels", o.Channels, "channels of a raw vector")
	f.IntVar(&o.Samples, "samples", o.Samples, "samples of each channel; 512 ms of signal, whatever their number")
	f.StringVar(&o.Encoding, "encoding", o.Encoding, "of raw vectors: rice (compact, the SDK's) or int16")
	f.IntVar(&o.Profiles, "profiles", o.Profiles, "simulated vehicle passes to draw raw vectors from")
	f.Uint64Var(&o.Seed, "seed", o.Seed, "seed of the simulated passes")
	f.BoolVar(&o.Stages, "stages", o.Stages, "take CPU profiles and attribute them to stages (costs about 1 % of the rate)")
	f.StringVar(&o.Dir, "dir", "", "empty directory for the network (default: a temporary one)")
	f.BoolVar(&o.Keep, "keep", false, "leave the directory, with the nodes' data and logs")
	f.StringVar(&o.ProfileDir, "profile", "", "directory for the raw CPU profiles, taken whatever --stages says")
}

// clientFlags are those of runs whose measurements go all the way.
func clientFlags(f *pflag.FlagSet, o *stick.Options) {
	f.IntVar(&o.Endorsements, "endorsements", o.Endorsements, "organisations that must endorse, of those that run an endorser")
	f.StringVar(&o.Call, "call", o.Call, "how clients call: stream (as the SDK does) or unary")
}

func newBenchOverload(a *app) *cobra.Command {
	o := stick.Defaults()
	o.Clients, o.Duration = 600, 30*time.Second // until 64 MiB wait at the gateway, nothing is shed
	c := a.reading(&cobra.Command{
		Use:   "overload",
		Short: "Offer twice what the system can take, and see what becomes of its rate",
		Long: `Measures what the system takes with all clients in a closed loop, and then lets
twice that rate arrive in an open loop, for as long, on the same network. Says what
share of the peak is still served, and how often samples were answered OVERLOADED
(RESOURCE_EXHAUSTED). Clients keep what was refused and send it again, as the SDK
does: after the window the run waits until all of it is on the ledger. The exit
code is 1 if anything was lost, refused for ever or wrong.`,
		Example: `  lacre bench overload
  lacre bench overload --clients 1200 --duration 1m --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usage("%w", err)
			}
			o.Progress = a.err
			report, err := stick.Overload(c.Context(), o)
			if err != nil {
				return err
			}
			if err := a.print(report, report.Text()); err != nil {
				return err
			}
			return failed(report.Failed(), "peak %+v, overload %+v", report.Peak.Losses, report.Overload.Losses)
		},
	})
	networkFlags(c.Flags(), &o)
	clientFlags(c.Flags(), &o)
	return c
}

func newBenchEndorsers(a *app) *cobra.Command {
	o := stick.EndorserDefaults()
	c := a.reading(&cobra.Command{
		Use:   "endorsers",
		Short: "Measure what endorsers check, compute and sign, without a ledger behind them",
		Long: `Calls endorsers as the gateway does, over gRPC and mTLS, with batches of fresh
samples signed by registered meters, and counts the claims in answers whose
signature verified. The CPU that an endorser used for each of them says how many a
core does each second; the elapsed rate is lower, for the load generator uses the
same cores. The ledger only tells the endorsers who the meters are.`,
		Example: `  lacre bench endorsers
  lacre bench endorsers --meters p256 --batch 64 --json
  lacre bench endorsers --endorsers 3 --in-flight 1`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usage("%w", err)
			}
			o.Progress = a.err
			report, err := stick.Endorsers(c.Context(), o)
			if err != nil {
				return err
			}
			if err := a.print(report, report.Text()); err != nil {
				return err
			}
			return failed(report.Failed(), "%d claims, %d failures", report.Claims, report.Failures)
		},
	})
	f := c.Flags()
	networkFlags(f, &o.Options)
	f.IntVar(&o.Batch, "batch", o.Batch, "samples in a call")
	f.IntVar(&o.InFlight, "in-flight", o.InFlight, "calls on their way to each endorser")
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

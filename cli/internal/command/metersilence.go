package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/cli/internal/silence"
	"github.com/lacre-metrology/lacre/cli/internal/source"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/sandbox/audit"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// silenceRun is the command line of `meter silence`.
type silenceRun struct {
	target
	trust  trustFlags
	ledger string
	longer time.Duration
}

func newMeterSilence(a *app) *cobra.Command {
	var r silenceRun
	c := a.reading(&cobra.Command{
		Use:   "silence",
		Short: "List meters that have been silent, and samples signed but not delivered, verified",
		Long: `Replays a replica's ledger, without raw vectors, up to its newest certified block,
and lists the meters whose newest sign of life, a measurement or a heartbeat, is
older than --longer; those whose heartbeat says that samples were signed which
the ledger does not have; and those with counters missing between others. A sign
of life that the replica forged or left out is found, so this proves absence.

Silence is counted back from the time until which the replicas certified that no
later block came (as of), never from this machine's clock. If that is older than
--longer itself, nothing can be said of now: the replica is behind, or the ledger
stands still. Barred and decommissioned meters are not expected to be heard of.

--ledger is a replica's data directory, or HOST:PORT of a running one (with
--spki unless the network directory names it); without it the network's first
replica is asked.

Exit code: 0 none is listed, 1 some are, or the ledger does not hold; 2 nothing
of it is certified, or what is certified is too old.`,
		Example: `  lacre meter silence --longer 10m
  lacre meter silence --longer 24h --json
  lacre meter silence --ledger nodes/replica-authority/data --trust trust`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runSilence(c.Context(), &r) },
	})
	r.flags(c)
	r.trust.flags(c)
	f := c.Flags()
	f.StringVar(&r.ledger, "ledger", "", "a replica's data directory, or HOST:PORT of a running one")
	f.DurationVar(&r.longer, "longer", 10*time.Minute, "silence of at most this is usual")
	return c
}

func (a *app) runSilence(ctx context.Context, r *silenceRun) error {
	if r.longer <= 0 {
		return usage("--longer is %v, want more than 0", r.longer)
	}
	network, err := r.network()
	if err != nil {
		return err
	}
	o := silence.Options{Longer: r.longer}
	if o.Trust, err = r.trust.read(network); err != nil {
		return err
	}
	if o.Trust == nil {
		return usage("--trust FILE is needed without a network directory: it says who certifies")
	}
	bar := progress.New(a.err, "blocks")
	defer bar.Stop()
	var answer *silence.Answer
	var report *audit.Report
	err = r.read(ctx, func(s audit.Source, blocks uint64, newest func() ([]byte, error)) (err error) {
		o.Progress = func(p audit.Progress) { bar.Set(int(min(p.Height+1, blocks)), int(blocks)) }
		if o.Newest, err = newest(); err != nil {
			return err
		}
		answer, report, err = silence.Of(ctx, s, o)
		return err
	})
	bar.Stop()
	if errors.Is(err, silence.ErrTwoLedgers) {
		return &exitError{code: ExitRefuted, err: err}
	}
	if err != nil {
		return err
	}
	if answer == nil {
		a.say("nothing can be said of a ledger that does not hold, or of which nothing is certified:\n%s", report)
		return exit(exitOf(report.Verdict))
	}
	if err := a.print(answer, answer.Text()); err != nil {
		return err
	}
	if len(answer.Listed) > 0 {
		return exit(ExitRefuted)
	}
	if behind := time.Since(time.Unix(0, answer.AsOfUnixNano)); behind > r.longer {
		a.say("this is true as of %s, %v ago: who was silent since cannot be told\n       Remedy: ask another replica, or give the data directory of one that is not behind", answer.AsOf, behind.Round(time.Second))
		return exit(ExitUndecidable)
	}
	return nil
}

// read opens the ledger and gives it to f, with the number of its blocks and a
// way to get the certificate of its newest checkpoint.
func (r *silenceRun) read(ctx context.Context, f func(s audit.Source, blocks uint64, newest func() ([]byte, error)) error) error {
	if info, err := os.Stat(r.ledger); r.ledger != "" && err == nil && info.IsDir() {
		archive, err := ledger.OpenArchive(r.ledger)
		if err != nil {
			return fmt.Errorf("%w\n       Remedy: name a replica's data directory, and stop the replica or copy the directory first", err)
		}
		none := func() ([]byte, error) { return nil, nil }
		return errors.Join(f(source.Directory(archive), archive.Blocks(), none), archive.Close())
	}
	if r.ledger != "" {
		r.server = r.ledger
	}
	return r.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
		client := ledgerv1.NewLedgerServiceClient(c)
		status, err := client.GetStatus(ctx, &ledgerv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		return f(source.Records(client), status.GetCertifiedHeight()+1, func() ([]byte, error) {
			newest, err := client.GetCheckpoint(ctx, &ledgerv1.GetCheckpointRequest{})
			return newest.GetCertificate(), err
		})
	})
}

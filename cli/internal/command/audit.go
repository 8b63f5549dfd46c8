package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/cli/internal/source"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/sandbox"
	"github.com/lacre-metrology/lacre/sandbox/audit"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// auditRun is the command line of `audit`.
type auditRun struct {
	target
	trust   trustFlags
	from    string
	cold    string // of a directory
	since   uint64
	sample  string
	seed    uint64
	modules []string
	state   string
	resume  bool
}

const defaultAuditState = "lacre-audit.state"

func newAudit(a *app) *cobra.Command {
	var r auditRun
	c := a.reading(&cobra.Command{
		Use:   "audit",
		Short: "Replay a whole ledger, check its certificates, and re-execute its measurements",
		Long: `Replays every block through the one transition that the replicas run, compares
the tree with the certificates under the trust bundle, and runs the approved
modules again on the raw vectors. What does not hold is a finding, and names whom
it exposes: the endorsers of a wrong result, the cosigners of a wrong tree.

--from is a running replica (HOST:PORT, with --spki unless the network directory
names it) or the data directory of a stopped one, or a copy of it; of a directory
every stored byte is re-hashed too. Without --from the network's first replica is
asked. With --state the audit's state is kept, also when the connection is lost
on the way; --resume continues there. A directory is read as far as it is sound.

A module that its approval withholds is run from the escrowed copy that --module
gives, and from nothing else, the built-in one too; without it MODULE_WITHHELD
says that its measurements could not be judged.

Exit code: 0 nothing was found, 1 findings, 2 something could not be judged.`,
		Example: `  lacre audit
  lacre audit --from nodes/replica-authority/data --trust trust --module escrow.wasm
  lacre audit --from 127.0.0.1:4000 --spki HEX --trust trust --sample 1% --resume
  lacre audit --from .lacre/dev/nodes/replica-authority/data --trust .lacre/dev/trust --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runAudit(c.Context(), &r) },
	})
	r.flags(c)
	r.trust.flags(c)
	f := c.Flags()
	f.StringVar(&r.from, "from", "", "HOST:PORT of a replica, or a data directory")
	f.StringVar(&r.cold, "cold", "", "with a data directory, cold storage of its raw vectors, as the replica's configuration names it")
	f.Uint64Var(&r.since, "since", 0, "first height whose raw vectors are checked and whose measurements are re-executed")
	f.StringVar(&r.sample, "sample", "100%", "share of the measurements to re-execute, such as 1% or 0.5%")
	f.Uint64Var(&r.seed, "seed", 0, "seed that chooses the sample (default: a random one, in the report)")
	f.StringArrayVar(&r.modules, "module", nil, "file of a module that the ledger's measurements name: one that is not built in, or the escrowed copy of a withheld one (repeat)")
	f.StringVar(&r.state, "state", "", "file in which the audit's state is kept (default with --resume: "+defaultAuditState+")")
	f.BoolVar(&r.resume, "resume", false, "continue after the audit whose state is kept")
	return c
}

// auditOutcome is the report of `audit`.
type auditOutcome struct {
	*audit.Report
	Storage *ledger.ArchiveReport `json:"storage,omitempty"` // of a directory: every stored byte
	Damage  string                `json:"damage,omitempty"`  // why reading ended early
	Ended   string                `json:"ended,omitempty"`   // why the audit could not go on
}

func (a *app) runAudit(ctx context.Context, r *auditRun) error {
	options, err := r.options()
	if err != nil {
		return err
	}
	bar := progress.New(a.err, "blocks")
	defer bar.Stop()
	var outcome auditOutcome
	var ended error // why the audit could not go on
	if info, err := os.Stat(r.from); r.from != "" && err == nil && info.IsDir() {
		ended = a.auditDirectory(ctx, r.from, r.cold, &options, bar, &outcome)
	} else {
		ended = r.auditReplica(ctx, &options, bar, &outcome)
	}
	bar.Stop()
	return a.concludeAudit(r.state, &outcome, ended)
}

// concludeAudit keeps the state and tells what was found, also when the audit
// could not go on.
func (a *app) concludeAudit(state string, outcome *auditOutcome, ended error) error {
	if ended != nil && outcome.Report == nil {
		return ended
	}
	if state != "" && outcome.Report != nil && outcome.State != nil {
		if err := durable.WriteFile(state, outcome.State.Bytes(), 0o600); err != nil {
			return err
		}
		a.say("state kept in %s; --resume continues at block %d", state, outcome.State.Next())
	}
	if outcome.Report != nil && outcome.Findings == nil {
		outcome.Findings = []audit.Finding{} // an empty list in JSON
	}
	if ended != nil {
		outcome.Ended = ended.Error()
	}
	if err := a.print(outcome, outcome.text()); err != nil {
		return err
	}
	if ended != nil && outcome.exit() != ExitRefuted {
		return ended
	}
	return exit(outcome.exit())
}

// options translates the command line.
func (r *auditRun) options() (o audit.Options, err error) {
	o = audit.Options{Since: r.since, Seed: r.seed, Engine: sandbox.Config{CrossCheck: sandbox.CrossCheckAlways}}
	if o.SamplePermille, err = permille(r.sample); err != nil {
		return o, err
	}
	network, err := r.network()
	if err != nil {
		return o, err
	}
	if o.Trust, err = r.trust.read(network); err != nil {
		return o, err
	}
	if o.Trust == nil {
		return o, usage("--trust FILE is needed without a network directory: it says who certifies")
	}
	known, escrow := modules{}, modules{}
	known.add(speed.Module())
	for _, file := range r.modules {
		module, err := readModule(file)
		if err != nil {
			return o, err
		}
		known.add(module)
		escrow.add(module)
	}
	o.Modules, o.Escrow = known.find, escrow.find
	if r.resume && r.state == "" {
		r.state = defaultAuditState
	}
	if r.resume {
		if o.Resume, err = readState(r.state); err != nil {
			return o, err
		}
	}
	return o, nil
}

// modules are those at hand, by their SHA-256.
type modules map[digest.Digest][]byte

func (m modules) add(module []byte) { m[digest.Plain(module)] = module }

func (m modules) find(d digest.Digest) ([]byte, bool) {
	module, ok := m[d]
	return module, ok
}

// permille reads a share in per cent, in steps of a tenth.
func permille(share string) (int, error) {
	number, ok := strings.CutSuffix(share, "%")
	value, err := strconv.ParseFloat(number, 64)
	tenths := int(value*10 + 0.5)
	if !ok || err != nil || !(value > 0 && value <= 100) || tenths < 1 {
		return 0, usage("--sample is %q, want a share from 0.1%% to 100%%", share)
	}
	return tenths, nil
}

func (r *auditRun) auditReplica(ctx context.Context, o *audit.Options, bar *progress.Progress, outcome *auditOutcome) error {
	if r.from != "" {
		if strings.ContainsRune(r.from, os.PathSeparator) && !strings.Contains(r.from, "://") {
			return fmt.Errorf("%s is no directory", r.from)
		}
		r.server = r.from
		for _, scheme := range []string{"https://", "grpc://"} {
			r.server = strings.TrimPrefix(r.server, scheme)
		}
	}
	return r.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
		client := ledgerv1.NewLedgerServiceClient(c)
		status, err := client.GetStatus(ctx, &ledgerv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		show(o, bar, status.GetCertifiedHeight()+1)
		outcome.Report, err = audit.Run(ctx, source.Replica(client), *o)
		return err
	})
}

// show lets the bar follow an audit of so many blocks.
func show(o *audit.Options, bar *progress.Progress, blocks uint64) {
	o.Progress = func(p audit.Progress) { bar.Set(int(min(p.Height+1, blocks)), int(blocks)) }
}

// auditDirectory re-hashes what is stored, and then audits it. Damage is a
// finding: it ends up in the outcome.
func (a *app) auditDirectory(ctx context.Context, dir, cold string, o *audit.Options, bar *progress.Progress, outcome *auditOutcome) (err error) {
	archive, err := ledger.OpenArchiveWith(dir, ledger.ArchiveOptions{Cold: cold})
	if reason.Of(err) == reason.DataLoss {
		outcome.Damage = err.Error()
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w\n       Remedy: name a replica's data directory, and stop the replica or copy the directory first", err)
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	bytesBar := progress.New(a.err, "blocks re-hashed")
	outcome.Storage, err = archive.Verify(ctx, func(done, of uint64) { bytesBar.Set(int(done), int(of)) })
	bytesBar.Stop()
	if err != nil {
		return withoutCold(err, cold)
	}
	show(o, bar, archive.Blocks())
	outcome.Report, err = audit.Run(ctx, source.Directory(archive), *o)
	if reason.Of(err) == reason.DataLoss {
		outcome.Damage, err = err.Error(), nil
	}
	return err
}

// exit is refuted whenever anything stored is damaged.
func (o *auditOutcome) exit() int {
	if o.Damage != "" || o.Storage != nil && len(o.Storage.Problems) > 0 {
		return ExitRefuted
	}
	if o.Report == nil {
		return ExitUndecidable
	}
	return exitOf(o.Verdict)
}

func (o *auditOutcome) text() string {
	var b strings.Builder
	if s := o.Storage; s != nil {
		fmt.Fprintf(&b, "stored        %d blocks, %d records, %d raw vectors: %d bytes and %d values re-hashed, %d problems\n",
			s.Blocks, s.Records, s.RawVectors, s.Bytes, s.Values, len(s.Problems))
		if s.Expired > 0 {
			fmt.Fprintf(&b, "              %d raw vectors of blocks %d to %d expired\n", s.Expired, s.ExpiredFrom, s.ExpiredTo)
		}
		for _, p := range s.Problems {
			fmt.Fprintf(&b, "finding       %s (%s)\n", p, receipt.Refuted)
		}
	}
	if o.Damage != "" {
		fmt.Fprintf(&b, "finding       %s (%s)\n", o.Damage, receipt.Refuted)
	}
	if o.Report != nil {
		b.WriteString(o.String())
	}
	if o.Ended != "" {
		fmt.Fprintf(&b, "ended early   %s\n", o.Ended)
	}
	if o.exit() == ExitRefuted && (o.Report == nil || o.Verdict != receipt.Refuted) {
		fmt.Fprintf(&b, "%s: stored bytes are damaged\n", receipt.Refuted)
	}
	return b.String()
}

package command

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/account"
	"github.com/lacre-metrology/lacre/cli/internal/progress"
	"github.com/lacre-metrology/lacre/cli/internal/source"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/sandbox/audit"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// accountRun is the command line of `account`.
type accountRun struct {
	target
	trust          trustFlags
	ledger         string
	from, to       string
	by, per, owner string
	csv            bool
	state          string
	stateByDefault string // with --resume
	resume         bool
}

const defaultAccountState = "lacre-account.state"

func newAccount(a *app) *cobra.Command {
	var r accountRun
	c := a.reading(&cobra.Command{
		Use:   "account",
		Short: "Count who computed how many measurements, from the ledger alone",
		Long: `Replays the ledger as "lacre audit" does, compares it with its certificates, and
counts its measurements: each once for every organisation that endorsed it,
refusals and late ones too, for whoever computes earns the same whatever the
result. What no certificate covers does not count; the account says up to which
height it is true. Times are block times, in UTC.

--by organisation counts computations; the others show them in a column for each
organisation. The ledger does not say who owns a meter: --by owner needs --owners
FILE, lines of METER,OWNER. --by site goes by the parameters in force at the capture.

With --state the state of the replay is kept; --resume counts what was certified
since, without reading the rest again: accounts of one part after the other add up.
Such a state says nothing of re-execution, so "lacre audit" has one of its own.

--ledger is a replica's data directory, or HOST:PORT of a running one (with
--spki unless the network directory names it); without it the network's first
replica is asked.

Exit code: 0 counted, 1 the ledger does not hold, 2 nothing of it is certified.`,
		Example: `  lacre account
  lacre account --by period --per month --from 2026-01-01 --to 2027-01-01
  lacre account --by owner --owners owners.csv --csv
  lacre account --resume --state month.state
  lacre account --ledger nodes/replica-authority/data --trust trust --by meter --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runAccount(c.Context(), &r) },
	})
	r.flags(c)
	r.trust.flags(c)
	f := c.Flags()
	f.StringVar(&r.ledger, "ledger", "", "a replica's data directory, or HOST:PORT of a running one")
	f.StringVar(&r.from, "from", "", "first block time that counts: a date, or RFC 3339")
	f.StringVar(&r.to, "to", "", "first block time that no longer counts")
	f.StringVar(&r.by, "by", string(account.Organisation), "what the rows are: "+joined(account.Dimensions))
	f.StringVar(&r.per, "per", "day", "length of a period: day, month or year")
	f.StringVar(&r.owner, "owners", "", "CSV file of METER,OWNER, for --by owner")
	f.BoolVar(&r.csv, "csv", false, "print CSV instead of text")
	r.stateFlags(c, defaultAccountState, "count what came after the account whose state is kept")
	return c
}

func joined(list []account.By) string {
	names := make([]string, len(list))
	for i, by := range list {
		names[i] = string(by)
	}
	return strings.Join(names, ", ")
}

func (r *accountRun) options() (o account.Options, err error) {
	o = account.Options{By: account.By(r.by), Period: r.per}
	if !slices.Contains(account.Dimensions, o.By) {
		return o, usage("--by is %q, want one of %s", r.by, joined(account.Dimensions))
	}
	if !slices.Contains([]string{"day", "month", "year"}, r.per) {
		return o, usage("--per is %q, want day, month or year", r.per)
	}
	if (o.By == account.Owner) != (r.owner != "") {
		return o, usage("--by owner and --owners FILE belong together: the ledger does not say who owns a meter")
	}
	if o.FromUnixNano, err = blockTime("--from", r.from); err != nil {
		return o, err
	}
	if o.UntilUnixNano, err = blockTime("--to", r.to); err != nil {
		return o, err
	}
	if o.UntilUnixNano != 0 && o.UntilUnixNano <= o.FromUnixNano {
		return o, usage("--to %s is not after --from %s", r.to, r.from)
	}
	if r.owner != "" {
		if o.Owners, err = readOwners(r.owner); err != nil {
			return o, err
		}
	}
	if o.Trust, err = r.certifying(); err != nil {
		return o, err
	}
	o.Resume, err = r.resumed()
	return o, err
}

// stateFlags are --state and --resume.
func (r *accountRun) stateFlags(c *cobra.Command, byDefault, resume string) {
	r.stateByDefault = byDefault
	c.Flags().StringVar(&r.state, "state", "", "file in which the state is kept (default with --resume: "+byDefault+")")
	c.Flags().BoolVar(&r.resume, "resume", false, resume)
}

// resumed is the state to go on from; nil for the genesis block.
func (r *accountRun) resumed() (*audit.State, error) {
	if !r.resume {
		return nil, nil
	}
	if r.state == "" {
		r.state = r.stateByDefault
	}
	return readState(r.state)
}

// certifying is the trust bundle, without which nothing is counted.
func (r *accountRun) certifying() (*trust.Bundle, error) {
	network, err := r.network()
	if err != nil {
		return nil, err
	}
	bundle, err := r.trust.read(network)
	if err == nil && bundle == nil {
		err = usage("--trust FILE is needed without a network directory: it says who certifies")
	}
	return bundle, err
}

// readState reads a kept state; nil when there is none yet: the first replay
// begins at the genesis block.
func readState(path string) (*audit.State, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := audit.ParseState(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// blockTime reads a date (its midnight, UTC) or a time; 0 for none.
func blockTime(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano} {
		if t, err := time.Parse(layout, text); err == nil && t.Unix() > 0 && t.Year() < 2262 { // what 64 bits of nanoseconds hold
			return t.UnixNano(), nil
		}
	}
	return 0, usage("%s is %q, want a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z", flag, text)
}

// readOwners reads lines of METER,OWNER; no meter may be named twice.
func readOwners(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	reader := csv.NewReader(strings.NewReader(string(text)))
	reader.FieldsPerRecord = 2
	lines, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: want lines of METER,OWNER: %w", path, err)
	}
	owners := make(map[string]string, len(lines))
	for _, line := range lines {
		if before, ok := owners[line[0]]; ok {
			return nil, fmt.Errorf("%s: meter %s belongs to %q and to %q; name it once", path, line[0], before, line[1])
		}
		owners[line[0]] = line[1]
	}
	return owners, nil
}

func (a *app) runAccount(ctx context.Context, r *accountRun) error {
	options, err := r.options()
	if err != nil {
		return err
	}
	if a.json && r.csv {
		return usage("--json and --csv exclude each other")
	}
	bar := progress.New(a.err, "blocks")
	defer bar.Stop()
	var counted *account.Account
	var report *audit.Report
	err = r.read(ctx, func(s, _ audit.Source, blocks uint64) (err error) {
		options.Progress = func(p audit.Progress) { bar.Set(int(min(p.Height+1, blocks)), int(blocks)) }
		counted, report, err = account.Of(ctx, s, options)
		return err
	})
	bar.Stop()
	switch {
	case err != nil:
		return err
	case counted == nil:
		a.say("there is no account of a ledger that does not hold, or of which nothing is certified:\n%s", report)
		return exit(exitOf(report.Verdict))
	}
	if err := a.keepState(r.state, report.State); err != nil {
		return err
	}
	if r.csv {
		a.say("network %s, counted up to block %d of %s, which is certified", counted.Network, counted.CertifiedHeight, counted.CertifiedTime)
		return a.print(nil, counted.CSV())
	}
	return a.print(counted, counted.String())
}

// keepState keeps the state of a replay, if all of it is certified: only from
// such a one can an account go on, and one rule for all is enough.
func (a *app) keepState(path string, s *audit.State) error {
	switch {
	case path == "":
		return nil
	case s == nil || !s.Settled():
		a.say("the newest blocks are not certified, so there is no state to continue from; %s is left as it was", path)
		return nil
	}
	a.say("state kept in %s; --resume continues at block %d", path, s.Next())
	return durable.WriteFile(path, s.Bytes(), 0o600)
}

// read opens the ledger and gives it to f without its raw vectors and with them,
// and the number of its blocks.
func (r *accountRun) read(ctx context.Context, f func(s, full audit.Source, blocks uint64) error) (err error) {
	if info, err := os.Stat(r.ledger); r.ledger != "" && err == nil && info.IsDir() {
		archive, err := ledger.OpenArchive(r.ledger)
		if err != nil {
			return fmt.Errorf("%w\n       Remedy: name a replica's data directory, and stop the replica or copy the directory first", err)
		}
		all := source.Directory(archive)
		return errors.Join(f(all, all, archive.Blocks()), archive.Close())
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
		return f(source.Records(client), source.Replica(client), status.GetCertifiedHeight()+1)
	})
}

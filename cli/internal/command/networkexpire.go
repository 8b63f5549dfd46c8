package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/expiry"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func newNetworkExpire(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "expire",
		Short: "Let the raw vectors of old blocks expire, by a recorded decision",
		Long: `Raw vectors are kept for ever until a configuration sets a retention ("lacre network
change draft --limit raw-vector-retention=43800h") and a majority of the root keys
signs the decision that those of old blocks may go. A draft travels as a change
does: "lacre network change show", "sign" and "submit" take it.

A replica drops them only if its configuration says so (expiry.drop). Receipts,
proofs and bundles made before stay as good as they are; nobody computes the
results of these measurements again (docs/adr/0017).`,
	}, newNetworkExpireDraft(a), newNetworkExpireList(a))
}

// expireDraft is the command line of `network expire draft`.
type expireDraft struct {
	target
	trust       trustFlags
	networkID   string
	order       expiry.Order
	before, out string
}

func newNetworkExpireDraft(a *app) *cobra.Command {
	var d expireDraft
	c := a.reading(&cobra.Command{
		Use:   "draft",
		Short: "Draft the decision that raw vectors below a block may go",
		Long: `Takes all blocks that are older than the retention in force, or fewer, and writes the
decision, unsigned. It names the header of the last block that is covered, which is
proven from the trust bundle, and so every digest before it.`,
		Example: `  lacre network expire draft --network institute --rule "traffic act, section 12: five years" --out expire.json
  lacre network expire draft --network institute --before 2026-01-01 --rule "annual review" --out expire.json
  lacre network change sign expire.json --key institute/keys/institute.pem --network institute --out 1.dsse
  lacre network change submit 3.dsse --network institute`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runExpireDraft(c.Context(), &d) },
	})
	d.flags(c)
	d.trust.flags(c)
	f := c.Flags()
	f.StringVar(&d.networkID, "network-id", "", "digest of the genesis configuration; needed without a network directory")
	f.StringVar(&d.order.Rule, "rule", "", "the legal rule or policy that demands or allows it; goes on the ledger")
	f.StringVar(&d.before, "before", "", "only blocks before a time: a date (UTC), or RFC 3339")
	f.Uint64Var(&d.order.BelowHeight, "below", 0, "only blocks below this height")
	f.StringVar(&d.out, "out", "", "file to write; must not exist")
	return c
}

func (a *app) runExpireDraft(ctx context.Context, d *expireDraft) error {
	switch {
	case d.out == "":
		return usage("--out FILE is needed")
	case d.order.Rule == "":
		return usage("--rule is needed: the legal rule or policy that demands or allows it")
	case d.before != "" && d.order.BelowHeight != 0:
		return usage("--before and --below exclude each other")
	}
	var err error
	if d.order.BeforeUnixNano, err = blockTime("--before", d.before); err != nil {
		return err
	}
	n, err := d.network()
	if err != nil {
		return err
	}
	bundle, err := d.trust.read(n)
	if err == nil && bundle == nil {
		err = usage("no trust bundle to prove the block from: give --trust FILE, or --network DIR")
	}
	if err != nil {
		return err
	}
	snapshot, err := d.certified(ctx, d.networkID)
	if err != nil {
		return err
	}
	var decision *recordv1.RawVectorExpiry
	var last *expiry.Block
	err = d.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
		l := &expiry.Ledger{View: snapshot, Config: snapshot.Config(), Head: snapshot.Head(), Client: ledgerv1.NewLedgerServiceClient(c), Trust: bundle}
		decision, last, err = expiry.Draft(ctx, l, d.order, time.Now())
		return err
	})
	if err != nil {
		return err
	}
	e, err := a.createDraft(d.out, decision)
	if err != nil {
		return err
	}
	a.say("raw vectors of all blocks up to %d, of %s, may go; each signs it where the key lies: \"lacre network change sign %s --key KEY.pem --network DIR --out SIGNED\"",
		last.Height, timeOf(last.UnixNano), d.out)
	return a.printChange(e, &judge{config: snapshot.Config(), certain: snapshot})
}

// listedExpiry is a decision on the ledger.
type listedExpiry struct {
	Sequence      uint64   `json:"sequence"`
	BelowHeight   uint64   `json:"below_height"` // the first block whose raw vectors stay
	Rule          string   `json:"rule"`
	Organisations []string `json:"organisations"` // whose root keys signed
	Record        uint64   `json:"record"`
	Height        uint64   `json:"height"` // of the block that brought it
}

func newNetworkExpireList(a *app) *cobra.Command {
	var t target
	var networkID string
	c := a.reading(&cobra.Command{
		Use:   "list",
		Short: "List the decisions that raw vectors expire, and the retention in force",
		Long: `Follows the ledger's administrative records from the genesis block, verifies each
and the certificates, and lists the decisions. What a replica dropped of it, its
directory says ("lacre ledger info").`,
		Example: `  lacre network expire list --network institute
  lacre network expire list --server 127.0.0.1:4000 --spki HEX --network-id HEX --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			snapshot, err := t.certified(c.Context(), networkID)
			if err != nil {
				return err
			}
			decisions, err := state.Expiries(snapshot)
			if err != nil {
				return err
			}
			retention := snapshot.Config().Message.GetLimits().GetRawVectorRetentionNano()
			v := struct {
				Retention string         `json:"retention"` // "" is for ever
				Decisions []listedExpiry `json:"decisions"`
			}{Decisions: []listedExpiry{}}
			var b strings.Builder
			if retention == 0 {
				b.WriteString("raw vectors are kept for ever: no retention is set\n")
			} else {
				v.Retention = time.Duration(retention).String()
				fmt.Fprintf(&b, "raw vectors are kept for %s at least\n", v.Retention)
			}
			for _, d := range decisions {
				l := listedExpiry{d.GetLast().GetSequence(), d.GetBelowHeight(), d.GetRule(), d.GetOrganisations(), d.GetLast().GetIndex(), d.GetHeight()}
				v.Decisions = append(v.Decisions, l)
				fmt.Fprintf(&b, "%d  below block %d, record %d of block %d, signed by %s: %s\n", l.Sequence, l.BelowHeight, l.Record, l.Height, strings.Join(l.Organisations, ", "), l.Rule)
			}
			if len(decisions) == 0 {
				b.WriteString("no decision lets any go\n")
			}
			return a.print(v, b.String())
		},
	})
	t.flags(c)
	c.Flags().StringVar(&networkID, "network-id", "", "digest of the genesis configuration; needed without a network directory")
	return c
}

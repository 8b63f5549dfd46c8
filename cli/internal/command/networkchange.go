package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/change"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/governance"
	"github.com/lacre-metrology/lacre/core/record"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func newNetworkChange(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "change",
		Short: "Change a founded network: draft, show, sign offline, submit",
		Long: `A change is one file that travels. One drafts it from the configuration in force;
a majority of the organisations signs it with their root keys, and with every key
that is new in it, each where the key lies; one hands it in. The same commands
sign and submit what "lacre node" and "lacre recovery" draft.`,
	}, newNetworkChangeDraft(a), newNetworkChangeShow(a), newNetworkChangeSign(a), newNetworkChangeSubmit(a))
}

// changeDraft is the command line of `network change draft`.
type changeDraft struct {
	from                target
	trust               trustFlags
	history, out        string
	order               change.Order
	addOrganisations    []string
	addReplicas, bodies []string
}

func newNetworkChangeDraft(a *app) *cobra.Command {
	var d changeDraft
	c := a.reading(&cobra.Command{
		Use:   "draft",
		Short: "Draft the next configuration from the one in force",
		Long: `Takes the configuration in force from a replica, or from a file that "lacre trust
update" kept, proves it from the trust bundle, and writes the next one, unsigned.

An organisation joins in three steps: a change adds it, with its member file; it
registers its nodes ("lacre node register"); a second change adds its replicas,
if it runs any. The quorum follows rule C6 unless you say it.`,
		Example: `  lacre network change draft --network institute --add-organisation county.member --out add-county.json
  lacre network change draft --network institute --add-replica county.member --out add-replica.json
  lacre network change draft --network institute --remove-replica replica-operator --out remove.json
  lacre network change draft --network institute --limit lateness=96h --limit max-missing-ranges=128 --out limits.json
  lacre network change draft --network institute --notified-body inspection=KEY,KEY,KEY:2 --out body.json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runChangeDraft(c.Context(), &d) },
	})
	d.from.flags(c)
	d.trust.flags(c)
	f := c.Flags()
	f.StringVar(&d.history, "configurations", "", "file of configurations that \"lacre trust update\" kept, instead of asking a replica")
	f.StringArrayVar(&d.addOrganisations, "add-organisation", nil, "member file of an organisation that joins (repeat)")
	f.StringArrayVar(&d.order.RemoveOrganisations, "remove-organisation", nil, "id of an organisation that leaves (repeat)")
	f.StringArrayVar(&d.addReplicas, "add-replica", nil, "member file whose replicas join the quorum; they are registered already (repeat)")
	f.StringArrayVar(&d.order.RemoveReplicas, "remove-replica", nil, "id of a replica that leaves the quorum (repeat)")
	f.StringArrayVar(&d.bodies, "notified-body", nil, "ID[@ORGANISATION]=KEYS[:M] as in \"lacre network draft\": added, or in the place of the one of that id (repeat)")
	f.StringArrayVar(&d.order.RemoveBodies, "remove-notified-body", nil, "id of a notified body that leaves (repeat)")
	f.StringArrayVar(&d.order.EvidenceKeys, "evidence-key", nil, "ORGANISATION=HEX, or ORGANISATION= for none (repeat)")
	f.StringArrayVar(&d.order.Limits, "limit", nil, "NAME=VALUE; names are "+strings.Join(change.LimitNames(), ", ")+" (repeat)")
	f.Uint32Var(&d.order.Quorum, "quorum", 0, "cosignatures of a certificate")
	f.Uint32Var(&d.order.RecordVersion, "record-version", 0, "version of the record formats from the next block on; programs that do not know it stop")
	f.StringVar(&d.out, "out", "", "file to write; must not exist")
	return c
}

func (a *app) runChangeDraft(ctx context.Context, d *changeDraft) error {
	if d.out == "" {
		return usage("--out FILE is needed")
	}
	for _, list := range []struct {
		paths []string
		into  *[]*founding.Member
	}{{d.addOrganisations, &d.order.AddOrganisations}, {d.addReplicas, &d.order.AddReplicas}} {
		for _, path := range list.paths {
			m, _, err := founding.ReadMember(path)
			if err != nil {
				return err
			}
			*list.into = append(*list.into, m)
		}
	}
	for _, text := range d.bodies {
		b, err := founding.ParseBody(text)
		if err != nil {
			return usage("--notified-body %.40s: %w", text, err)
		}
		d.order.Bodies = append(d.order.Bodies, b)
	}
	_, history, err := d.from.verified(ctx, &d.trust, d.history)
	if err != nil {
		return err
	}
	config, err := change.Draft(history.InForce(), d.order, time.Now())
	if err != nil {
		return err
	}
	e, err := a.createDraft(d.out, config)
	if err != nil {
		return err
	}
	a.say("each signs it where the key lies: \"lacre network change sign %s --key KEY.pem --network DIR --out SIGNED\"", d.out)
	return a.printChange(e, &judge{config: history.InForce()})
}

// verified is the history of a replica, or of a file, proven from the trust
// bundle of the flags or of the network's directory.
func (t *target) verified(ctx context.Context, f *trustFlags, file string) (*recordv1.ConfigurationHistory, *governance.History, error) {
	n, err := t.network()
	if err != nil {
		return nil, nil, err
	}
	pinned, err := f.read(n)
	if err == nil && pinned == nil {
		err = usage("no trust bundle to prove it from: give --trust FILE, or --network DIR")
	}
	if err != nil {
		return nil, nil, err
	}
	var history *recordv1.ConfigurationHistory
	if file != "" {
		history, err = change.ReadHistory(file)
	} else {
		err = t.call(ctx, recordv1.Role_ROLE_REPLICA, func(ctx context.Context, c grpc.ClientConnInterface) error {
			history, err = change.Fetch(ctx, ledgerv1.NewLedgerServiceClient(c))
			return err
		})
	}
	if err != nil {
		return nil, nil, err
	}
	verified, err := governance.Verify(history, pinned)
	if errors.Is(err, governance.ErrHistory) || errors.Is(err, governance.ErrFork) {
		err = &exitError{code: ExitRefuted, err: err}
	} else if errors.Is(err, governance.ErrGap) {
		err = &exitError{code: ExitUndecidable, err: err}
	}
	return history, verified, err
}

// shownParty is one whose signatures a statement takes.
type shownParty struct {
	Who     string `json:"who"`
	Signed  int    `json:"signed"`
	Missing int    `json:"missing"`
}

// printChange shows what a statement changes, its digest, and who has signed.
func (a *app) printChange(e *envelope.Envelope, known *judge) error {
	text, err := statement.Text(e)
	if err != nil {
		return err
	}
	v := struct {
		Digest     string       `json:"digest"`
		Type       string       `json:"payload_type"`
		Difference []string     `json:"difference"` // of a configuration, to the one in force
		Parties    []shownParty `json:"parties"`
		Text       string       `json:"text"`
	}{Digest: e.Digest().String(), Type: e.PayloadType, Difference: []string{}, Parties: []shownParty{}, Text: text}
	var b strings.Builder
	if m, err := configurationOf(e); err != nil {
		return err
	} else if m != nil && known != nil {
		before := known.config.Message
		v.Difference = change.Difference(before, m)
		fmt.Fprintf(&b, "configuration %d of network %s, after %d in force\n  %s\n", m.GetHeader().GetSequence(), m.GetName(),
			before.GetHeader().GetSequence(), strings.Join(v.Difference, "\n  "))
	} else {
		b.WriteString(text)
	}
	if known != nil {
		parties, err := known.parties(e)
		if err != nil {
			return err
		}
		b.WriteString("signatures\n")
		for _, p := range parties {
			v.Parties = append(v.Parties, shownParty{p.Who, p.Signed, p.Missing})
			fmt.Fprintf(&b, "  %-44s %d signed, %d missing\n", p.Who, p.Signed, p.Missing)
		}
	}
	fmt.Fprintf(&b, "digest   %s\n", v.Digest)
	return a.print(v, b.String())
}

// configurationOf is the configuration that a statement is; nil for another kind.
func configurationOf(e *envelope.Envelope) (*recordv1.NetworkConfig, error) {
	if e.PayloadType != record.TypeNetworkConfig {
		return nil, nil
	}
	m := new(recordv1.NetworkConfig)
	return m, record.Decode(e.Payload, record.MaxBytes, m)
}

func newNetworkChangeShow(a *app) *cobra.Command {
	var j judging
	c := a.reading(&cobra.Command{
		Use:   "show FILE",
		Short: "Show what a change would change, who has signed it, and who is missing",
		Long: `Compares a configuration with the one in force, as the --network directory knows it
("lacre trust update" keeps it there) or, with --follow, as the certified ledger has
it, and checks the signatures that are there.`,
		Example: `  lacre network change show add-county.json --network institute
  lacre network change show add-county.dsse --network institute --json`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := readDraft(args[0])
			if err != nil {
				return err
			}
			known, err := j.judge(c.Context(), e)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return a.printChange(e, known)
		},
	})
	j.flags(c)
	return c
}

func newNetworkChangeSign(a *app) *cobra.Command {
	c := newApprovalSign(a)
	c.Short = "Sign a change, a registration or a revocation, offline"
	c.Long = `Shows all that a draft says, wants its digest, and adds signatures. A file that is
signed already gets more, so that it travels from organisation to organisation.
With --network, a key that may not sign is refused, and who is missing is named.

A configuration takes a majority of the root keys in force, and every key that is
new in it: root keys of who joins, cosigner and log keys of new replicas, keys of
new notified bodies. A registration takes the organisation's root key and the
node's own. Give --key more than once where the keys lie together.`
	c.Example = `  lacre network change sign add-county.json --key institute/keys/institute.pem --network institute --out 1.dsse
  lacre network change sign 1.dsse --key county/keys/county.pem --network institute --digest HEX --out 2.dsse`
	return c
}

func newNetworkChangeSubmit(a *app) *cobra.Command {
	c := newApprovalSubmit(a)
	c.Short = "Submit a signed change and wait until it is certified"
	c.Long = `Hands the change to an approval service, which checks it and submits it to the
ledger. A configuration waits for both quorums: the old replicas' and the new
ones' (rule C6). Afterwards "lacre trust update" extends the trust bundle.

--dry-run has it judged against the certified state, and submits nothing.`
	c.Example = `  lacre network change submit 3.dsse --network institute --dry-run
  lacre network change submit 3.dsse --network institute`
	return c
}

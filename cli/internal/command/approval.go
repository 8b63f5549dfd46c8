package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func newApproval(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "approval",
		Short: "Type approvals: draft, sign offline, submit, list",
		Long: `A type approval is an in-toto statement on a module's SHA-256, signed by a
notified body and the manufacturer. Drafting may ask the network where the
statement attaches; signing needs no connection; submitting needs no key.`,
	}, newApprovalDraft(a), newApprovalStatus(a), newApprovalShow(a), newApprovalSign(a), newApprovalSubmit(a), newApprovalList(a), newApprovalHistory(a), newApprovalVerify(a))
}

// approvalDraft is the command line of `approval draft`.
type approvalDraft struct {
	target
	networkID, predecessor       string
	sequence                     uint64
	body, manufacturer, key, out string
	report                       string
	require                      int
	of                           []string
	policy                       string
	withheld                     bool
}

func newApprovalDraft(a *app) *cobra.Command {
	var d approvalDraft
	c := &cobra.Command{
		Use:   "draft",
		Short: "Draft the approval of the built-in speed module",
		Long: `Writes the exact bytes that the notified body and the manufacturer will sign: an
in-toto statement in its one JSON form. Without a connection, --network-id (and
--sequence with --predecessor for a renewal) says where it attaches.`,
		Example: `  lacre approval draft --test-report report.json --out approval.json
  lacre approval draft --require 2 --of institute --of operator --of university --test-report report.json --out approval.json
  lacre approval draft --network-id HEX --manufacturer-key manufacturer.pem --test-report report.json --out approval.json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error { return a.runDraft(c.Context(), &d) },
	}
	d.flags(c)
	f := c.Flags()
	f.StringVar(&d.networkID, "network-id", "", "digest of the genesis configuration; drafts offline")
	f.Uint64Var(&d.sequence, "sequence", 1, "with --network-id: number of the statement on this module")
	f.StringVar(&d.predecessor, "predecessor", "", "with --network-id: digest of the statement before, if --sequence is above 1")
	f.StringVar(&d.body, "notified-body", devnet.NotifiedBody, "id of the notified body")
	f.StringVar(&d.manufacturer, "manufacturer", devnet.Manufacturer, "name of the manufacturer")
	f.StringVar(&d.key, "manufacturer-key", "", "file of the manufacturer's key, of which the public part is named (default: the network directory's)")
	f.StringVar(&d.report, "test-report", "", "file of the test report whose SHA-256 is named, such as \"lacre module test --out FILE\" writes")
	f.IntVar(&d.require, "require", 2, "how many of the organisations must endorse")
	f.StringArrayVar(&d.of, "of", devnet.EndorsingOrganisations(), "an organisation that may endorse (repeat)")
	f.StringVar(&d.policy, "policy", "", "endorsement policy, such as \"OutOf(2,'a','b',AND('c','d'))\", instead of --require and --of")
	f.BoolVar(&d.withheld, "withheld", false, "only contracted endorsers and the notified body hold the module")
	f.StringVar(&d.out, "out", "", "file to write (default: stdout)")
	return c
}

func (a *app) runDraft(ctx context.Context, d *approvalDraft) error {
	report, err := d.reportDigest()
	if err != nil {
		return err
	}
	var network *devnet.Network
	if d.networkID == "" {
		if network, err = d.network(); err != nil {
			return err
		}
	}
	place, err := d.place(ctx)
	if err != nil {
		return err
	}
	if d.key == "" && network != nil {
		d.key = network.KeyPath(devnet.Manufacturer)
	}
	if d.key == "" {
		return usage("--manufacturer-key is needed without a network directory")
	}
	key, err := statement.ReadKey(d.key)
	if err != nil {
		return fmt.Errorf("manufacturer's key: %w", err)
	}
	manufacturer, err := statement.VerifierKey(key.Public())
	if err != nil {
		return err
	}
	who, err := d.endorsers()
	if err != nil {
		return err
	}
	draft := statement.Speed(place, time.Now(), d.body, d.manufacturer, manufacturer, who, report)
	if d.withheld {
		draft.Disclosure = approval.Withheld
	}
	if err := draft.Check(); err != nil {
		return err
	}
	payload, err := draft.Encode()
	if err != nil {
		return err
	}
	a.say("module %s %s, SHA-256 %s; policy %s; statement %d", draft.ModuleName, draft.ModuleVersion, draft.Module, draft.Policy, draft.Sequence)
	return a.writeFile(d.out, payload)
}

// endorsers is the endorsement policy.
func (d *approvalDraft) endorsers() (policy.Policy, error) {
	if d.policy != "" {
		p, err := policy.Parse(d.policy)
		if err != nil {
			return p, usage("--policy: %w", err)
		}
		return p, nil
	}
	who := make([]policy.Policy, len(d.of))
	for i, id := range d.of {
		who[i] = policy.Organisation(id)
	}
	return policy.OutOf(d.require, who...), nil
}

// place is where the approval attaches: from the command line, or asked.
func (d *approvalDraft) place(ctx context.Context) (p statement.Place, err error) {
	if d.networkID == "" {
		return d.placeOf(ctx, record.SubjectAlgorithm(digest.Plain(speed.Module())))
	}
	return offlinePlace(d.networkID, d.sequence, d.predecessor)
}

// placeOf asks the approval service where a subject's next statement attaches.
func (t *target) placeOf(ctx context.Context, subject string) (p statement.Place, err error) {
	err = t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		p, err = statement.PlaceOf(ctx, approvalv1.NewApprovalServiceClient(c), subject)
		return err
	})
	return p, err
}

// offlinePlace takes it from the command line.
func offlinePlace(networkID string, sequence uint64, predecessor string) (p statement.Place, err error) {
	p.Sequence = sequence
	if p.NetworkID, err = digest.Parse(networkID); err != nil {
		return p, usage("--network-id: %w", err)
	}
	if predecessor != "" {
		if p.Predecessor, err = digest.Parse(predecessor); err != nil {
			return p, usage("--predecessor: %w", err)
		}
	}
	return p, nil
}

// reportDigest is the SHA-256 of the test report's file.
func (d *approvalDraft) reportDigest() (digest.Digest, error) {
	if d.report == "" {
		return digest.Zero, usage("--test-report FILE is needed: an approval names its test report; \"lacre module test --out report.json\" writes one")
	}
	b, err := os.ReadFile(d.report)
	if err != nil {
		return digest.Zero, fmt.Errorf("test report: %w", err)
	}
	return digest.Plain(b), nil
}

// draftFile is a protobuf statement before it is signed. An approval's draft is
// the in-toto statement itself, which people can read.
type draftFile struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
}

// readDraft reads what is to be signed: an in-toto statement, a draftFile, or an
// envelope that others have signed already.
func readDraft(path string) (*envelope.Envelope, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimRight(b, "\n") // editors add one
	if e, err := envelope.Parse(b); err == nil {
		return e, nil
	}
	var d draftFile
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if d.PayloadType != "" {
		return &envelope.Envelope{PayloadType: d.PayloadType, Payload: d.Payload}, nil
	}
	if _, err := approval.Parse(b); err != nil {
		return nil, fmt.Errorf("%s is no statement: %w", path, err)
	}
	return &envelope.Envelope{PayloadType: record.TypeApproval, Payload: b}, nil
}

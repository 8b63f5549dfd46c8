package command

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
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
	}, newApprovalDraft(a), newApprovalSign(a), newApprovalSubmit(a), newApprovalList(a))
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
	who := make([]policy.Policy, len(d.of))
	for i, id := range d.of {
		who[i] = policy.Organisation(id)
	}
	draft := statement.Speed(place, time.Now(), d.body, d.manufacturer, manufacturer, policy.OutOf(d.require, who...), report)
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

// place is where the approval attaches: from the command line, or asked.
func (d *approvalDraft) place(ctx context.Context) (p statement.Place, err error) {
	if d.networkID == "" {
		err = d.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
			p, err = statement.PlaceOf(ctx, approvalv1.NewApprovalServiceClient(c), record.SubjectAlgorithm(digest.Plain(speed.Module())))
			return err
		})
		return p, err
	}
	p.Sequence = d.sequence
	if p.NetworkID, err = digest.Parse(d.networkID); err != nil {
		return p, usage("--network-id: %w", err)
	}
	if d.predecessor != "" {
		if p.Predecessor, err = digest.Parse(d.predecessor); err != nil {
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

func newApprovalSign(a *app) *cobra.Command {
	var keys []string
	var out string
	c := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a draft, offline",
		Long: `Signs a draft (of an approval, or of a meter's registration) as a DSSE envelope.
A file that is signed already gets one more signature, so that notified body and
manufacturer can each sign where their key lies. No connection is made.`,
		Example: `  lacre approval sign approval.json --key notified-body.pem --out half.dsse
  lacre approval sign half.dsse --key manufacturer.pem --out approval.dsse`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(keys) == 0 {
				return usage("--key is needed: the file of the signer's private key")
			}
			e, err := readDraft(args[0])
			if err != nil {
				return err
			}
			for _, file := range keys {
				signer, err := statement.ReadKey(file)
				if err != nil {
					return err
				}
				key, err := statement.VerifierKey(signer.Public())
				if err != nil {
					return err
				}
				if err := e.Sign(signer, key.Kind()); err != nil {
					return fmt.Errorf("sign with %s: %w", file, err)
				}
			}
			signed, err := e.Encode()
			if err != nil {
				return err
			}
			a.say("statement %s has %d signatures", e.Digest(), len(e.Signatures))
			return a.writeFile(out, signed)
		},
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "file of a signer's private key (repeat)")
	c.Flags().StringVar(&out, "out", "", "file to write (default: stdout)")
	return c
}

// submitted is where a statement lies.
type submitted struct {
	Statement       string `json:"statement"`
	Index           uint64 `json:"index"`
	CertifiedHeight uint64 `json:"certified_height"`
}

func newApprovalSubmit(a *app) *cobra.Command {
	var t target
	c := a.reading(&cobra.Command{
		Use:   "submit FILE",
		Short: "Submit a signed statement and wait until it is certified",
		Long: `Hands a signed statement to the approval service, which checks it and submits it
to the ledger. The same statement again is answered with its place.`,
		Example: `  lacre approval submit approval.dsse`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			e, err := envelope.Parse(bytes.TrimRight(file, "\n"))
			if err != nil {
				return fmt.Errorf("%s is no signed statement (\"lacre approval sign\" makes one): %w", args[0], err)
			}
			s, err := t.submit(c.Context(), e)
			if err != nil {
				return err
			}
			return a.print(s, fmt.Sprintf("statement %s is record %d, certified at height %d\n", s.Statement, s.Index, s.CertifiedHeight))
		},
	})
	t.flags(c)
	return c
}

func (t *target) submit(ctx context.Context, e *envelope.Envelope) (s submitted, err error) {
	err = t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		response, err := statement.Submit(ctx, approvalv1.NewApprovalServiceClient(c), e)
		s = submitted{hex.EncodeToString(response.GetStatement()), response.GetIndex(), response.GetCertifiedHeight()}
		return err
	})
	return s, err
}

// listedApproval is one line of `approval list`.
type listedApproval struct {
	Algorithm string `json:"algorithm"`
	Statement string `json:"statement"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	Policy    string `json:"policy"`
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after"`
	Status    string `json:"status"` // approved, suspended or withdrawn
}

func newApprovalList(a *app) *cobra.Command {
	var t target
	c := a.reading(&cobra.Command{
		Use:   "list",
		Short: "List the approved modules and their standing",
		Example: `  lacre approval list
  lacre approval list --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			list := []listedApproval{}
			err := t.call(c.Context(), recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
				list, err = listApprovals(ctx, approvalv1.NewApprovalServiceClient(c))
				return err
			})
			if err != nil {
				return err
			}
			var b strings.Builder
			for _, l := range list {
				fmt.Fprintf(&b, "%s  %s %s  %s\n  policy %s, valid from %s until %s, statement %s\n", l.Algorithm, l.Name, l.Version, l.Status, l.Policy, l.NotBefore, l.NotAfter, l.Statement)
			}
			if len(list) == 0 {
				b.WriteString("no module is approved\n")
			}
			return a.print(list, b.String())
		},
	})
	t.flags(c)
	return c
}

func listApprovals(ctx context.Context, client approvalv1.ApprovalServiceClient) ([]listedApproval, error) {
	list := []listedApproval{}
	for token := ""; ; {
		page, err := client.ListApprovals(ctx, &approvalv1.ListApprovalsRequest{PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, listed := range page.GetApprovals() {
			l, err := describeApproval(listed)
			if err != nil {
				return nil, err
			}
			list = append(list, l)
		}
		if token = page.GetNextPageToken(); token == "" {
			return list, nil
		}
	}
}

func describeApproval(listed *approvalv1.Approval) (listedApproval, error) {
	p, err := approval.Parse(listed.GetPayload())
	if err != nil {
		return listedApproval{}, errors.Join(fmt.Errorf("approval of %x", listed.GetAlgorithm()), err)
	}
	status := "approved"
	switch {
	case listed.GetWithdrawn():
		status = "withdrawn"
	case listed.GetSuspended():
		status = "suspended"
	}
	day := func(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
	return listedApproval{
		Algorithm: hex.EncodeToString(listed.GetAlgorithm()), Statement: hex.EncodeToString(listed.GetStatement()),
		Name: p.ModuleName, Version: p.ModuleVersion, Policy: p.Policy.String(),
		NotBefore: day(p.NotBeforeUnix), NotAfter: day(p.NotAfterUnix), Status: status,
	}, nil
}

package command

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/envelope"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// submitted is where a statement lies.
type submitted struct {
	Statement       string `json:"statement"`
	Index           uint64 `json:"index"`
	CertifiedHeight uint64 `json:"certified_height"`
}

func newApprovalSubmit(a *app) *cobra.Command {
	var t target
	var dryRun bool
	c := a.reading(&cobra.Command{
		Use:   "submit FILE",
		Short: "Submit a signed statement and wait until it is certified",
		Long: `Hands a signed statement to the approval service, which checks it and submits it
to the ledger. The same statement again is answered with its place.

--dry-run has the service judge it against its certified state, and submits
nothing: another statement may still come first.`,
		Example: `  lacre approval submit approval.dsse --dry-run
  lacre approval submit approval.dsse`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			e, err := envelope.Parse(bytes.TrimRight(file, "\n"))
			if err != nil {
				return fmt.Errorf("%s is no signed statement (\"lacre approval sign\" makes one): %w", args[0], err)
			}
			if dryRun {
				s, err := t.rehearse(c.Context(), e)
				if err != nil {
					return err
				}
				return a.print(s, fmt.Sprintf("statement %s would be accepted, judged at height %d; nothing was submitted\n", s.Statement, s.CertifiedHeight))
			}
			s, err := t.submit(c.Context(), e)
			if err != nil {
				return err
			}
			return a.print(s, fmt.Sprintf("statement %s is record %d, certified at height %d\n", s.Statement, s.Index, s.CertifiedHeight))
		},
	})
	t.flags(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "have it judged, and submit nothing")
	return c
}

func (t *target) rehearse(ctx context.Context, e *envelope.Envelope) (s submitted, err error) {
	file, err := e.Encode()
	if err != nil {
		return s, err
	}
	err = t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		response, err := approvalv1.NewApprovalServiceClient(c).SubmitStatement(ctx, &approvalv1.SubmitStatementRequest{Envelope: file, DryRun: true})
		s = submitted{hex.EncodeToString(response.GetStatement()), response.GetIndex(), response.GetCertifiedHeight()}
		return err
	})
	return s, err
}

func (t *target) submit(ctx context.Context, e *envelope.Envelope) (s submitted, err error) {
	err = t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		response, err := statement.Submit(ctx, approvalv1.NewApprovalServiceClient(c), e)
		s = submitted{hex.EncodeToString(response.GetStatement()), response.GetIndex(), response.GetCertifiedHeight()}
		return err
	})
	return s, err
}

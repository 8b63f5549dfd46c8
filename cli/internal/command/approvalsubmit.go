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

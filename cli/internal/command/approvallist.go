package command

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/state"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// listedApproval is one line of `approval list`.
type listedApproval struct {
	Algorithm      string `json:"algorithm"`
	Statement      string `json:"statement"`
	Name           string `json:"name"`
	Version        string `json:"version"`
	Policy         string `json:"policy"`
	NotBefore      string `json:"not_before"`
	NotAfter       string `json:"not_after"`
	Status         string `json:"status"`                    // a state.Standing
	Successor      string `json:"successor,omitempty"`       // of a module that is or will be superseded
	SupersededFrom string `json:"superseded_from,omitempty"` // first capture time
	Disclosure     string `json:"disclosure"`
}

func newApprovalList(a *app) *cobra.Command {
	var t target
	var at string
	c := a.reading(&cobra.Command{
		Use:   "list",
		Short: "List the approved modules and their standing",
		Long: `Lists every module that was ever approved, with its standing for a capture at a
time (now, or --at): in force, not yet valid, expired, suspended, superseded. A
withdrawal counts for every capture whose record is not certified yet, so it is
shown at any time.`,
		Example: `  lacre approval list
  lacre approval list --at 2026-03-01T12:00:00Z
  lacre approval list --json`,
		Args: exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			when, err := timeOr(at, time.Now())
			if err != nil {
				return err
			}
			list := []listedApproval{}
			err = t.call(c.Context(), recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
				list, err = listApprovals(ctx, approvalv1.NewApprovalServiceClient(c), when)
				return err
			})
			if err != nil {
				return err
			}
			var b strings.Builder
			for _, l := range list {
				fmt.Fprintf(&b, "%s  %s %s  %s\n  policy %s, valid from %s until %s, statement %s\n", l.Algorithm, l.Name, l.Version, l.Status, l.Policy, l.NotBefore, l.NotAfter, l.Statement)
				if l.Successor != "" {
					fmt.Fprintf(&b, "  superseded from %s by %s\n", l.SupersededFrom, l.Successor)
				}
			}
			if len(list) == 0 {
				b.WriteString("no module is approved\n")
			}
			return a.print(list, b.String())
		},
	})
	t.flags(c)
	c.Flags().StringVar(&at, "at", "", "capture time in RFC 3339 (default: now)")
	return c
}

// timeOr reads a time of the command line.
func timeOr(text string, otherwise time.Time) (time.Time, error) {
	if text == "" {
		return otherwise, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, usage("%q is no time in RFC 3339, such as 2026-03-01T12:00:00Z", text)
	}
	return at, nil
}

func listApprovals(ctx context.Context, client approvalv1.ApprovalServiceClient, at time.Time) ([]listedApproval, error) {
	list := []listedApproval{}
	for token := ""; ; {
		page, err := client.ListApprovals(ctx, &approvalv1.ListApprovalsRequest{PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, listed := range page.GetApprovals() {
			l, err := describeApproval(listed, at)
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

func describeApproval(listed *approvalv1.Approval, at time.Time) (listedApproval, error) {
	p, err := approval.Parse(listed.GetPayload())
	if err != nil {
		return listedApproval{}, errors.Join(fmt.Errorf("approval of %x", listed.GetAlgorithm()), err)
	}
	standing := state.AlgorithmStanding(&statev1.Algorithm{
		Withdrawn: listed.GetWithdrawn(), Suspensions: listed.GetSuspensions(), SupersededAtUnixNano: listed.GetSupersededAtUnixNano(),
	}, p, at.UnixNano())
	day := func(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
	l := listedApproval{
		Algorithm: hex.EncodeToString(listed.GetAlgorithm()), Statement: hex.EncodeToString(listed.GetStatement()),
		Name: p.ModuleName, Version: p.ModuleVersion, Policy: p.Policy.String(), Disclosure: string(p.Disclosure),
		NotBefore: day(p.NotBeforeUnix), NotAfter: day(p.NotAfterUnix), Status: string(standing),
	}
	if from := listed.GetSupersededAtUnixNano(); from != 0 {
		l.Successor, l.SupersededFrom = hex.EncodeToString(listed.GetSuccessor()), time.Unix(0, from).UTC().Format(time.RFC3339Nano)
	}
	return l, nil
}

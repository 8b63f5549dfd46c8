package command

import (
	"bytes"
	"context"
	"slices"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// contracted says whose endorsers may be handed a module: everybody's, unless
// its approval withholds it. An endorser that should not have it refuses it too,
// but then it has left the house. A module that no approval names is offered to
// all: they refuse it, and record that.
func contracted(ctx context.Context, t *target, module digest.Digest) (may func(organisation string) bool, err error) {
	var terms *approval.Approval
	err = t.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		terms, err = findTerms(ctx, approvalv1.NewApprovalServiceClient(c), module)
		return err
	})
	if err != nil {
		return nil, err
	}
	return func(organisation string) bool {
		return terms == nil || terms.Disclosure != approval.Withheld || slices.Contains(terms.Policy.Organisations(), organisation)
	}, nil
}

// findTerms is the approval of a module; nil when there is none.
func findTerms(ctx context.Context, client approvalv1.ApprovalServiceClient, module digest.Digest) (*approval.Approval, error) {
	for token := ""; ; {
		page, err := client.ListApprovals(ctx, &approvalv1.ListApprovalsRequest{PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, listed := range page.GetApprovals() {
			if bytes.Equal(listed.GetAlgorithm(), module.Bytes()) {
				return approval.Parse(listed.GetPayload())
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return nil, nil
		}
	}
}

package api

import (
	"context"
	"slices"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

// contracted refuses a module whose disclosure is withheld unless the approval's
// policy names this endorser's organisation: nobody else has use for it.
func (s *Server) contracted(approved *statev1.Algorithm) error {
	terms, err := approval.ParseAccepted(approved.GetApprovalPayload())
	if err != nil || terms.Disclosure != approval.Withheld {
		return err
	}
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return err
	}
	node, err := state.GetNode(snapshot, s.endorser.NodeID)
	if err != nil {
		return err
	}
	if !slices.Contains(terms.Policy.Organisations(), node.GetOrganisation()) {
		return reason.New(reason.NotContracted, "module %s is withheld, its policy %s does not name %s, the organisation of %s",
			terms.Module.Short(), terms.Policy, node.GetOrganisation(), s.endorser.NodeID)
	}
	return nil
}

// GetAlgorithm gives a module's bytes. What is withheld goes to the node of an
// approval service alone: the notified body's escrowed copy.
func (s *Server) GetAlgorithm(ctx context.Context, request *computev1.GetAlgorithmRequest) (*computev1.GetAlgorithmResponse, error) {
	id, err := record.Digest32("algorithm", request.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	approved, err := state.GetAlgorithm(snapshot, id)
	if err != nil {
		return nil, err
	}
	if approved == nil {
		return nil, reason.New(reason.UnknownAlgorithm, "no approval on the certified ledger names algorithm %s", id.Short())
	}
	terms, err := approval.ParseAccepted(approved.GetApprovalPayload())
	if err != nil {
		return nil, err
	}
	caller := rpcserver.PeerFrom(ctx)
	if terms.Disclosure == approval.Withheld && caller.Role != identity.RoleApproval {
		return nil, reason.New(reason.PermissionDenied, "module %s is withheld: it goes to a node registered as %s, the caller is %s",
			id.Short(), identity.RoleApproval, caller.Role)
	}
	module, err := s.modules.Bytes(id)
	if err != nil {
		return nil, err
	}
	if module == nil {
		return nil, reason.New(reason.NotInstalled, "endorser %s does not hold algorithm %s", s.endorser.NodeID, id.Short())
	}
	s.log.InfoContext(ctx, "algorithm handed out", "algorithm", id, "caller", caller.ID, "role", caller.Role)
	return &computev1.GetAlgorithmResponse{Module: module}, nil
}

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

// GetAlgorithm gives a module's bytes. What is withheld goes to the notified body
// that approved it alone, for its escrow.
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
	if terms.Disclosure == approval.Withheld {
		if err := actsFor(snapshot.Config(), caller, terms); err != nil {
			return nil, err
		}
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

// actsFor refuses a caller that is no approval node of the organisation that acts
// for the notified body of an approval, by the configuration and the registration
// in force now.
func actsFor(config *state.Config, caller identity.Peer, terms *approval.Approval) error {
	refuse := func(format string, args ...any) error {
		return reason.New(reason.PermissionDenied, "module %s is withheld: "+format, append([]any{terms.Module.Short()}, args...)...)
	}
	if caller.Role != identity.RoleApproval {
		return refuse("it goes to a node registered as %s, the caller is %s", identity.RoleApproval, caller.Role)
	}
	organisation := config.NotifiedBody(terms.NotifiedBody).GetOrganisation()
	if organisation == "" {
		return refuse("no organisation acts for notified body %s, which approved it; a configuration may name one", terms.NotifiedBody)
	}
	if caller.Organisation != organisation {
		return refuse("organisation %s acts for notified body %s, which approved it; %s is of %s", organisation, terms.NotifiedBody, caller.ID, caller.Organisation)
	}
	return nil
}

// Package api is ApprovalService over gRPC.
//
// Source: proto/lacre/approval/v1; the paper, section VI-D (the notified body
// puts fingerprint and policy on the ledger).
//
// Invariants:
//   - The service holds no truth: every answer is from certified state, and says
//     at which height it was true.
//   - It holds no key of a notified body: statements come signed, and the ledger
//     judges them.
package api

import (
	"context"
	"encoding/base64"
	"slices"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// Server implements ApprovalService.
type Server struct {
	approvalv1.UnimplementedApprovalServiceServer
	ledger *follower.Follower
}

// New makes the server.
func New(ledger *follower.Follower) *Server { return &Server{ledger: ledger} }

// SubmitStatement checks a signed statement and submits it to the ledger. A
// statement that is on the ledger already is answered with its place.
func (s *Server) SubmitStatement(ctx context.Context, request *approvalv1.SubmitStatementRequest) (*approvalv1.SubmitStatementResponse, error) {
	signed, err := envelope.Parse(request.GetEnvelope())
	if err != nil {
		return nil, reason.New(reason.Malformed, "%v", err)
	}
	leaf, err := record.FromEnvelope(signed)
	if err != nil {
		return nil, err
	}
	response, err := s.ledger.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
	if err != nil {
		return nil, err
	}
	outcome := response.GetOutcomes()[0]
	if why := reason.Reason(outcome.GetReason()); !outcome.GetAccepted() && why != reason.Duplicate {
		return nil, &reason.Error{Reason: why, Detail: outcome.GetDetail()}
	}
	// Whoever asks next is to see the statement here too.
	if _, err := s.ledger.Wait(ctx, response.GetCertifiedHeight()); err != nil {
		return nil, err
	}
	return &approvalv1.SubmitStatementResponse{
		Statement: signed.Digest().Bytes(), Index: outcome.GetIndex(), CertifiedHeight: response.GetCertifiedHeight(),
	}, nil
}

// GetSubject returns where the next statement on a subject must attach (rule S4).
func (s *Server) GetSubject(_ context.Context, request *approvalv1.GetSubjectRequest) (*approvalv1.GetSubjectResponse, error) {
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	sequence, predecessor, err := state.NextStatement(snapshot, request.GetSubject())
	if err != nil {
		return nil, err
	}
	response := &approvalv1.GetSubjectResponse{NetworkId: s.ledger.NetworkID().Bytes(), NextSequence: sequence}
	if !predecessor.IsZero() {
		response.Predecessor = predecessor.Bytes()
	}
	return response, nil
}

// ListApprovals lists the approved algorithms.
func (s *Server) ListApprovals(_ context.Context, request *approvalv1.ListApprovalsRequest) (*approvalv1.ListApprovalsResponse, error) {
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	ids, next, err := page(snapshot, state.PrefixAlgorithm, request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	response := &approvalv1.ListApprovalsResponse{NextPageToken: next, CertifiedHeight: snapshot.Head().Height}
	for _, id := range ids {
		module, err := digest.Parse(id)
		if err != nil {
			return nil, err
		}
		a, err := state.GetAlgorithm(snapshot, module)
		if err != nil {
			return nil, err
		}
		response.Approvals = append(response.Approvals, &approvalv1.Approval{
			Algorithm: module.Bytes(), Statement: a.GetApproval(), Payload: a.GetApprovalPayload(),
			Suspended: open(a.GetSuspensions()), Withdrawn: a.GetWithdrawn(),
		})
	}
	return response, nil
}

// ListMeters lists the registered meters.
func (s *Server) ListMeters(_ context.Context, request *approvalv1.ListMetersRequest) (*approvalv1.ListMetersResponse, error) {
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	ids, next, err := page(snapshot, state.PrefixMeter, request.GetPageSize(), request.GetPageToken())
	if err != nil {
		return nil, err
	}
	response := &approvalv1.ListMetersResponse{NextPageToken: next, CertifiedHeight: snapshot.Head().Height}
	for _, id := range ids {
		m, err := state.GetMeter(snapshot, id)
		if err != nil {
			return nil, err
		}
		response.Meters = append(response.Meters, &approvalv1.Meter{
			MeterId: id, Registration: m.GetRegistrationPayload(),
			InService: !m.GetBarred() && m.GetDecommissionedAtUnixNano() == 0 && !open(m.GetSuspensions()),
		})
	}
	return response, nil
}

// open reports whether the last span has no end.
func open(spans []*statev1.Span) bool {
	return len(spans) > 0 && spans[len(spans)-1].GetUntilUnixNano() == 0
}

// page returns the ids under a prefix after the token, sorted, and the next token.
func page(snapshot *follower.Snapshot, prefix string, size uint32, token string) (ids []string, next string, err error) {
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, "", reason.New(reason.Malformed, "page token %.32q is not one that this service gave", token)
	}
	if size > maxPage {
		return nil, "", reason.New(reason.Malformed, "page size %d, at most %d", size, maxPage)
	}
	if size == 0 {
		size = defaultPage
	}
	snapshot.Keys(prefix, func(key string) {
		if id := key[len(prefix):]; id > string(after) {
			ids = append(ids, id)
		}
	})
	slices.Sort(ids)
	if len(ids) > int(size) {
		ids = ids[:size]
		next = base64.RawURLEncoding.EncodeToString([]byte(ids[size-1]))
	}
	return ids, next, nil
}

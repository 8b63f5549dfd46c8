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
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// maxPageBytes ends a page early: other people's gRPC clients accept 4 MiB.
	maxPageBytes = 2 << 20
	// maxSubmitting bounds the statements that wait for the ledger: anybody may
	// hand one in.
	maxSubmitting = 64
	retryDelay    = 500 * time.Millisecond
	// electionBound is how long a statement waits for a leader. An election takes
	// less; whoever hands in a statement need not know of it.
	electionBound = 5 * time.Second
)

// Ledger is the certified ledger, as the front door sees it.
type Ledger interface {
	NetworkID() digest.Digest
	Snapshot() (*follower.Snapshot, error)
	// Wait returns the first snapshot at or above a height.
	Wait(ctx context.Context, height uint64) (*follower.Snapshot, error)
	// Submit's answer has an outcome for each record.
	Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error)
}

// Server implements ApprovalService.
type Server struct {
	approvalv1.UnimplementedApprovalServiceServer
	ledger     Ledger
	submitting *semaphore.Weighted
}

// New makes the server.
func New(ledger Ledger) *Server {
	return &Server{ledger: ledger, submitting: semaphore.NewWeighted(maxSubmitting)}
}

// SubmitStatement checks a signed statement and submits it to the ledger. A
// statement that is on the ledger already is answered with its place. What it
// says of a place is a replica's word; the log proves it.
func (s *Server) SubmitStatement(ctx context.Context, request *approvalv1.SubmitStatementRequest) (*approvalv1.SubmitStatementResponse, error) {
	signed, err := envelope.Parse(request.GetEnvelope())
	if err != nil {
		return nil, reason.New(reason.Malformed, "%v", err)
	}
	leaf, err := record.FromEnvelope(signed)
	if err != nil {
		return nil, err
	}
	if !s.submitting.TryAcquire(1) {
		return nil, rpcserver.Overloaded("statements on their way", retryDelay)
	}
	defer s.submitting.Release(1)
	if request.GetDryRun() {
		return s.rehearse(signed.Digest(), leaf)
	}
	response, err := s.submit(ctx, leaf)
	if err != nil {
		return nil, err
	}
	outcome := response.GetOutcomes()[0]
	switch why := reason.Reason(outcome.GetReason()); {
	case outcome.GetAccepted() || why == reason.Duplicate:
	case why == "":
		return nil, reason.New(reason.NotCertified, "the ledger neither took the statement nor said why")
	default:
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

// submit repeats while no replica leads: a statement stands once, however often
// it is submitted (rule S4).
func (s *Server) submit(ctx context.Context, leaf []byte) (*ledgerv1.SubmitResponse, error) {
	election := time.After(electionBound)
	for {
		response, err := s.ledger.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
		if reason.Of(err) != reason.NotLeader {
			return response, err
		}
		select {
		case <-time.After(retryDelay):
		case <-election:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
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
	response := &approvalv1.ListApprovalsResponse{CertifiedHeight: snapshot.Head().Height}
	response.NextPageToken, err = page(snapshot, state.PrefixAlgorithm, request.GetPageSize(), request.GetPageToken(), func(id string) (int, error) {
		module, err := digest.Parse(id)
		if err != nil {
			return 0, err
		}
		a, err := state.GetAlgorithm(snapshot, module)
		if err != nil {
			return 0, err
		}
		response.Approvals = append(response.Approvals, &approvalv1.Approval{
			Algorithm: module.Bytes(), Statement: a.GetApproval(), Payload: a.GetApprovalPayload(),
			Suspended: open(a.GetSuspensions()), Withdrawn: a.GetWithdrawn(),
			Suspensions: a.GetSuspensions(), SupersededAtUnixNano: a.GetSupersededAtUnixNano(), Successor: a.GetSuccessor(),
		})
		return len(a.GetApprovalPayload()), nil
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// ListMeters lists the registered meters.
func (s *Server) ListMeters(_ context.Context, request *approvalv1.ListMetersRequest) (*approvalv1.ListMetersResponse, error) {
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	response := &approvalv1.ListMetersResponse{CertifiedHeight: snapshot.Head().Height}
	response.NextPageToken, err = page(snapshot, state.PrefixMeter, request.GetPageSize(), request.GetPageToken(), func(id string) (int, error) {
		m, err := state.GetMeter(snapshot, id)
		if err != nil {
			return 0, err
		}
		response.Meters = append(response.Meters, &approvalv1.Meter{
			MeterId: id, Registration: m.GetRegistrationPayload(),
			InService: !m.GetBarred() && m.GetDecommissionedAtUnixNano() == 0 && !open(m.GetSuspensions()),
		})
		return len(m.GetRegistrationPayload()), nil
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// open reports whether the last span has no end.
func open(spans []*statev1.Span) bool {
	return len(spans) > 0 && spans[len(spans)-1].GetUntilUnixNano() == 0
}

// page visits the ids under a prefix after the token, ascending, and returns the
// token of the next page. visit returns the bytes that the item has.
func page(snapshot *follower.Snapshot, prefix string, size uint32, token string, visit func(id string) (int, error)) (next string, err error) {
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", reason.New(reason.Malformed, "page token %.32q is not one that this service gave", token)
	}
	if size > maxPage {
		return "", reason.New(reason.Malformed, "page size %d, at most %d", size, maxPage)
	}
	if size == 0 {
		size = defaultPage
	}
	var ids []string
	snapshot.Keys(prefix, func(key string) {
		if id := key[len(prefix):]; id > string(after) {
			ids = append(ids, id)
		}
	})
	slices.Sort(ids)
	bytes := 0
	for i, id := range ids {
		if i > 0 && (i == int(size) || bytes > maxPageBytes) {
			return base64.RawURLEncoding.EncodeToString([]byte(ids[i-1])), nil
		}
		n, err := visit(id)
		if err != nil {
			return "", err
		}
		bytes += n
	}
	return "", nil
}

// Package api is IngestService over gRPC.
//
// Source: proto/lacre/ingest/v1; architecture, rule N2.
//
// Invariants:
//   - A refusal of a sample is an answer, not a gRPC error; an error status is
//     about the call.
//   - PENDING is said, never implied: a sample whose answer is not known when
//     the call ends is neither taken nor refused.
//   - A stopping gateway answers every sample that it took before it ends a
//     stream, and ends it with NOT_READY.
package api

import (
	"context"
	"errors"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/ingest/internal/gateway"
)

const (
	// pendingAfter is when a stream says PENDING instead of keeping the meter waiting.
	pendingAfter = 20 * time.Second
	// maxInStream bounds the samples of one stream that have no answer yet.
	maxInStream = 1024
)

// Server implements IngestService.
type Server struct {
	ingestv1.UnimplementedIngestServiceServer
	gateway      *gateway.Gateway
	pendingAfter time.Duration // the constants but in tests
	maxInStream  int
}

// New makes the server.
func New(g *gateway.Gateway) *Server {
	return &Server{gateway: g, pendingAfter: pendingAfter, maxInStream: maxInStream}
}

// Submit takes one sample. It answers PENDING when the deadline comes first.
func (s *Server) Submit(ctx context.Context, request *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error) {
	answers := make(chan gateway.Answer, 1)
	id, err := s.gateway.Submit(sourceOf(ctx), request, func(a gateway.Answer) { answers <- a })
	if err != nil {
		return refusal(id, err), nil
	}
	select {
	case a := <-answers:
		return answer(a), nil
	case <-ctx.Done():
		return pending(id), nil
	}
}

// sourceOf is the caller as the ledger registered it.
func sourceOf(ctx context.Context) gateway.Source {
	caller := rpcserver.PeerFrom(ctx)
	return gateway.Source{ID: caller.ID, Relays: caller.Role != identity.RoleMeter}
}

// SubmitHeartbeat takes one sign of life.
func (s *Server) SubmitHeartbeat(ctx context.Context, request *ingestv1.SubmitHeartbeatRequest) (*ingestv1.SubmitHeartbeatResponse, error) {
	index, err := s.gateway.Heartbeat(ctx, sourceOf(ctx), request.GetRecord())
	if err != nil {
		return nil, err
	}
	return &ingestv1.SubmitHeartbeatResponse{Index: index}, nil
}

// GetHead proves the newest certified block, for the next sample's header.
func (s *Server) GetHead(context.Context, *ingestv1.GetHeadRequest) (*ingestv1.GetHeadResponse, error) {
	snapshot, err := s.gateway.Head()
	if err != nil {
		return nil, err
	}
	proof, err := snapshot.HeadProof()
	if err != nil {
		return nil, err
	}
	return &ingestv1.GetHeadResponse{Proof: proof}, nil
}

func answer(a gateway.Answer) *ingestv1.SubmitResponse {
	if a.Err != nil {
		return refusal(a.Sample, a.Err)
	}
	return &ingestv1.SubmitResponse{Sample: a.Sample.Bytes(), Answer: &ingestv1.SubmitResponse_Receipt{Receipt: &ingestv1.Receipt{Receipt: a.Receipt}}}
}

func pending(id digest.Digest) *ingestv1.SubmitResponse {
	return &ingestv1.SubmitResponse{Sample: id.Bytes(), Answer: &ingestv1.SubmitResponse_Pending{Pending: &ingestv1.Pending{}}}
}

// refusal answers with the reason; an error without one is this gateway's own
// trouble, and transient.
func refusal(id digest.Digest, err error) *ingestv1.SubmitResponse {
	refused := &ingestv1.Refusal{Reason: string(reason.Of(err)), Detail: detail(err), Permanent: rpcerror.IsPermanent(err)}
	if refused.GetReason() == "" {
		refused.Reason = string(reason.NotReady)
	}
	if !refused.GetPermanent() {
		refused.RetryAfterMillis = uint32(max(rpcerror.Delay(err), 100*time.Millisecond).Milliseconds())
	}
	return &ingestv1.SubmitResponse{Sample: id.Bytes(), Answer: &ingestv1.SubmitResponse_Refusal{Refusal: refused}}
}

func detail(err error) string {
	var refused *reason.Error
	if errors.As(err, &refused) {
		return refused.Detail
	}
	return err.Error()
}

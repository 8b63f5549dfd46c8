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
	"io"
	"time"

	"google.golang.org/grpc"

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
	return s.one(ctx, sourceOf(ctx), request), nil
}

// SubmitStream takes samples as they come and answers in any order.
func (s *Server) SubmitStream(stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse]) error {
	ctx := stream.Context() // ends with this handler, and all waiters with it
	// A slot belongs to a sample from its receipt until its answer is sent, so no
	// slot in use means that nothing is owed.
	slots := make(chan struct{}, s.maxInStream)
	out := make(chan *ingestv1.SubmitResponse)
	received := make(chan error, 1)
	go func() { received <- s.receive(ctx, stream, slots, out) }()

	stopping := s.gateway.Stopping()
	var ended bool // nothing more is taken from this stream
	var why error
	for {
		if ended && len(slots) == 0 {
			return why
		}
		select {
		case response := <-out:
			if err := stream.Send(&ingestv1.SubmitStreamResponse{Submit: response}); err != nil {
				return err
			}
			<-slots
		case why = <-received:
			if ended = true; ctx.Err() != nil {
				return ctx.Err()
			}
			received = nil
		case <-stopping:
			// A sample that comes at this very moment may go without an answer;
			// the status says that the stream broke off.
			ended, stopping, received = true, nil, nil
			why = reason.New(reason.NotReady, "the gateway is stopping")
		}
	}
}

// receive reads samples until the client is done, and starts a waiter for each.
func (s *Server) receive(ctx context.Context, stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse], slots chan<- struct{}, out chan<- *ingestv1.SubmitResponse) error {
	source := sourceOf(ctx)
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if request.GetSubmit() == nil {
			return reason.New(reason.Malformed, "a request of the stream has no sample")
		}
		select {
		case slots <- struct{}{}: // a full stream waits here: flow control reaches the meter
		case <-ctx.Done():
			return ctx.Err()
		}
		go func() {
			wait, cancel := context.WithTimeout(ctx, s.pendingAfter)
			defer cancel()
			select {
			case out <- s.one(wait, source, request.GetSubmit()):
			case <-ctx.Done():
			}
		}()
	}
}

// one answers one sample, with PENDING when ctx ends first.
func (s *Server) one(ctx context.Context, source gateway.Source, request *ingestv1.SubmitRequest) *ingestv1.SubmitResponse {
	id, answers, err := s.gateway.Submit(source, request)
	if err != nil {
		return refusal(id, err)
	}
	select {
	case a := <-answers:
		return answer(id, a)
	case <-ctx.Done():
		return pending(id)
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

func answer(id digest.Digest, a gateway.Answer) *ingestv1.SubmitResponse {
	if a.Err != nil {
		return refusal(id, a.Err)
	}
	return &ingestv1.SubmitResponse{Sample: id.Bytes(), Answer: &ingestv1.SubmitResponse_Receipt{Receipt: &ingestv1.Receipt{Receipt: a.Receipt}}}
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

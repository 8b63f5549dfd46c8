// Package api is IngestService over gRPC.
//
// Source: proto/lacre/ingest/v1; architecture, rule N2.
//
// Invariants:
//   - A refusal of a sample is an answer, not a gRPC error; an error status is
//     about the call.
//   - PENDING is said, never implied: a sample whose answer is not known when
//     the call ends is neither taken nor refused.
package api

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
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
	gateway *gateway.Gateway
}

// New makes the server.
func New(g *gateway.Gateway) *Server { return &Server{gateway: g} }

// Submit takes one sample. It answers PENDING when the deadline comes first.
func (s *Server) Submit(ctx context.Context, request *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error) {
	id, answers, err := s.gateway.Submit(request)
	if err != nil {
		return refusal(id, err), nil
	}
	select {
	case a := <-answers:
		return answer(id, a), nil
	case <-ctx.Done():
		return pending(id), nil
	}
}

// SubmitStream takes samples as they come and answers in any order.
func (s *Server) SubmitStream(stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	out := make(chan *ingestv1.SubmitResponse)
	slots := make(chan struct{}, maxInStream)
	var waiting sync.WaitGroup

	received := make(chan error, 1)
	go func() {
		received <- s.receive(ctx, stream, slots, out, &waiting)
		waiting.Wait()
		close(out)
	}()
	for response := range out {
		if err := stream.Send(&ingestv1.SubmitStreamResponse{Submit: response}); err != nil {
			cancel() // the waiters see it and end; drain what they still send
			go func() {
				for range out {
				}
			}()
			return err
		}
	}
	return <-received
}

// receive reads samples until the client is done, and starts a waiter for each.
func (s *Server) receive(ctx context.Context, stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse], slots chan struct{}, out chan<- *ingestv1.SubmitResponse, waiting *sync.WaitGroup) error {
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
		waiting.Go(func() {
			defer func() { <-slots }()
			send(ctx, out, s.one(ctx, request.GetSubmit()))
		})
	}
}

func (s *Server) one(ctx context.Context, request *ingestv1.SubmitRequest) *ingestv1.SubmitResponse {
	id, answers, err := s.gateway.Submit(request)
	if err != nil {
		return refusal(id, err)
	}
	late := time.NewTimer(pendingAfter)
	defer late.Stop()
	select {
	case a := <-answers:
		return answer(id, a)
	case <-late.C:
	case <-ctx.Done():
	}
	return pending(id)
}

func send(ctx context.Context, out chan<- *ingestv1.SubmitResponse, response *ingestv1.SubmitResponse) {
	select {
	case out <- response:
	case <-ctx.Done():
	}
}

// GetHead returns the newest certified block, for the next sample's header.
func (s *Server) GetHead(context.Context, *ingestv1.GetHeadRequest) (*ingestv1.GetHeadResponse, error) {
	snapshot, err := s.gateway.Head()
	if err != nil {
		return nil, err
	}
	head := snapshot.Head()
	return &ingestv1.GetHeadResponse{Height: head.Height, Header: head.Header.Bytes(), Certificate: snapshot.Certificate()}, nil
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

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
	"github.com/lacre-metrology/lacre/services/ingest/internal/gateway"
)

// SubmitStream takes samples as they come and answers in any order.
func (s *Server) SubmitStream(stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse]) error {
	ctx := stream.Context() // ends with this handler
	// A slot belongs to a sample from its receipt until its answer is sent, so no
	// slot in use means that nothing is owed.
	slots := make(chan struct{}, s.maxInStream)
	out := &answers{some: make(chan struct{}, 1)}
	received := make(chan error, 1)
	go func() { received <- s.receive(ctx, stream, slots, out) }()

	stopping := s.gateway.Stopping()
	var ready []*ingestv1.SubmitResponse
	var ended bool // nothing more is taken from this stream
	var why error
	for {
		if ended && len(slots) == 0 {
			return why
		}
		select {
		case <-out.some:
			ready = out.take(ready)
			for _, response := range ready {
				if err := stream.Send(&ingestv1.SubmitStreamResponse{Submit: response}); err != nil {
					return err
				}
				<-slots
			}
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

// receive reads samples until the client is done, and hands each to the gateway.
// No goroutine waits for a sample: one for each is a tenth of a gateway's CPU.
func (s *Server) receive(ctx context.Context, stream grpc.BidiStreamingServer[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse], slots chan<- struct{}, out *answers) error {
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
		owed := &owed{out: out}
		id, err := s.gateway.Submit(source, request.GetSubmit(), func(a gateway.Answer) { owed.settle(answer(a)) })
		if err != nil {
			owed.settle(refusal(id, err))
			continue
		}
		owed.until(id, s.pendingAfter)
	}
}

// answers are those of one stream that are to be sent. There are at most as many
// as it has slots.
type answers struct {
	some chan struct{} // holds one when ready may not be empty

	mu    sync.Mutex // guards the rest, and the fields of owed
	ready []*ingestv1.SubmitResponse
}

// take gives what is ready. The slice of the last call is used again.
func (a *answers) take(last []*ingestv1.SubmitResponse) []*ingestv1.SubmitResponse {
	clear(last)
	a.mu.Lock()
	defer a.mu.Unlock()
	ready := a.ready
	a.ready = last[:0]
	return ready
}

// owed is the one answer to one sample of a stream.
type owed struct {
	out     *answers
	settled bool
	late    *time.Timer // settles it with PENDING; nil before until
}

// settle gives the answer, unless there is one. It does not wait.
func (o *owed) settle(response *ingestv1.SubmitResponse) {
	o.out.mu.Lock()
	defer o.out.mu.Unlock()
	if o.settled {
		return
	}
	if o.settled = true; o.late != nil {
		o.late.Stop()
	}
	o.out.ready = append(o.out.ready, response)
	select {
	case o.out.some <- struct{}{}:
	default:
	}
}

// until settles it with PENDING when nothing else did in time.
func (o *owed) until(id digest.Digest, after time.Duration) {
	o.out.mu.Lock()
	defer o.out.mu.Unlock()
	if !o.settled {
		o.late = time.AfterFunc(after, func() { o.settle(pending(id)) })
	}
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
)

// answerTimeout is how long a client waits for one answer before it sends again,
// as the SDK does.
const answerTimeout = 30 * time.Second

// door is a client's way to the gateway: it hands in a sample and waits for the
// answer. An error is about the way, not about the sample.
type door interface {
	submit(ctx context.Context, id digest.Digest, request *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error)
}

// unaryDoor makes one call for each sample.
type unaryDoor struct{ client ingestv1.IngestServiceClient }

func (d unaryDoor) submit(ctx context.Context, _ digest.Digest, request *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return d.client.Submit(ctx, request)
}

// streamDoor keeps one stream, and opens another when it broke.
type streamDoor struct {
	client ingestv1.IngestServiceClient
	life   context.Context //nolint:containedctx // streams outlive the calls that open them.

	sending sync.Mutex // held while a sample is sent: a full stream waits here, and answers come in all the same
	mu      sync.Mutex // guards the rest
	stream  grpc.BidiStreamingClient[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse]
	waiting map[digest.Digest]chan answered
}

type answered struct {
	response *ingestv1.SubmitResponse
	err      error
}

func newStreamDoor(life context.Context, client ingestv1.IngestServiceClient) *streamDoor {
	return &streamDoor{client: client, life: life, waiting: make(map[digest.Digest]chan answered)}
}

func (d *streamDoor) submit(ctx context.Context, id digest.Digest, request *ingestv1.SubmitRequest) (*ingestv1.SubmitResponse, error) {
	answer, err := d.send(id, request)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	select {
	case a := <-answer:
		return a.response, a.err
	case <-timer.C:
		err = fmt.Errorf("no answer within %s", answerTimeout)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting[id] == answer {
		delete(d.waiting, id)
	}
	return nil, err
}

func (d *streamDoor) send(id digest.Digest, request *ingestv1.SubmitRequest) (chan answered, error) {
	d.sending.Lock()
	defer d.sending.Unlock()
	stream, answer, err := d.expect(id)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&ingestv1.SubmitStreamRequest{Submit: request}); err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, id)
		return nil, err // receive learns why, and ends the stream
	}
	return answer, nil
}

// expect gives the stream to send on, and where the answer will come.
func (d *streamDoor) expect(id digest.Digest) (grpc.BidiStreamingClient[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse], chan answered, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stream == nil {
		stream, err := d.client.SubmitStream(d.life)
		if err != nil {
			return nil, nil, err
		}
		d.stream = stream
		go d.receive(stream)
	}
	answer := make(chan answered, 1)
	d.waiting[id] = answer
	return d.stream, answer, nil
}

// receive hands out answers until the stream ends.
func (d *streamDoor) receive(stream grpc.BidiStreamingClient[ingestv1.SubmitStreamRequest, ingestv1.SubmitStreamResponse]) {
	for {
		message, err := stream.Recv()
		if err != nil {
			d.broken(err)
			return
		}
		response := message.GetSubmit()
		id, err := digest.FromBytes(response.GetSample())
		if err != nil {
			continue // it names no sample of ours; its own will be asked again
		}
		d.mu.Lock()
		answer := d.waiting[id]
		delete(d.waiting, id)
		d.mu.Unlock()
		if answer != nil {
			answer <- answered{response: response}
		}
	}
}

// broken answers all that waited for a stream.
func (d *streamDoor) broken(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stream = nil
	for id, answer := range d.waiting {
		answer <- answered{err: errors.Join(errors.New("the stream broke"), err)}
		delete(d.waiting, id)
	}
}

package peers

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/tlog"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
)

const (
	// MaxCosignatures wait for one peer, and are in one message.
	MaxCosignatures = 64
	cosignTimeout   = 5 * time.Second
	// streamAgain is how long a peer is asked for single calls that did not know
	// the stream: then it may run a newer build.
	streamAgain = time.Minute
)

// Broadcast queues a cosignature for every peer and never blocks.
func (p *Peers) Broadcast(s certify.Signed) {
	request := ToRequest(s)
	for _, each := range p.all() {
		for sent := false; !sent; {
			select {
			case each.cosign <- request:
				sent = true
			default:
				select {
				case <-each.cosign: // the oldest gives way
				default:
				}
			}
		}
	}
}

// push hands a peer what is queued for it until it is no peer any more. What
// fails to arrive is not made up for: the newest cosignature is refreshed each
// second, and covers those before it.
func (p *Peers) push(ctx context.Context, to *peer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the stream
	line := cosignLine{client: to.client}
	for {
		select {
		case first := <-to.cosign:
			queued := []*replicav1.CosignRequest{first}
			for more := true; more && len(queued) < MaxCosignatures; {
				select {
				case next := <-to.cosign:
					queued = append(queued, next)
				default:
					more = false
				}
			}
			if err := line.send(ctx, queued); err != nil && ctx.Err() == nil {
				p.log.DebugContext(ctx, "cosignatures not delivered", "peer", to.id, "height", queued[len(queued)-1].GetHeight(), "error", err)
			}
		case <-to.gone:
			return
		case <-ctx.Done():
			return
		}
	}
}

// cosignLine is the way to one peer: a stream, opened when it is needed.
type cosignLine struct {
	client replicav1.ReplicaServiceClient
	stream grpc.ClientStreamingClient[replicav1.CosignaturesRequest, replicav1.CosignaturesResponse] // nil while there is none
	single time.Time                                                                                 // until then the peer gets single calls
}

// send waits for a peer that is away until it is back: otherwise all would be
// lost that is made meanwhile. A stream that has ended is opened once more.
func (l *cosignLine) send(ctx context.Context, queued []*replicav1.CosignRequest) error {
	if time.Now().Before(l.single) {
		return l.sendSingly(ctx, queued)
	}
	var err error
	for range 2 {
		if l.stream == nil {
			if err = l.open(ctx); err != nil {
				break
			}
		}
		if l.stream.Send(&replicav1.CosignaturesRequest{Cosignatures: queued}) == nil {
			return nil
		}
		_, err = l.stream.CloseAndRecv() // why it ended
		l.stream = nil
	}
	if status.Code(err) == codes.Unimplemented {
		l.single = time.Now().Add(streamAgain)
		return l.sendSingly(ctx, queued)
	}
	return err
}

// open returns when the peer has taken the stream, so that what is sent on it is
// lost only with it.
func (l *cosignLine) open(ctx context.Context) error {
	stream, err := l.client.Cosignatures(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	if taken, err := stream.Header(); err != nil || taken == nil {
		if _, err = stream.CloseAndRecv(); err == nil {
			err = errors.New("the peer ended the stream without taking it")
		}
		return err
	}
	l.stream = stream
	return nil
}

func (l *cosignLine) sendSingly(ctx context.Context, queued []*replicav1.CosignRequest) error {
	var failures []error
	for _, request := range queued {
		call, cancel := context.WithTimeout(ctx, cosignTimeout)
		_, err := l.client.Cosign(call, request, grpc.WaitForReady(true))
		cancel()
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// ToRequest is the wire form of a cosignature.
func ToRequest(s certify.Signed) *replicav1.CosignRequest {
	return &replicav1.CosignRequest{
		Height: s.Height, Checkpoint: s.Checkpoint.Body(),
		LogSignature: []byte(s.Log.Line()), Cosignature: []byte(s.Cosignature.Line()),
	}
}

// FromRequest parses the wire form; it verifies nothing.
func FromRequest(r *replicav1.CosignRequest) (certify.Signed, error) {
	s := certify.Signed{Height: r.GetHeight()}
	var err error
	if s.Checkpoint, err = tlog.ParseCheckpoint(r.GetCheckpoint()); err != nil {
		return s, reason.New(reason.Malformed, "%v", err)
	}
	if s.Log, err = tlog.ParseLogSignature(string(r.GetLogSignature())); err != nil {
		return s, reason.New(reason.Malformed, "%v", err)
	}
	if s.Cosignature, err = tlog.ParseCosignature(string(r.GetCosignature())); err != nil {
		return s, reason.New(reason.Malformed, "%v", err)
	}
	return s, nil
}

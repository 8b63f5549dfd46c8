package bench

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/sample"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// fate is what became of one measurement.
type fate uint8

const (
	unanswered fate = iota
	certified
	refused
)

// sender is one client: a meter with its key, its chain and its connection.
type sender struct {
	run        *run
	id         string
	key        crypto.Signer
	tls        *identity.Node
	connection *grpc.ClientConn // nil while the client is cut off
	door       door
	dial       func(context.Context) error // connects again, as connect did

	mu         sync.Mutex      // guards the rest
	samples    []digest.Digest // by counter less one
	fates      []fate          // the same
	capturedAt int64           // of the newest, Unix nanoseconds
}

// connect makes the sender's own connection, as the SDK makes it. Streams end
// with life.
func (s *sender) connect(ctx, life context.Context, gateway devnet.Node) error {
	s.dial = func(ctx context.Context) error { return s.connect(ctx, life, gateway) }
	spki, err := digest.Parse(gateway.SPKI)
	if err != nil {
		return err
	}
	s.connection, err = grpc.NewClient(gateway.Address, append(meter.TransportOptions(),
		grpc.WithTransportCredentials(credentials.NewTLS(s.tls.ClientTLS(identity.Pin(identity.SPKI(spki))))),
		grpc.WithUserAgent("lacre-bench"))...)
	if err != nil {
		return err
	}
	client := ingestv1.NewIngestServiceClient(s.connection)
	s.door = unaryDoor{client}
	if s.run.Call == CallStream {
		s.door = newStreamDoor(life, client)
	}
	return s.ready(ctx)
}

// cutOff ends the connection. Nothing may be on its way.
func (s *sender) cutOff() error {
	err := s.connection.Close()
	s.connection, s.door = nil, nil
	return err
}

// ready waits for the handshake, so that it is over before the clock starts.
func (s *sender) ready(ctx context.Context) error {
	for {
		s.connection.Connect()
		state := s.connection.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if !s.connection.WaitForStateChange(ctx, state) {
			return fmt.Errorf("meter %s does not reach the gateway, its connection is %v: %w", s.id, state, context.Cause(ctx))
		}
	}
}

// shot is one signed sample on its way.
type shot struct {
	counter uint64
	id      digest.Digest
	request *ingestv1.SubmitRequest
}

// sign makes the next link of the meter's chain out of a vector, by a meter that
// knows a block.
func (s *sender) sign(raw []byte, known meter.KnownBlock) (*shot, error) {
	encoding, err := s.run.encoding()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := max(time.Now().UnixNano(), s.capturedAt)
	header := &sample.Header{
		NetworkID: s.run.networkID, MeterID: s.id, Counter: uint64(len(s.samples)) + 1,
		CapturedAtUnixNano: now, ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED,
		KnownHeight: known.Height, KnownBlock: known.Header,
		Channels: uint32(s.run.Channels), SamplesPerChannel: uint32(s.run.Samples),
		SampleRateMillihertz: s.run.sampleRateMillihertz(), Encoding: encoding, RawDigest: sample.DigestRaw(raw),
	}
	if n := len(s.samples); n > 0 {
		header.Previous = s.samples[n-1]
	}
	signed, signature, err := sample.Sign(s.key, header)
	if err != nil {
		return nil, err
	}
	s.samples, s.fates, s.capturedAt = append(s.samples, signed.Digest), append(s.fates, unanswered), now
	return &shot{counter: header.Counter, id: signed.Digest,
		request: &ingestv1.SubmitRequest{Header: signed.Bytes, Signature: signature, RawVector: raw}}, nil
}

func (s *sender) settle(counter uint64, f fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fates[counter-1] = f
}

// errRefused says that a sample was refused for ever.
var errRefused = errors.New("refused")

const (
	// reconnectDelay is the pause after a broken connection.
	reconnectDelay = 100 * time.Millisecond
	// pendingDelay is the pause after PENDING.
	pendingDelay = 250 * time.Millisecond
)

// begin signs a measurement, which from now on must end.
func (s *sender) begin(known meter.KnownBlock) (*shot, error) {
	tally := s.run.tally
	shot, err := s.sign(s.run.vectors.take(), known)
	if err != nil {
		err = fmt.Errorf("meter %s: %w", s.id, err)
		tally.unsigned(err)
		return nil, err
	}
	tally.begun.Add(1)
	tally.sentBytes.Add(int64(len(shot.request.GetHeader()) + len(shot.request.GetSignature()) + len(shot.request.GetRawVector())))
	return shot, nil
}

// measure signs one measurement and delivers it.
func (s *sender) measure(ctx context.Context) error {
	shot, err := s.begin(s.run.head.newest())
	if err != nil {
		return err
	}
	return s.deliver(ctx, shot)
}

// deliver sends a measurement until it is answered, and verifies the receipt. It
// returns an error when there is none: errRefused, what was wrong with the
// receipt, or ctx's.
func (s *sender) deliver(ctx context.Context, shot *shot) error {
	tally := s.run.tally
	for {
		response, err := s.door.submit(ctx, shot.id, shot.request)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		delay := reconnectDelay
		switch answer := response.GetAnswer().(type) {
		case *ingestv1.SubmitResponse_Receipt:
			return s.take(shot, answer.Receipt.GetReceipt())
		case *ingestv1.SubmitResponse_Refusal:
			if answer.Refusal.GetPermanent() {
				s.settle(shot.counter, refused)
				tally.refuse(answer.Refusal.GetReason(), fmt.Sprintf("meter %s counter %d: %s", s.id, shot.counter, answer.Refusal.GetDetail()))
				return errRefused
			}
			tally.shed(answer.Refusal.GetReason())
			delay = time.Duration(answer.Refusal.GetRetryAfterMillis()) * time.Millisecond
		case *ingestv1.SubmitResponse_Pending:
			tally.shed("PENDING")
			delay = pendingDelay
		default:
			tally.broke(err)
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
	}
}

// take verifies a receipt and has its endorsement set verified.
func (s *sender) take(shot *shot, text []byte) error {
	r, err := s.run.verifier.Receipt(text, shot.id)
	if err != nil {
		s.run.tally.bad(fmt.Errorf("meter %s counter %d: %w", s.id, shot.counter, err))
		return err
	}
	s.settle(shot.counter, certified)
	tally := s.run.tally
	tally.certify(r, len(text))
	s.run.sets.note(s.id, r)
	return nil
}

package meter

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// sender brings the outbox's samples to a gateway and the answers back. It is
// one loop of sessions; a session is one stream to one gateway.
type sender struct {
	meter  *Meter
	timing timing
	// settled carries verified receipts to the one goroutine that stores them, so
	// that one fsync of the directory serves many.
	settled chan settlement
	demands chan chan<- error // of Heartbeat; a session's beat takes them
	ended   chan struct{}     // closed when nothing is sent any more

	mu       sync.Mutex // guards the rest
	endpoint string     // in use
	last     error      // why the last session ended
}

type settlement struct {
	item    *item
	sample  digest.Digest
	receipt []byte
}

// maxSettle bounds the receipts stored at once.
const maxSettle = 64

func newSender(m *Meter, t timing) *sender {
	return &sender{meter: m, timing: t, settled: make(chan settlement, maxSettle), demands: make(chan chan<- error), ended: make(chan struct{})}
}

// run sends until ctx ends, and returns when all receipts that came are stored.
func (s *sender) run(ctx context.Context) {
	var storing sync.WaitGroup
	storing.Go(s.store)
	defer storing.Wait()
	defer close(s.settled)
	defer close(s.ended)
	endpoints := s.meter.config.Endpoints
	for session, failures := 0, 0; ctx.Err() == nil; session++ {
		useful, err := s.session(ctx, endpoints[session%len(endpoints)])
		s.disconnected(err)
		if failures++; useful {
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.timing.reconnect.delay(failures)):
		}
	}
}

// windowBytes is how much of a gateway's answers may be on its way unread.
const windowBytes = 64 << 10

// TransportOptions are how a Meter keeps its connection to a gateway, but for who
// it is and whom it trusts: for programs that send for many meters.
func TransportOptions() []grpc.DialOption {
	return []grpc.DialOption{
		// Receipts are small: gRPC need not find out, with a ping for each, whether more could be on its way.
		grpc.WithStaticStreamWindowSize(windowBytes), grpc.WithStaticConnWindowSize(windowBytes),
		// TLS keeps a record that is read in parts: another buffer would be copied through.
		grpc.WithReadBufferSize(0),
	}
}

// The reasons for which the meter itself ends a session.
var (
	errSilent     = errors.New("gateway does not answer")
	errNoProgress = errors.New("gateway gives no receipts; trying another")
	errProtocol   = errors.New("gateway breaks the protocol")
)

// session is one stream; useful means that it settled at least one sample.
func (s *sender) session(ctx context.Context, endpoint string) (useful bool, err error) {
	conn, err := grpc.NewClient(endpoint, append(TransportOptions(),
		grpc.WithTransportCredentials(credentials.NewTLS(s.meter.config.TLS.Clone())),
		grpc.WithUserAgent("lacre-meter"))...)
	if err != nil {
		return false, err
	}
	defer conn.Close() //nolint:errcheck // nothing is buffered that matters: answers were taken or will come again.
	ctx, cancel := context.WithCancelCause(ctx)
	client := ingestv1.NewIngestServiceClient(conn)
	stream, err := client.SubmitStream(ctx)
	if err != nil {
		cancel(err)
		return false, err
	}
	s.connected(endpoint)
	var helpers sync.WaitGroup
	helpers.Go(func() { s.send(ctx, stream) })
	helpers.Go(func() { s.watch(ctx, cancel) })
	helpers.Go(func() { s.sendEvidence(ctx, conn, endpoint) })
	helpers.Go(func() { s.follow(ctx, cancel, client, endpoint) })
	var intervals <-chan time.Time // never, unless configured
	if interval := s.meter.config.Heartbeat; interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		intervals = ticker.C
	}
	helpers.Go(func() { s.beat(ctx, client, intervals) })
	for err == nil {
		var answer *ingestv1.SubmitStreamResponse
		if answer, err = stream.Recv(); err == nil {
			var settled bool
			settled, err = s.answer(ctx, endpoint, answer.GetSubmit())
			useful = useful || settled
		}
	}
	cancel(err) // the first cause stands: the watch's, if it was first
	helpers.Wait()
	s.meter.schedule.groundAll()
	return useful, context.Cause(ctx)
}

// send keeps the window full. A failed Send ends the stream, and Recv says why.
func (s *sender) send(ctx context.Context, stream ingestv1.IngestService_SubmitStreamClient) {
	for {
		it, err := s.meter.schedule.next(ctx)
		if err != nil {
			return
		}
		e, err := s.meter.box.Read(it.counter)
		switch {
		case errors.Is(err, outbox.ErrNotPending):
			s.meter.schedule.finish(it)
			continue
		case errors.Is(err, outbox.ErrDamaged) && !s.meter.box.Has(it.counter):
			s.meter.alarm(Alarm{Kind: AlarmDamaged, Counter: it.counter, Err: err})
			s.meter.schedule.finish(it)
			continue
		case err != nil:
			s.postpone(it, err)
			continue
		}
		span, traceparent := s.meter.trace(e.Sample)
		s.meter.schedule.launch(it, e.Sample.Digest, span)
		request := &ingestv1.SubmitRequest{Header: e.Sample.Bytes, Signature: e.Signature, RawVector: e.RawVector, Traceparent: traceparent}
		if stream.Send(&ingestv1.SubmitStreamRequest{Submit: request}) != nil {
			return
		}
	}
}

// watch ends a session with a gateway that is silent or of no use.
func (s *sender) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	begun := time.Now()
	ticker := time.NewTicker(s.timing.watch)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		unanswered, unprogressed := s.meter.schedule.stalled()
		if unanswered > s.timing.answer {
			cancel(errSilent)
		}
		if len(s.meter.config.Endpoints) > 1 && min(unprogressed, time.Since(begun)) > s.timing.progress {
			cancel(errNoProgress)
		}
	}
}

// follow learns of new blocks.
func (s *sender) follow(ctx context.Context, cancel context.CancelCauseFunc, client ingestv1.IngestServiceClient, endpoint string) {
	for ctx.Err() == nil {
		call, done := context.WithTimeout(ctx, s.timing.answer)
		head, err := client.GetHead(call, &ingestv1.GetHeadRequest{})
		done()
		if err != nil && call.Err() != nil {
			cancel(errSilent)
			return
		}
		if err == nil {
			s.learn(head, endpoint)
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.timing.head):
		}
	}
}

func (s *sender) learn(head *ingestv1.GetHeadResponse, endpoint string) {
	block, err := s.meter.verifier.head(head.GetProof())
	added := false
	if err == nil {
		added, err = s.meter.known.add(block)
	}
	if err != nil {
		s.meter.alarm(Alarm{Kind: AlarmBadHead, Endpoint: endpoint, Err: err})
		return
	}
	if !added {
		return
	}
	if err := s.meter.known.keep(s.timing.keepHeads); err != nil {
		s.meter.alarm(Alarm{Kind: AlarmStorage, Err: err})
	}
}

// answer takes one answer. An error ends the session.
func (s *sender) answer(ctx context.Context, endpoint string, a *ingestv1.SubmitResponse) (settled bool, err error) {
	d, err := digest.FromBytes(a.GetSample())
	if err != nil {
		return false, errors.Join(errProtocol, err)
	}
	it := s.meter.schedule.land(d)
	if it == nil {
		return false, nil // answered already, or never sent: it says nothing about any sample of ours
	}
	span := it.span // before the item is in other hands
	it.span = nil
	defer func() { endSpan(span, outcome(a, err)) }()
	switch answer := a.GetAnswer().(type) {
	case *ingestv1.SubmitResponse_Receipt:
		receipt := answer.Receipt.GetReceipt()
		if _, err := s.meter.verifier.receipt(receipt, d); err != nil {
			s.meter.counts.badReceipts.Add(1)
			s.meter.alarm(Alarm{Kind: AlarmBadReceipt, Counter: it.counter, Endpoint: endpoint, Err: err})
			s.meter.schedule.postpone(it, s.timing.retry.delay(it.attempts))
			return false, err
		}
		select {
		case s.settled <- settlement{item: it, sample: d, receipt: receipt}:
			return true, nil
		case <-ctx.Done():
			s.meter.schedule.postpone(it, 0)
			return false, ctx.Err()
		}
	case *ingestv1.SubmitResponse_Refusal:
		if answer.Refusal.GetPermanent() {
			return s.refuse(it, d, endpoint, answer.Refusal), nil
		}
		delay := min(time.Duration(answer.Refusal.GetRetryAfterMillis())*time.Millisecond, s.timing.maxRetryAfter)
		if delay == 0 {
			delay = s.timing.retry.delay(it.attempts)
		}
		s.meter.schedule.postpone(it, delay)
		return false, nil
	case *ingestv1.SubmitResponse_Pending:
		s.meter.schedule.postpone(it, s.timing.retry.delay(it.attempts))
		return false, nil
	}
	s.meter.schedule.postpone(it, s.timing.retry.delay(it.attempts))
	return false, errors.Join(errProtocol, errors.New("answer is neither receipt, refusal nor pending"))
}

// refuse moves a sample to the refused store (rule N2).
func (s *sender) refuse(it *item, d digest.Digest, endpoint string, r *ingestv1.Refusal) bool {
	if r.GetReason() == string(reason.UnknownBlock) {
		if e, err := s.meter.box.Read(it.counter); err == nil {
			s.meter.known.drop(e.Sample.KnownHeight, e.Sample.KnownBlock)
		}
	}
	refusal := outbox.Refusal{
		Counter: it.counter, Sample: d.String(), Reason: r.GetReason(), Detail: r.GetDetail(),
		Endpoint: endpoint, RefusedAtUnixMilli: time.Now().UnixMilli(),
	}
	if err := s.meter.box.Refuse(refusal); err != nil {
		s.postpone(it, err)
		return false
	}
	s.meter.counts.refused.Add(1)
	s.meter.schedule.finish(it)
	s.meter.alarm(Alarm{Kind: AlarmRefused, Counter: it.counter, Endpoint: endpoint, Err: &RefusedError{Refused: s.meter.refused(refusal)}})
	return true
}

// postpone tries again later what the disk refused now.
func (s *sender) postpone(it *item, err error) {
	s.meter.alarm(Alarm{Kind: AlarmStorage, Counter: it.counter, Err: err})
	s.meter.schedule.postpone(it, s.timing.retry.delay(it.attempts))
}

// store writes verified receipts, as many at once as have come.
func (s *sender) store() {
	for first := range s.settled {
		batch := append(make([]settlement, 0, maxSettle), first)
		for len(batch) < maxSettle {
			select {
			case next, ok := <-s.settled:
				if ok {
					batch = append(batch, next)
					continue
				}
			default:
			}
			break
		}
		s.storeBatch(batch)
	}
}

func (s *sender) storeBatch(batch []settlement) {
	list := make([]outbox.Settlement, len(batch))
	for i, b := range batch {
		list[i] = outbox.Settlement{Counter: b.item.counter, Receipt: b.receipt}
	}
	err := s.meter.box.Settle(list)
	for _, b := range batch {
		if err != nil && s.meter.box.Has(b.item.counter) {
			s.postpone(b.item, err)
			continue
		}
		s.meter.counts.certified.Add(1)
		s.meter.schedule.finish(b.item)
		if s.meter.config.OnReceipt != nil {
			s.meter.config.OnReceipt(Receipt{Counter: b.item.counter, Sample: b.sample, Text: b.receipt, Path: s.meter.receiptPath(b.item.counter)})
		}
	}
}

func (s *sender) connected(endpoint string) {
	s.meter.counts.sessions.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoint = endpoint
}

func (s *sender) disconnected(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoint, s.last = "", err
}

// connection is the gateway in use and the last session's end, for Stats.
func (s *sender) connection() (endpoint, last string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil {
		last = s.last.Error()
	}
	return s.endpoint, last
}

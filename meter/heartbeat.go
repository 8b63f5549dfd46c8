package meter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lacre-metrology/lacre/core/heartbeat"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// beat signs and sends a heartbeat whenever the meter recorded nothing for an
// interval, so that the ledger tells a meter that measures nothing from one that
// is cut off. A heartbeat that fails is not kept: the next one says more.
func (s *sender) beat(ctx context.Context, client ingestv1.IngestServiceClient, intervals <-chan time.Time) {
	for recorded := s.meter.counts.recorded.Load(); ; {
		select {
		case <-ctx.Done():
			return
		case answer := <-s.demands:
			answer <- s.beatOnce(ctx, client)
			continue
		case <-intervals:
		}
		before := recorded
		if recorded = s.meter.counts.recorded.Load(); recorded != before {
			continue // the samples are the sign of life
		}
		s.beatOnce(ctx, client) //nolint:errcheck // the next one says more.
	}
}

// beatOnce signs and sends one; nil means that the gateway says it is certified.
func (s *sender) beatOnce(ctx context.Context, client ingestv1.IngestServiceClient) error {
	leaf, ok, err := s.meter.heartbeat(time.Now())
	if err != nil {
		s.meter.alarm(Alarm{Kind: AlarmHeartbeat, Err: err})
		return err
	}
	if !ok {
		return ErrNoKnownBlock
	}
	call, done := context.WithTimeout(ctx, s.timing.answer)
	defer done()
	if _, err = client.SubmitHeartbeat(call, &ingestv1.SubmitHeartbeatRequest{Record: leaf}); err == nil {
		s.meter.counts.heartbeats.Add(1)
	}
	if err != nil && ctx.Err() != nil { // the session ended under the call, which knows only that it was cancelled
		return context.Cause(ctx)
	}
	return err
}

// Heartbeat signs and sends a heartbeat now, whatever Config.Heartbeat says and
// whatever was recorded; nil means that a gateway says it is certified, which is
// its word. The ledger takes none sooner than 10 s after the last (TOO_SOON).
// Errors: ErrNoKnownBlock (joined with ctx's) or ctx's, ErrClosed, the signer's, or
// the gateway's refusal.
func (m *Meter) Heartbeat(ctx context.Context) error {
	select {
	case <-m.known.some:
	case <-ctx.Done():
		return errors.Join(ErrNoKnownBlock, ctx.Err())
	}
	answer := make(chan error, 1)
	select {
	case m.sender.demands <- answer:
	case <-m.sender.ended:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("no gateway is connected: %w", ctx.Err())
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heartbeat signs the newest counter; ok is false while no block is known.
func (m *Meter) heartbeat(now time.Time) (leaf []byte, ok bool, err error) {
	sync := recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED // nobody says otherwise
	if m.config.ClockSync != nil {
		sync = m.config.ClockSync() // as captures do
	}
	m.recording.Lock() // the signer's calls are serialised
	defer m.recording.Unlock()
	block, ok := m.known.at(now)
	if m.closed || !ok {
		return nil, false, nil
	}
	h := &heartbeat.Heartbeat{
		NetworkID: m.config.NetworkID, MeterID: m.config.MeterID, AtUnixNano: now.UnixNano(),
		ClockSync: sync, KnownHeight: block.Height, KnownBlock: block.Header,
	}
	switch head := m.box.Head(); {
	case head.Counter > 0:
		h.NewestCounter, h.NewestSample = head.Counter, head.Digest
	case !m.config.Previous.IsZero(): // goes on in a new directory
		h.NewestCounter, h.NewestSample = m.config.FirstCounter-1, m.config.Previous
	}
	leaf, err = heartbeat.Sign(m.config.Signer, h)
	return leaf, err == nil, err
}

package meter

import (
	"context"
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
		case <-intervals:
		}
		before := recorded
		if recorded = s.meter.counts.recorded.Load(); recorded != before {
			continue // the samples are the sign of life
		}
		leaf, ok, err := s.meter.heartbeat(time.Now())
		if err != nil {
			s.meter.alarm(Alarm{Kind: AlarmHeartbeat, Err: err})
		}
		if !ok || err != nil {
			continue
		}
		call, done := context.WithTimeout(ctx, s.timing.answer)
		_, err = client.SubmitHeartbeat(call, &ingestv1.SubmitHeartbeatRequest{Record: leaf})
		done()
		if err == nil {
			s.meter.counts.heartbeats.Add(1)
		}
	}
}

// heartbeat signs the newest counter; ok is false while no block is known.
func (m *Meter) heartbeat(now time.Time) (leaf []byte, ok bool, err error) {
	m.recording.Lock() // the signer's calls are serialised
	defer m.recording.Unlock()
	block, ok := m.known.at(now)
	if m.closed || !ok {
		return nil, false, nil
	}
	h := &heartbeat.Heartbeat{
		NetworkID: m.config.NetworkID, MeterID: m.config.MeterID, AtUnixNano: now.UnixNano(),
		// The host's clock; what it is worth is said of each capture.
		ClockSync:   recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED,
		KnownHeight: block.Height, KnownBlock: block.Header,
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

package meter

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
)

// pulses is a gateway that only counts heartbeats.
type pulses struct {
	ingestv1.IngestServiceClient
	got  chan []byte
	fail atomic.Bool
}

func (p *pulses) SubmitHeartbeat(_ context.Context, r *ingestv1.SubmitHeartbeatRequest, _ ...grpc.CallOption) (*ingestv1.SubmitHeartbeatResponse, error) {
	fail := p.fail.Load() // before the test goes on
	p.got <- r.GetRecord()
	if fail {
		return nil, context.DeadlineExceeded
	}
	return &ingestv1.SubmitHeartbeatResponse{}, nil
}

// A meter that records nothing signs that it lives, with its newest counter; one
// that records does not.
func TestHeartbeatWhileNothingIsRecorded(t *testing.T) {
	n := newNotary(t)
	c := configOf(t, n, startGateway(t, n))
	c.Heartbeat = -1 // the test gives the intervals
	m := openMeter(t, c)
	ticket, err := m.Record(t.Context(), capture(0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gateway, intervals, ended := &pulses{got: make(chan []byte)}, make(chan time.Time), make(chan struct{})
	go func() { m.sender.beat(ctx, gateway, intervals); close(ended) }()
	intervals <- time.Time{}
	b := heartbeatOf(t, m, <-gateway.got)
	if b.NewestCounter != ticket.Counter || b.NewestSample != ticket.Sample || b.MeterID != c.MeterID || b.NetworkID != c.NetworkID {
		t.Errorf("heartbeat %+v, want one of counter %d and sample %s", b, ticket.Counter, ticket.Sample)
	}
	if b.KnownBlock.IsZero() || b.AtUnixNano < captureTime.UnixNano() {
		t.Errorf("heartbeat %+v names no block or no time", b)
	}
	gateway.fail.Store(true)
	intervals <- time.Time{}
	<-gateway.got
	if _, err := m.Record(t.Context(), capture(1)); err != nil {
		t.Fatal(err)
	}
	intervals <- time.Time{} // the sample is the sign of life
	intervals <- time.Time{}
	if b := heartbeatOf(t, m, <-gateway.got); b.NewestCounter != ticket.Counter+1 {
		t.Errorf("after another sample: %+v", b)
	}
	cancel()
	<-ended
	if got := m.Stats().Heartbeats; got != 1 {
		t.Errorf("%d heartbeats were taken, want the first alone", got)
	}
}

// Heartbeat sends one now, whatever was recorded, and hands the gateway's answer on.
func TestHeartbeatOnDemand(t *testing.T) {
	n := newNotary(t)
	g := startGateway(t, n)
	c := configOf(t, n, g)
	c.Heartbeat = -1
	m := openMeter(t, c)
	ticket := recordAll(t, m, 1)[0]
	must(t, m.Heartbeat(t.Context()))
	g.mu.Lock()
	got := g.heartbeats
	g.heartbeatError = reason.New(reason.TooSoon, "at most every 10 s")
	g.mu.Unlock()
	if len(got) != 1 || heartbeatOf(t, m, got[0]).NewestSample != ticket.Sample || m.Stats().Heartbeats != 1 {
		t.Errorf("%d heartbeats came, %d were counted", len(got), m.Stats().Heartbeats)
	}
	if err := m.Heartbeat(t.Context()); err == nil || m.Stats().Heartbeats != 1 {
		t.Errorf("a refused heartbeat: %v, %d counted", err, m.Stats().Heartbeats)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Heartbeat(gone); err == nil {
		t.Error("a heartbeat after its time")
	}
	must(t, m.Close())
	if err := m.Heartbeat(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed meter's heartbeat: %v", err)
	}
}

// cut is a gateway whose stream ends while it is asked.
type cut struct {
	ingestv1.IngestServiceClient
	end func()
}

func (c *cut) SubmitHeartbeat(ctx context.Context, _ *ingestv1.SubmitHeartbeatRequest, _ ...grpc.CallOption) (*ingestv1.SubmitHeartbeatResponse, error) {
	c.end()
	<-ctx.Done()
	return nil, ctx.Err()
}

// A heartbeat that the end of its session cancels says why the session ended.
func TestHeartbeatSaysWhyTheSessionEnded(t *testing.T) {
	n := newNotary(t)
	c := configOf(t, n, startGateway(t, n))
	c.Heartbeat = -1
	m := openMeter(t, c)
	recordAll(t, m, 1) // a block is known
	ctx, cancel := context.WithCancelCause(t.Context())
	refused := reason.New(reason.PermissionDenied, "the meter is barred")
	if err := m.sender.beatOnce(ctx, &cut{end: func() { cancel(refused) }}); !errors.Is(err, refused) {
		t.Errorf("%v, want %v", err, refused)
	}
}

// heartbeatOf reads a leaf and verifies the meter's signature.
func heartbeatOf(t *testing.T, m *Meter, leaf []byte) *heartbeat.Heartbeat {
	t.Helper()
	r, err := record.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	h, err := heartbeat.Parse(r.GetHeartbeat().GetHeartbeat())
	if err != nil {
		t.Fatal(err)
	}
	kind, err := sample.KindOf(m.config.Signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.KeyOf(kind, m.config.Signer.Public())
	if err != nil || !signature.Verify(kind, key, heartbeat.Message(r.GetHeartbeat().GetHeartbeat()), r.GetHeartbeat().GetSignature()) {
		t.Errorf("the heartbeat does not verify (%v)", err)
	}
	return h
}

func TestHeartbeatIntervalIsBounded(t *testing.T) {
	n := newNotary(t)
	c := configOf(t, n, startGateway(t, n))
	c.Heartbeat = leastHeartbeat - 1
	if _, err := Open(t.Context(), c); err == nil {
		t.Error("an interval below 10 s is taken")
	}
}

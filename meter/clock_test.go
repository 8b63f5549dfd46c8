package meter

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// A heartbeat and a capture that does not say it itself say of the clock what one
// source says; a capture that says it is believed.
func TestClockSyncHasOneSource(t *testing.T) {
	n := newNotary(t)
	gateway := startGateway(t, n)
	c := configOf(t, n, gateway)
	c.Heartbeat = -1
	var now atomic.Int32
	c.ClockSync = func() recordv1.ClockSync { return recordv1.ClockSync(now.Load()) }
	m := openMeter(t, c)
	for _, want := range []recordv1.ClockSync{
		recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED, recordv1.ClockSync_CLOCK_SYNC_HOLDOVER, recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED,
	} {
		now.Store(int32(want))
		said := capture(int(want))
		said.ClockSync = recordv1.ClockSync_CLOCK_SYNC_UNSPECIFIED
		if got := recordedSync(t, m, said); got != want {
			t.Errorf("the sample says %v, the source %v", got, want)
		}
		leaf, ok, err := m.heartbeat(time.Now())
		if err != nil || !ok {
			t.Fatalf("no heartbeat (%v)", err)
		}
		if got := heartbeatOf(t, m, leaf).ClockSync; got != want {
			t.Errorf("the heartbeat says %v, the source %v", got, want)
		}
		said.ClockSync = recordv1.ClockSync_CLOCK_SYNC_HOLDOVER
		if got := recordedSync(t, m, said); got != said.ClockSync {
			t.Errorf("the sample says %v, the capture %v", got, said.ClockSync)
		}
	}
}

// Without a source nothing is claimed: a capture must say, a heartbeat says that
// the clock is not synchronised.
func TestClockSyncWithoutASource(t *testing.T) {
	n := newNotary(t)
	c := configOf(t, n, startGateway(t, n))
	c.Heartbeat = -1
	m := openMeter(t, c)
	silent := capture(0)
	silent.ClockSync = recordv1.ClockSync_CLOCK_SYNC_UNSPECIFIED
	if _, err := m.Record(t.Context(), silent); reason.Of(err) != reason.Malformed {
		t.Errorf("a capture that says nothing of the clock: %v", err)
	}
	if got := recordedSync(t, m, capture(1)); got != capture(1).ClockSync {
		t.Errorf("the sample says %v", got)
	}
	leaf, ok, err := m.heartbeat(time.Now())
	if err != nil || !ok {
		t.Fatalf("no heartbeat (%v)", err)
	}
	if got := heartbeatOf(t, m, leaf).ClockSync; got != recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED {
		t.Errorf("the heartbeat says %v", got)
	}
}

// HostClock says one of the two that a kernel can know.
func TestHostClock(t *testing.T) {
	if got := HostClock(); got != recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED && got != recordv1.ClockSync_CLOCK_SYNC_NOT_SYNCHRONISED {
		t.Errorf("the host's clock is %v", got)
	}
}

// recordedSync records a capture and reads what its signed header says.
func recordedSync(t *testing.T, m *Meter, c Capture) recordv1.ClockSync {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ticket, err := m.Record(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Wait(ctx, ticket)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := m.verifier.measured(got.Text)
	if err != nil {
		t.Fatal(err)
	}
	return verified.Sample.ClockSync
}

package gateway

import (
	"log/slog"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// flight is one batch that a test lets return.
type flight struct {
	batch []*Sample
	land  chan struct{}
}

func newBatcher() (*batcher, <-chan flight) {
	flights := make(chan flight)
	return &batcher{send: func(_ *batcher, batch []*Sample) {
		f := flight{batch, make(chan struct{})}
		flights <- f
		<-f.land
	}}, flights
}

func samples(n, size int) []*Sample {
	all := make([]*Sample, n)
	for i := range all {
		all[i] = &Sample{size: size}
	}
	return all
}

func TestBatchesAdapt(t *testing.T) {
	b, flights := newBatcher()
	b.add(samples(1, 10)...)
	first := <-flights
	if len(first.batch) != 1 {
		t.Fatalf("an idle batcher sent %d", len(first.batch))
	}
	for range maxBatch - 1 {
		b.add(samples(1, 10)...) // not worth a second batch yet
	}
	if b.flying != 1 {
		t.Errorf("%d batches on their way, want the first only", b.flying)
	}
	close(first.land)
	second := <-flights
	if len(second.batch) != maxBatch-1 {
		t.Errorf("the second batch has %d, want all that came meanwhile", len(second.batch))
	}
	b.add(samples(maxBatch, 10)...) // worth it
	third := <-flights
	if len(third.batch) != maxBatch {
		t.Errorf("the third batch has %d", len(third.batch))
	}
	close(second.land)
	close(third.land)
}

func TestBatchesAreBounded(t *testing.T) {
	b, flights := newBatcher()
	b.add(samples(3*maxBatch, 10)...)
	first := <-flights
	if len(first.batch) != maxBatch {
		t.Errorf("a batch of %d, at most %d", len(first.batch), maxBatch)
	}
	close(first.land)
	for left := 2 * maxBatch; left > 0; {
		f := <-flights
		left -= len(f.batch)
		close(f.land)
	}

	b, flights = newBatcher()
	b.add(samples(2, maxBatchBytes)...) // the first goes alone although nothing larger fits
	for range 2 {
		f := <-flights
		if len(f.batch) != 1 {
			t.Errorf("%d samples of %d bytes in one batch", len(f.batch), maxBatchBytes)
		}
		close(f.land)
	}
}

func TestPipelineIsBounded(t *testing.T) {
	b, flights := newBatcher()
	var flying []flight
	for range pipeline {
		b.add(samples(maxBatch, 10)...)
		flying = append(flying, <-flights)
	}
	b.add(samples(maxBatch, 10)...)
	b.mu.Lock()
	if b.flying != pipeline || len(b.waiting) != maxBatch {
		t.Errorf("%d batches on their way and %d samples waiting, at most %d", b.flying, len(b.waiting), pipeline)
	}
	b.mu.Unlock()
	for _, f := range flying {
		close(f.land)
	}
	close((<-flights).land)
}

// What cannot be done soon is refused: a queue that only grows would hold every
// sample until its meter gives up waiting.
func TestQueueIsBoundedInTime(t *testing.T) {
	b, flights := newBatcher()
	var flying []flight
	for range pipeline {
		b.add(samples(maxBatch, 10)...)
		flying = append(flying, <-flights)
	}
	now := time.Now()
	if err := b.full(now.Add(time.Hour)); err != nil {
		t.Errorf("nothing waits: %v", err)
	}
	b.add(samples(1, 10)...)
	began := b.waiting[0].queued
	if err := b.full(began.Add(maxWait)); err != nil {
		t.Errorf("the oldest has waited for as long as it may: %v", err)
	}
	err := b.full(began.Add(maxWait + time.Second))
	if reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) < maxWait || rpcerror.IsPermanent(err) {
		t.Errorf("the oldest has waited too long: %v, again after %s", err, rpcerror.Delay(err))
	}
	g := New(digest.Zero, "gateway", nil, nil, nil, slog.New(slog.DiscardHandler))
	g.batchers[digest.Zero] = b
	b.waiting[0].queued = began.Add(-2 * maxWait)
	if err := g.room.take(10); err != nil {
		t.Fatal(err)
	}
	if _, err := g.begin(&Sample{size: 10}, digest.Zero); reason.Of(err) != reason.Overloaded || g.room.used.Load() != 0 || len(b.waiting) != 1 {
		t.Errorf("a sample at the door of a long queue: %v, %d bytes held, %d waiting", err, g.room.used.Load(), len(b.waiting))
	}
	if _, err := g.begin(&Sample{size: 10}, digest.Plain(nil)); err != nil {
		t.Errorf("a sample of another algorithm: %v", err)
	}
	for _, f := range flying {
		close(f.land)
	}
	last := <-flights // what waited
	if err := b.full(now.Add(time.Hour)); err != nil {
		t.Errorf("nothing waits any more: %v", err)
	}
	close(last.land)
}

func TestRoomIsBounded(t *testing.T) {
	var r room
	if err := r.take(maxHeldBytes); err != nil {
		t.Fatal(err)
	}
	if err := r.take(1); reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) == 0 || rpcerror.IsPermanent(err) {
		t.Errorf("one byte too many: %v", err)
	}
	r.free(1)
	if err := r.take(1); err != nil {
		t.Errorf("what was given back: %v", err)
	}
}

func TestRateIsLimitedBySource(t *testing.T) {
	l := newLimits()
	exhaust := func(source Source, meter string) error {
		for range 1_000_000 {
			if err := l.take(source, meter); err != nil {
				return err
			}
		}
		return nil
	}
	meter := Source{ID: "meter-01"}
	if err := exhaust(meter, "meter-02"); reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) == 0 {
		t.Fatalf("a meter without a bound: %v", err)
	}
	if err := l.take(Source{ID: "meter-02"}, "meter-02"); err != nil {
		t.Errorf("a meter pays for what another sent in its name: %v", err)
	}
	controller := Source{ID: "gateway-07", Relays: true}
	if err := exhaust(controller, "meter-01"); err == nil {
		t.Error("a relayed meter has no bound")
	}
	if err := l.take(controller, "meter-02"); err != nil {
		t.Errorf("a relayed meter pays for another: %v", err)
	}
}

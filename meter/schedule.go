package meter

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/lacre-metrology/lacre/core/digest"
)

// backoff doubles from first to most; the delay is drawn from its upper half,
// so that many meters do not return at one moment.
type backoff struct{ first, most time.Duration }

func (b backoff) delay(attempt int) time.Duration {
	d := b.first << min(attempt, 20)
	if d > b.most || d <= 0 {
		d = b.most
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // G404: jitter needs no secrecy.
}

// item is one sample without an answer. It is in exactly one of ready, waiting,
// flying, or in somebody's hands (being read, verified or stored).
type item struct {
	counter   uint64
	size      int64
	attempts  int           // answers that settled nothing, so far
	notBefore time.Time     // while waiting
	launched  time.Time     // while flying
	sample    digest.Digest // while flying
	gone      chan struct{} // closed when the sample has left the queue
	span      trace.Span    // while flying; nil without a Tracer
}

// schedule says which sample goes next: the oldest that need not wait, while the
// window has room. So nothing blocks anything but by bandwidth.
type schedule struct {
	maxFlying int
	wake      chan struct{} // capacity 1: the state has changed

	mu          sync.Mutex // guards the rest
	items       map[uint64]*item
	ready       itemHeap // by counter
	waiting     itemHeap // by notBefore
	flying      map[digest.Digest]*item
	flyingBytes int64
	progress    time.Time // when a sample last left, or the first came
}

func newSchedule(maxFlying int) *schedule {
	return &schedule{
		maxFlying: maxFlying, wake: make(chan struct{}, 1),
		items: make(map[uint64]*item), flying: make(map[digest.Digest]*item),
		ready:   itemHeap{less: func(a, b *item) bool { return a.counter < b.counter }},
		waiting: itemHeap{less: func(a, b *item) bool { return a.notBefore.Before(b.notBefore) }},
	}
}

func (s *schedule) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// add takes a sample of the outbox in.
func (s *schedule) add(counter uint64, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) == 0 {
		s.progress = time.Now()
	}
	it := &item{counter: counter, size: size, gone: make(chan struct{})}
	s.items[counter] = it
	heap.Push(&s.ready, it)
	s.signal()
}

// next waits for a sample that may be sent. It is in the caller's hands then,
// who must launch, postpone or finish it. One caller at a time.
func (s *schedule) next(ctx context.Context) (*item, error) {
	for {
		it, due := s.pop()
		if it != nil {
			return it, nil
		}
		timer := time.NewTimer(due)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pop gives the next sample, or how long there is surely none.
func (s *schedule) pop() (*item, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.waiting.items) > 0 && !s.waiting.items[0].notBefore.After(now) {
		heap.Push(&s.ready, s.waiting.next())
	}
	if len(s.ready.items) > 0 && s.room(s.ready.items[0].size) {
		return s.ready.next(), 0
	}
	if len(s.waiting.items) > 0 {
		return nil, s.waiting.items[0].notBefore.Sub(now)
	}
	return nil, time.Hour
}

func (s *schedule) room(size int64) bool {
	return len(s.flying) == 0 || len(s.flying) < s.maxFlying && s.flyingBytes+size <= maxInFlightBytes
}

// launch says that the sample is about to be sent.
func (s *schedule) launch(it *item, sample digest.Digest, span trace.Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it.sample, it.launched, it.span = sample, time.Now(), span
	s.flying[sample] = it
	s.flyingBytes += it.size
}

// land takes the answered sample out of the air; nil when it is not there.
func (s *schedule) land(sample digest.Digest) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.flying[sample]
	if it != nil {
		s.remove(it)
		s.signal()
	}
	return it
}

func (s *schedule) remove(it *item) {
	delete(s.flying, it.sample)
	s.flyingBytes -= it.size
}

// postpone gives a sample back, to be sent after the delay.
func (s *schedule) postpone(it *item, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it.attempts++
	it.notBefore = time.Now().Add(delay)
	heap.Push(&s.waiting, it)
	s.signal()
}

// groundAll makes everything in the air ready again: the stream is gone.
func (s *schedule) groundAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.flying {
		s.remove(it)
		endSpan(it.span, "the stream ended without an answer")
		heap.Push(&s.ready, it)
	}
	s.signal()
}

// finish forgets a sample that has left the queue and tells who waits for it.
func (s *schedule) finish(it *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, it.counter)
	s.progress = time.Now()
	close(it.gone)
}

// gone is closed when the sample has left the queue; nil when it is not there.
func (s *schedule) gone(counter uint64) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it, ok := s.items[counter]; ok {
		return it.gone
	}
	return nil
}

// all is gone for every sample of now.
func (s *schedule) all() []<-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]<-chan struct{}, 0, len(s.items))
	for _, it := range s.items {
		list = append(list, it.gone)
	}
	return list
}

// inFlight counts the samples that wait for an answer.
func (s *schedule) inFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.flying)
}

// stalled says for how long the oldest sample in the air has had no answer, and
// for how long no sample has left although there are some.
func (s *schedule) stalled() (unanswered, unprogressed time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, it := range s.flying {
		unanswered = max(unanswered, now.Sub(it.launched))
	}
	if len(s.items) > 0 {
		unprogressed = now.Sub(s.progress)
	}
	return unanswered, unprogressed
}

// next removes the least item; there must be one.
func (h *itemHeap) next() *item {
	it, _ := heap.Pop(h).(*item)
	return it
}

// itemHeap implements heap.Interface.
type itemHeap struct {
	items []*item
	less  func(a, b *item) bool
}

func (h *itemHeap) Len() int           { return len(h.items) }
func (h *itemHeap) Less(i, j int) bool { return h.less(h.items[i], h.items[j]) }
func (h *itemHeap) Swap(i, j int)      { h.items[i], h.items[j] = h.items[j], h.items[i] }
func (h *itemHeap) Push(x any) {
	it, _ := x.(*item) // heap.Push is called with items only
	h.items = append(h.items, it)
}
func (h *itemHeap) Pop() any {
	last := h.items[len(h.items)-1]
	h.items[len(h.items)-1] = nil
	h.items = h.items[:len(h.items)-1]
	return last
}

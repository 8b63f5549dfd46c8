package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

const (
	maxHeldBytes  = 64 << 20               // of samples waiting or on their way
	overhead      = 2 << 10                // what a sample costs besides its bytes
	maxBatch      = record.MaxClaims       // samples; an endorsement set holds no more
	maxBatchBytes = 2 << 20                // of samples; a larger single one still goes
	pipeline      = 2                      // batches on their way for one algorithm
	retryDelay    = 250 * time.Millisecond // asked of a meter whose sample found no room
	// maxWait is how long the oldest sample may have waited for a batch when another
	// one is taken. It outlasts an election, and with the time that batches take it
	// stays far below the moment when a meter is told PENDING and hands in again what
	// is still queued here: then all work would go into what is there twice.
	maxWait = 5 * time.Second
)

// batcher groups the samples of one algorithm. An idle batcher sends at once; a
// busy one groups what arrives while its batches are on their way.
type batcher struct {
	algorithm digest.Digest
	send      func(b *batcher, batch []*Sample)

	mu      sync.Mutex
	waiting []*Sample
	bytes   int // of waiting
	flying  int
}

// add queues samples and starts a batch if the pipeline has room.
func (b *batcher) add(samples ...*Sample) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, s := range samples {
		s.queued = now
		b.waiting = append(b.waiting, s)
		b.bytes += s.size
	}
	b.launch()
}

// full refuses another sample while the queue is longer than maxWait. Whoever is
// refused comes back after as long as the oldest has waited, because refusing costs
// work too.
func (b *batcher) full(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		return nil
	}
	waited := now.Sub(b.waiting[0].queued)
	if waited <= maxWait {
		return nil
	}
	return rpcserver.Overloaded(fmt.Sprintf("%d samples wait for a batch, the oldest for %s, at most %s", len(b.waiting), waited.Round(time.Millisecond), maxWait), waited)
}

// launch sends a batch if there is one and room for it. The caller holds mu.
func (b *batcher) launch() {
	// Each batch costs as much as some thirty samples, whatever is in it. So while
	// one is on its way a second one leaves only when it is full; the first one's
	// return takes all that came meanwhile.
	worthwhile := b.flying == 0 || len(b.waiting) >= maxBatch || b.bytes >= maxBatchBytes
	if len(b.waiting) == 0 || b.flying == pipeline || !worthwhile {
		return
	}
	n, size := 0, 0
	for n < len(b.waiting) && n < maxBatch && (n == 0 || size+b.waiting[n].size <= maxBatchBytes) {
		size += b.waiting[n].size
		n++
	}
	batch := b.waiting[:n:n]
	b.waiting = append([]*Sample(nil), b.waiting[n:]...)
	b.bytes -= size
	b.flying++
	go func() {
		b.send(b, batch)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.flying--
		b.launch()
	}()
}

// room bounds the bytes of samples that the gateway holds.
type room struct{ used atomic.Int64 }

func (r *room) take(n int) error {
	if r.used.Add(int64(n)) > maxHeldBytes {
		r.used.Add(-int64(n))
		return rpcserver.Overloaded("samples on their way", retryDelay)
	}
	return nil
}

func (r *room) free(n int) { r.used.Add(-int64(n)) }

// stopping answers a sample that the gateway can no longer serve.
func stopping() error {
	return rpcerror.With(reason.New(reason.NotReady, "the gateway is stopping"), rpcerror.RetryAfter(retryDelay))
}

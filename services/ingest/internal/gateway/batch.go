package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

const (
	maxQueuedBytes = 64 << 20               // raw vectors waiting or on their way
	maxBatch       = 512                    // samples; an endorsement set holds at most 1,024
	maxBatchBytes  = 2 << 20                // of raw vectors; a larger single sample still goes
	pipeline       = 4                      // batches on their way for one algorithm
	retryDelay     = 250 * time.Millisecond // asked of a meter whose sample found no room
)

// batcher groups the samples of one algorithm. An idle batcher sends at once; a
// busy one groups what arrives while its batches are on their way.
type batcher struct {
	algorithm digest.Digest
	send      func(ctx context.Context, algorithm digest.Digest, batch []*Sample)

	mu      sync.Mutex
	waiting []*Sample
	flying  int
}

// add queues a sample and starts a batch if the pipeline has room.
func (b *batcher) add(ctx context.Context, s *Sample) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, s)
	b.launch(ctx)
}

// launch sends a batch if there is one and room for it. The caller holds mu.
func (b *batcher) launch(ctx context.Context) {
	// While one batch is on its way a second one waits until it is worth its
	// cost: a quarter of the largest, or the first one's return.
	worthwhile := b.flying == 0 || len(b.waiting) >= maxBatch/4
	if len(b.waiting) == 0 || b.flying == pipeline || !worthwhile {
		return
	}
	n, size := 0, 0
	for n < len(b.waiting) && n < maxBatch {
		size += len(b.waiting[n].Raw)
		if n > 0 && size > maxBatchBytes {
			break
		}
		n++
	}
	batch := b.waiting[:n:n]
	b.waiting = append([]*Sample(nil), b.waiting[n:]...)
	b.flying++
	go func() {
		b.send(ctx, b.algorithm, batch)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.flying--
		b.launch(ctx)
	}()
}

// room bounds the bytes of raw vectors that the gateway holds.
type room struct{ used atomic.Int64 }

func (r *room) take(n int) error {
	if r.used.Add(int64(n)) > maxQueuedBytes {
		r.used.Add(-int64(n))
		return rpcserver.Overloaded("raw vectors on their way", retryDelay)
	}
	return nil
}

func (r *room) free(n int) { r.used.Add(-int64(n)) }

// stopping answers a sample that the gateway can no longer serve.
func stopping() error { return reason.New(reason.NotReady, "the gateway is stopping") }

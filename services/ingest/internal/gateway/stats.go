package gateway

import "sync/atomic"

// counts are what happened since the start.
type counts struct {
	taken, answered, certified, batches, disagreements atomic.Uint64
}

// Stats is what the gateway holds and what it did since the start.
type Stats struct {
	Taken         uint64 // samples
	Answered      uint64 // samples: with a receipt, or an error
	Certified     uint64 // samples answered with a receipt
	Batches       uint64 // rounds of a batch, repeated ones too
	Disagreements uint64 // samples on which endorsers differed
	Queued        int    // samples waiting for a batch
	Flying        int    // batches on their way
	HeldBytes     int64  // of samples that wait or are on their way
}

// Stats reads the counters; only whoever asks waits for the batchers' locks.
func (g *Gateway) Stats() Stats {
	answered := g.counts.answered.Load() // first: more are taken than answered
	s := Stats{
		Taken: g.counts.taken.Load(), Answered: answered, Certified: g.counts.certified.Load(),
		Batches: g.counts.batches.Load(), Disagreements: g.counts.disagreements.Load(), HeldBytes: g.room.used.Load(),
	}
	g.mu.Lock()
	batchers := make([]*batcher, 0, len(g.batchers))
	for _, b := range g.batchers {
		batchers = append(batchers, b)
	}
	g.mu.Unlock()
	for _, b := range batchers {
		b.mu.Lock()
		s.Queued += len(b.waiting)
		s.Flying += b.flying
		b.mu.Unlock()
	}
	return s
}

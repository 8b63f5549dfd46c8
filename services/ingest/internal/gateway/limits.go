package gateway

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

// A meter on the busiest lane sees a vehicle each second; after an outage it
// catches up at meterRate. Only registered meters get an entry, so the map is
// bounded by the ledger.
const (
	meterRate  = 200 // samples per second
	meterBurst = 400
)

// limits keeps one meter from taking the gateway from the others.
type limits struct {
	mu     sync.Mutex
	meters map[string]*rate.Limiter
}

func newLimits() *limits { return &limits{meters: make(map[string]*rate.Limiter)} }

// take counts a sample of the meter, or says when to come again.
func (l *limits) take(meterID string) error {
	l.mu.Lock()
	limiter := l.meters[meterID]
	if limiter == nil {
		limiter = rate.NewLimiter(meterRate, meterBurst)
		l.meters[meterID] = limiter
	}
	l.mu.Unlock()
	if !limiter.Allow() {
		return rpcserver.Overloaded("samples of meter "+meterID, time.Second/meterRate*meterBurst/4)
	}
	return nil
}

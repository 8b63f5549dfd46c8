package gateway

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

// A meter on the busiest lane sees a vehicle each second; after an outage it
// catches up at meterRate.
const (
	meterRate  = 200 // samples per second
	meterBurst = 400
)

// Source is who hands samples in: a meter, or a site controller that relays
// those of several. It is registered on the ledger.
type Source struct {
	ID     string
	Relays bool
}

// limits keeps one meter from taking the gateway from the others. A limit
// belongs to whoever hands samples in, so nobody uses up another's by sending
// rubbish in its name; behind a relay each meter has its own. All of them are
// registered, so the map is bounded by the ledger.
type limits struct {
	mu     sync.Mutex
	meters map[string]*rate.Limiter
}

func newLimits() *limits { return &limits{meters: make(map[string]*rate.Limiter)} }

// take counts a sample, or says when to come again.
func (l *limits) take(source Source, meterID string) error {
	key := source.ID
	if source.Relays {
		key += "/" + meterID
	}
	l.mu.Lock()
	limiter := l.meters[key]
	if limiter == nil {
		limiter = rate.NewLimiter(meterRate, meterBurst)
		l.meters[key] = limiter
	}
	l.mu.Unlock()
	if !limiter.Allow() {
		return rpcserver.Overloaded("samples from "+key, meterBurst/4*time.Second/meterRate)
	}
	return nil
}

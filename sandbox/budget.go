package sandbox

import (
	"sync"
	"time"
)

// budget bounds the CPU time that cross-checks take. It accrues a share of real
// time and pays the measured time of each check, which may leave a debt: over
// any long time, checks take at most the share. It decides which calls are
// checked, never what a result is.
//
// Refusals come first: four fifths of what accrues is theirs. The rest, and
// whatever refusals leave, is for valid results: so neither can a flood of
// refusals hide valid results from checks, nor the reverse.
type budget struct {
	share float64          // CPU seconds per second
	now   func() time.Time // the clock

	mu       sync.Mutex
	last     time.Time     // guarded by mu; when balances were brought up to date
	refusals time.Duration // guarded by mu; balance, negative in debt
	valid    time.Duration // guarded by mu; balance, negative in debt
}

// burst is the real time whose accrual the balances can hold at most.
const burst = time.Second

func newBudget(share float64, now func() time.Time) *budget {
	b := &budget{share: share, now: now, last: now()}
	b.last = b.last.Add(-burst) // starts full, so that a fresh program is checked at once
	return b
}

// admit reports whether a call may be repeated now.
func (b *budget) admit(refused bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accrue()
	return *b.balance(refused) > 0
}

// start measures a check; the returned function ends and pays it.
func (b *budget) start(refused bool) func() {
	from := b.now()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		*b.balance(refused) -= b.now().Sub(from)
	}
}

func (b *budget) balance(refused bool) *time.Duration {
	if refused {
		return &b.refusals
	}
	return &b.valid
}

// accrue adds what the time since the last call earned. Called with mu held.
func (b *budget) accrue() {
	now := b.now()
	elapsed := max(now.Sub(b.last), 0)
	b.last = now
	earned := time.Duration(float64(elapsed) * b.share)
	limit := time.Duration(float64(burst) * b.share)
	forRefusals := earned / 5 * 4
	b.refusals += forRefusals
	b.valid += earned - forRefusals
	if surplus := b.refusals - limit; surplus > 0 {
		b.refusals -= surplus
		b.valid += surplus
	}
	b.valid = min(b.valid, limit)
}

package ledger

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/tlog"
)

const (
	// clockBound is how far this replica's clock may be from the others'. Rule S2
	// lets a sample be dated 10 s ahead at the least.
	clockBound = 10 * time.Second
	// freshFor is how long after a new certificate its time stamps are those of now.
	freshFor = 3 * time.Second
)

// clockWatch compares this replica's clock with the time stamps that the others
// cosign with. It decides nothing in the ledger: block time is a median that one
// wrong clock in four does not move (rule C4).
//
// Known hole: it believes the others, of which F can lie; the median of the three
// others of a certificate holds against one.
type clockWatch struct {
	own    string // this replica's cosigner name
	offset atomic.Int64
	text   string    // of the newest certificate; owned by the watching goroutine
	at     time.Time // when it came, by the monotonic clock; owned by the watching goroutine
	out    bool      // owned by the watching goroutine
}

// observe takes the newest certificate; now is this replica's clock. It reports
// whether the clock is within bounds, and whether that is news. An old
// certificate says nothing, so the last word stands.
func (w *clockWatch) observe(text []byte, now time.Time) (within, news bool) {
	if string(text) != w.text {
		w.text, w.at = string(text), time.Now()
	}
	others := w.others()
	if len(others) == 0 || time.Since(w.at) > freshFor {
		return !w.out, false
	}
	offset := now.Sub(time.Unix(int64(others[(len(others)-1)/2]), 0))
	w.offset.Store(int64(offset))
	out := offset.Abs() > clockBound+time.Second // stamps are whole seconds
	news, w.out = out != w.out, out
	return !out, news
}

// others are the time stamps of the other cosigners, ascending.
func (w *clockWatch) others() []uint64 {
	certificate, err := tlog.ParseCertificate([]byte(w.text))
	if err != nil {
		return nil
	}
	var stamps []uint64
	for _, c := range certificate.Cosignatures {
		if c.Name != w.own {
			stamps = append(stamps, c.TimestampUnix)
		}
	}
	slices.Sort(stamps)
	return stamps
}

// watchClock tells when the clock leaves its bounds and when it is back.
func (s *Service) watchClock(ctx context.Context, fresh []byte) (within bool) {
	within, news := s.clocks.observe(fresh, s.clock())
	switch offset := time.Duration(s.clocks.offset.Load()).Round(time.Second); {
	case news && !within:
		s.log.ErrorContext(ctx, "this replica's clock is out of bounds: it is not ready, and its cosignatures carry a wrong time",
			"ahead_of_the_others", offset.String(), "bound", clockBound.String(), "remedy", "set the clock, and see why it is not kept (NTP, the board's battery)")
	case news:
		s.log.InfoContext(ctx, "this replica's clock is within bounds again", "ahead_of_the_others", offset.String())
	}
	return within
}

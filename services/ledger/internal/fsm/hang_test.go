package fsm

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestR3_AHangingCommitEndsTheProcess(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		hangs int64
	}{
		"quick":         {time.Second, 0},
		"just in time":  {commitDeadline - time.Millisecond, 0},
		"it hangs":      {commitDeadline + time.Second, 1},
		"for very long": {time.Hour, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hangs atomic.Int64
				want := errors.New("its own")
				err := watched(func(error) { hangs.Add(1) }, func() error {
					<-time.After(c.takes)
					return want
				})
				<-time.After(2 * commitDeadline)
				if !errors.Is(err, want) || hangs.Load() != c.hangs {
					t.Errorf("%v, told %d times that it hangs, want %d", err, hangs.Load(), c.hangs)
				}
			})
		})
	}
}

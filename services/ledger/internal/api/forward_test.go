package api

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// changing is a leadership that a test moves.
type changing struct {
	mu      sync.Mutex
	leader  string
	changed chan struct{}
}

func (c *changing) IsLeader() bool { return false }

func (c *changing) Leader() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leader, c.leader != ""
}

func (c *changing) LeaderChanges() (<-chan struct{}, func()) { return c.changed, func() {} }

func (c *changing) becomes(leader string) {
	c.mu.Lock()
	c.leader = leader
	c.mu.Unlock()
	c.changed <- struct{}{}
}

// A leader that is gone never answers. What was forwarded to it must not wait for
// that once another leads.
func TestACallToTheLeaderEndsWithItsLead(t *testing.T) {
	for name, c := range map[string]struct {
		next string
		end  bool // the call is over
	}{
		"another leads":         {"b", true},
		"nobody leads":          {"", true},
		"it is said once again": {"a", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				order := &changing{leader: "a", changed: make(chan struct{}, 1)}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ended := make(chan error, 1)
				go func() {
					_, err := whileLeading(ctx, order, "a", func(ctx context.Context) (int, error) {
						<-ctx.Done()
						return 0, ctx.Err()
					})
					ended <- err
				}()
				synctest.Wait()
				order.becomes(c.next)
				synctest.Wait()
				select {
				case err := <-ended:
					if !c.end || !errors.Is(err, errDeposed) {
						t.Errorf("it ends with %v", err)
					}
					return
				default:
				}
				if c.end {
					t.Error("it waits for a replica that leads no more")
				}
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) || errors.Is(err, errDeposed) {
					t.Errorf("the caller is gone, and it ends with %v", err)
				}
			})
		})
	}
}

// The lead can change between the look at who leads and the watch over it.
func TestACallToOneThatLeadsNoMoreEndsAtOnce(t *testing.T) {
	order := &changing{leader: "b", changed: make(chan struct{}, 1)}
	_, err := whileLeading(t.Context(), order, "a", func(ctx context.Context) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
	if !errors.Is(err, errDeposed) {
		t.Errorf("it ends with %v", err)
	}
	answer, err := whileLeading(t.Context(), order, "b", func(context.Context) (int, error) { return 7, nil })
	if answer != 7 || err != nil {
		t.Errorf("the leader's answer is %d, %v", answer, err)
	}
}

package fsm

import (
	"context"
	"time"
)

// progressInterval is how often fetching blocks tells the log how far it is.
const progressInterval = 5 * time.Second

// progress tells of a long fetch.
type progress struct {
	machine     *Machine
	to          uint64
	began, told time.Time
	fromHeight  uint64
	fromSize    uint64
}

func newProgress(m *Machine, to uint64) *progress {
	head := m.Head().Block
	m.log.Info("fetching blocks from other replicas", "from", head.Height+1, "to", to)
	now := time.Now()
	return &progress{machine: m, to: to, began: now, told: now, fromHeight: head.Height, fromSize: head.Size}
}

// tell logs once in a while, and at the end.
func (p *progress) tell(ctx context.Context) {
	head, now := p.machine.Head().Block, time.Now()
	if head.Height < p.to && now.Sub(p.told) < progressInterval {
		return
	}
	p.told = now
	took := now.Sub(p.began)
	done, left := head.Height-p.fromHeight, p.to-head.Height
	remaining := time.Duration(float64(took) / float64(max(done, 1)) * float64(left))
	p.machine.log.InfoContext(ctx, "fetched blocks", "height", head.Height, "to", p.to, "records", head.Size,
		"records_per_second", int(float64(head.Size-p.fromSize)/max(took.Seconds(), 0.001)), "remaining", remaining.Round(time.Second).String())
}

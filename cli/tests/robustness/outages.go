package main

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// outages are what could not take part, or not as it should, and when: nodes, and
// the ways between two of them. Whoever breaks something notes it, and whoever
// heals it. They are safe for concurrent use.
type outages struct {
	mu   sync.Mutex
	list []outage
	open map[any]int // index by what broke it
}

// outage is one of a node, or of the way between two. One of no node is of all.
type outage struct {
	nodes []string
	from  time.Time
	until time.Time // zero while it lasts
}

// begin notes that a node, or the way between two, is out; by tells one cause from
// another, and a second begin by the same cause changes nothing.
func (o *outages) begin(by any, nodes ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, lasts := o.open[by]; lasts {
		return
	}
	if o.open == nil {
		o.open = make(map[any]int)
	}
	o.open[by] = len(o.list)
	o.list = append(o.list, outage{nodes: nodes, from: time.Now()})
}

// end notes that what began by the same cause is over, if it began.
func (o *outages) end(by any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at, lasts := o.open[by]; lasts {
		o.list[at].until = time.Now()
		delete(o.open, by)
	}
}

// forget forgets all, before the next seed.
func (o *outages) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.open = nil, nil
}

// whole is the earliest moment between from and until from which on, until then,
// one of the sets of nodes was whole: nothing was out of its nodes, nor of the ways
// between them. It is until when none was at the end.
func (o *outages) whole(sets [][]string, from, until time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	best := until
	for _, set := range sets {
		since := from
		for _, each := range o.list {
			if each.from.After(until) || each.over(from) || !each.within(set) {
				continue
			}
			if each.over(until) {
				since = latest(since, each.until)
			} else {
				since = until
			}
		}
		if since.Before(best) {
			best = since
		}
	}
	return best
}

// over tells whether the outage had ended by a moment.
func (o outage) over(by time.Time) bool { return !o.until.IsZero() && !o.until.After(by) }

// within tells whether all that the outage is of belongs to a set.
func (o outage) within(set []string) bool {
	return !slices.ContainsFunc(o.nodes, func(id string) bool { return !slices.Contains(set, id) })
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// reachInterval is how often it is looked whether a process that was started can
// be reached.
const reachInterval = 10 * time.Millisecond

// awaitReach notes when a process that was started can be reached.
func (p *process) awaitReach(done chan struct{}) {
	for {
		connection, err := net.DialTimeout("tcp", p.node.Address, time.Second) //nolint:noctx // bounded by its time-out.
		if err == nil {
			_ = connection.Close() // it carried nothing
			break
		}
		select {
		case <-done:
			return
		case <-time.After(reachInterval):
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == done && p.alive() {
		p.network.outages.end(p)
	}
}

// sufficient are the least sets of nodes that a write needs: a quorum of the
// replicas, which is a majority too, with the gateway and the endorsers.
func (n *network) sufficient() [][]string {
	always := []string{devnet.Gateway}
	for _, e := range n.ByRole(recordv1.Role_ROLE_ENDORSER) {
		if e.ID != leftOut { // the others just satisfy the approval's policy
			always = append(always, e.ID)
		}
	}
	replicas := n.current()
	return choose(replicas, int(founding.DefaultQuorum(len(replicas))), always)
}

// choose gives every set of k of the ids, each with the others before it.
func choose(ids []string, k int, others []string) [][]string {
	if k == 0 {
		return [][]string{others}
	}
	var sets [][]string
	for i := range ids {
		sets = append(sets, choose(ids[i+1:], k-1, append(slices.Clone(others), ids[i]))...)
	}
	return sets
}

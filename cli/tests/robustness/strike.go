package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// striker lets the faults of a schedule happen.
type striker struct {
	network   *network
	replicas  map[string]ledgerv1.LedgerServiceClient
	say       func(string, ...any)
	deaths    []death // of leaders
	liar      string  // the Byzantine replica; "" before the first lie
	told      map[string]bool
	damaged   string // whose stored bytes are altered; "" before the first alteration
	altered   []alteration
	member    *memberChange   // nil before it began
	recovered *recovery       // nil while root keys had nothing to do
	patience  context.Context // in which a change of membership must be through
}

// death is the moment at which a leader was killed.
type death struct {
	leader  string
	at      time.Time
	perhaps bool       // it was to end itself at a step, and may not have come there
	enough  [][]string // sets of nodes that can go on without it
}

// died notes the death of a leader.
func (s *striker) died(leader string, perhaps bool) {
	s.deaths = append(s.deaths, death{leader: leader, at: time.Now(), perhaps: perhaps, enough: s.network.sufficient()})
}

// leads asks the replicas who leads: a majority of those that answer in time, and
// that replica runs.
func (s *striker) leads(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	votes := make(map[string]int)
	best := ""
	for _, id := range s.network.replicas() {
		if !s.network.processes[id].running() {
			continue
		}
		status, err := s.replicas[id].GetStatus(ctx, &ledgerv1.GetStatusRequest{})
		if err != nil || status.GetLeader() == "" {
			continue
		}
		if votes[status.GetLeader()]++; votes[status.GetLeader()] > votes[best] {
			best = status.GetLeader()
		}
	}
	return best
}

// resolve is the node that a fault strikes.
func (s *striker) resolve(ctx context.Context, f fault) (target string, leading bool) {
	leads := s.leads(ctx)
	switch f.Target {
	case leader:
		if leads != "" {
			return leads, true
		}
	case follower:
		rest := slices.DeleteFunc(s.network.replicas(), func(id string) bool { return id == leads })
		return rest[f.Choice%uint64(len(rest))], false
	case liar:
		if s.liar == "" {
			s.liar = leads
		}
		if s.liar != "" {
			return s.liar, s.liar == leads
		}
		s.liar = s.network.replicas()[f.Choice%uint64(len(s.network.replicas()))]
		return s.liar, false
	case damaged:
		if s.damaged == "" {
			s.damaged = leads
			if all := s.network.replicas(); leads == "" || f.Choice%2 == 0 {
				s.damaged = all[f.Choice/2%uint64(len(all))]
			}
		}
		return s.damaged, s.damaged == leads
	default:
		return f.Target, f.Target == leads
	}
	all := s.network.replicas()
	return all[f.Choice%uint64(len(all))], false
}

// run follows the schedule from began on. Faults can overlap; each heals what it
// did when its length is over.
func (s *striker) run(ctx context.Context, faults []fault, began time.Time) error {
	heals := make(chan func() error, len(faults))
	healed := make(chan error, len(faults))
	running := 0
	for number, f := range faults {
		if err := wait(ctx, time.Until(began.Add(f.At))); err != nil {
			break
		}
		heal, err := s.strike(ctx, number, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		running++
		time.AfterFunc(f.Length, func() { heals <- heal })
		go func() { healed <- (<-heals)() }()
	}
	for range running {
		if err := <-healed; err != nil {
			return err
		}
	}
	return s.healAll()
}

// strike begins a fault and says how it ends.
func (s *striker) strike(ctx context.Context, number int, f fault) (heal func() error, err error) {
	target, leading := s.resolve(ctx, f)
	s.say("%s: %s (leads: %v)", f, target, leading)
	p := s.network.processes[target]
	switch f.Kind {
	case kill:
		dies := leading && p.running()
		p.kill()
		if dies {
			s.died(target, false) // now, so that nothing signed after it was still taken
		}
		return p.start, nil
	case pause, silence:
		s.network.outages.begin(number, target)
		p.signal(syscall.SIGSTOP)
		if f.Kind == silence {
			s.died(target, false)
		}
		return func() error { p.signal(syscall.SIGCONT); s.network.outages.end(number); return nil }, nil
	case partition:
		s.network.cut(number, f, target)
		return func() error { s.network.heal(number); return nil }, nil
	case slow:
		s.network.delay(number, target, f.Delay)
		return func() error { s.network.heal(number); return nil }, nil
	}
	switch f.Kind {
	case alter:
		return s.alter(f, p)
	case member:
		s.change(f, target)
		return func() error { return nil }, nil
	case conflict:
		return func() error { return nil }, s.conflict(s.patience, target)
	}
	if f.Kind == clock {
		return func() error { return p.tell("clock 0s") }, p.tell("clock " + f.Delay.String())
	}
	if f.Kind == lie || f.Kind == echo {
		if f.Kind == lie {
			s.told[f.Lie] = true
		}
		if misled := s.doomed(); misled != "" {
			s.network.processes[misled].mislead()
		}
		return func() error { return p.tell("lie " + f.Lie + " off") }, p.tell("lie " + f.Lie + " on")
	}
	s.network.outages.begin(number, target)
	mend, err := s.breakStep(f, p, leading)
	return func() error { err := mend(); s.network.outages.end(number); return err }, err
}

// change begins a change of membership, which goes on while other faults come.
func (s *striker) change(f fault, target string) {
	c := &memberChange{what: f.Change, done: make(chan struct{})}
	if f.Change != "add" {
		c.what += ", without " + target
	}
	s.member = c
	s.network.outages.begin(member) // who is needed changes
	o := &operator{network: s.network, say: s.say}
	go func() {
		defer close(c.done)
		if err := o.change(s.patience, f.Change, target, f.Stopped); err != nil {
			c.err = fmt.Errorf("%s with %s leaving: %w", f.Change, target, err)
		}
	}()
}

// doomed is the replica to which the liar may have sent other entries than to the
// rest: it must find out, and stop with DATA_LOSS. "" if no lie was of that kind.
func (s *striker) doomed() string {
	if !s.told["equivocate"] {
		return ""
	}
	for _, id := range s.network.replicas() {
		if id != s.liar {
			return id
		}
	}
	return ""
}

// breakStep strikes a step of a replica's work.
func (s *striker) breakStep(f fault, p *process, leading bool) (heal func() error, err error) {
	off := func() error { return p.tell(f.Step + " off") }
	revive := func() error {
		err := off() // it may never have come there
		p.expect(false, false)
		return errors.Join(err, p.start())
	}
	switch f.Kind {
	case point, torn:
		p.expect(true, false)
		if leading && p.running() {
			s.died(p.node.ID, true)
		}
		action := " kill"
		if f.Kind == torn {
			action = " torn"
		}
		return revive, p.tell(f.Step + action)
	case stall:
		if f.Delay > settleTimeout { // it will not come back
			p.expect(false, true)
			if leading {
				s.died(p.node.ID, false)
			}
			return revive, p.tell(f.Step + " delay " + f.Delay.String())
		}
		return off, p.tell(f.Step + " delay " + f.Delay.String())
	case disk:
		// A disk that is full or read-only is waited for: no end is forgiven.
		p.expect(false, f.Errno == "EIO")
		if leading {
			s.died(p.node.ID, false)
		}
		return func() error { return errors.Join(off(), p.start()) }, p.tell(f.Step + " fail " + f.Errno)
	}
	return nil, fmt.Errorf("unknown fault %q", f.Kind)
}

// healAll starts and wakes whatever does not run.
func (s *striker) healAll() error {
	for _, id := range s.network.ids() {
		p := s.network.processes[id]
		p.signal(syscall.SIGCONT)
		if err := p.start(); err != nil {
			return err
		}
	}
	return nil
}

// heal takes a fault from all links.
func (n *network) heal(number int) {
	for _, l := range n.links {
		l.heal(number)
	}
}

func (n *network) delay(number int, target string, by time.Duration) {
	for _, l := range n.links {
		if l.from == target || l.to == target {
			l.set(number, linkState{delay: by})
		}
	}
}

// cut puts a partition's shape on the links.
func (n *network) cut(number int, f fault, target string) {
	random := rand.New(rand.NewPCG(f.Choice, 2)) //nolint:gosec // reproducible, not secret.
	replicas := n.replicas()
	of := func(id string) bool { return slices.Contains(replicas, id) }
	side := map[string]bool{target: true}
	if f.Shape == halves {
		rest := slices.DeleteFunc(slices.Clone(replicas), func(id string) bool { return id == target })
		side[rest[random.IntN(len(rest))]] = true
	}
	for _, l := range n.links {
		between := of(l.from) && of(l.to)
		var there, back bool
		switch f.Shape {
		case isolated, halves:
			there = between && side[l.from] != side[l.to]
			back = there
		case deaf: // nothing comes to the target
			there, back = between && l.to == target, between && l.from == target
		case mute: // nothing comes from the target
			there, back = between && l.from == target, between && l.to == target
		case through:
			there = between && l.from != target && l.to != target
			back = there
		case noClients:
			there = !of(l.from) && l.to == target
			back = there
		case gatewayCut:
			there = l.from == "gateway"
			back = there
		}
		if there || back {
			l.set(number, linkState{there: there, back: back, reset: f.Reset})
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// result is what came of one seed.
type result struct {
	Seed          uint64       `json:"seed"`
	Seconds       float64      `json:"seconds"`
	Faults        int          `json:"faults"`
	Sent          int          `json:"sent"`
	Acknowledged  int          `json:"acknowledged"`
	Blocks        uint64       `json:"blocks"`
	History       verdict      `json:"history"`
	FirstWrites   []firstWrite `json:"first_writes,omitempty"`  // after each leader's death
	NoWrite       int          `json:"no_write,omitempty"`      // leaders' deaths after which nothing was signed and acknowledged before the end
	SettleSeconds float64      `json:"settle_seconds"`          // from the end of the faults until all agree
	Exits         []exit       `json:"exits,omitempty"`         // that nobody asked for
	Liar          string       `json:"liar,omitempty"`          // the Byzantine replica
	Misled        string       `json:"misled,omitempty"`        // the replica that it gave other entries, which stopped with DATA_LOSS
	DoubleSigner  string       `json:"double_signer,omitempty"` // whom honest replicas named, with evidence that verifies
	Damaged       string       `json:"damaged,omitempty"`       // the replica whose stored bytes were altered
	Altered       []string     `json:"altered,omitempty"`       // where
	FoundBy       string       `json:"found_by,omitempty"`      // what named the damage
	Membership    string       `json:"membership,omitempty"`    // the change that was made
	Recovered     string       `json:"recovered,omitempty"`     // how root keys continued the ledger, if they had to
	Violations    []string     `json:"violations,omitempty"`
}

const (
	settleTimeout = 90 * time.Second
	readyTimeout  = 60 * time.Second
	checkPatience = 20 * time.Second
	readers       = 2
)

// one runs a seed and checks what it left. An error means that nothing can be
// said about the seed.
func (n *network) one(ctx context.Context, seed uint64, faults []fault, duration time.Duration, say func(string, ...any)) (*result, error) {
	started := time.Now()
	r := &result{Seed: seed}
	if err := n.renew(); err != nil {
		return nil, err
	}
	defer func() {
		for _, p := range n.processes {
			p.kill()
			p.held = false
		}
	}()
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := n.startAll(ready); err != nil {
		return nil, err
	}
	t := &traffic{network: n, history: newHistory()}
	s, err := n.load(ctx, t, r, seed, faults, duration, say)
	if err != nil {
		return nil, err
	}
	n.conclude(ctx, t, s, r)
	for _, id := range n.ids() {
		for _, e := range n.processes[id].unexpected() {
			r.Exits = append(r.Exits, e)
			if n.processes[id].isUnsound() && e.Code == exitLoss {
				continue // it found out
			}
			r.Violations = append(r.Violations, fmt.Sprintf("%s ended with code %d, and nobody asked it to", e.Node, e.Code))
		}
	}
	r.Sent, r.Acknowledged = t.sent, len(t.acks)
	r.Violations = append(r.Violations, t.violations...)
	r.Seconds = time.Since(started).Seconds()
	return r, nil
}

// load lets meters measure and readers read while the faults happen, and then
// until everything that was sent is answered and all replicas agree.
func (n *network) load(ctx context.Context, t *traffic, r *result, seed uint64, faults []fault, duration time.Duration, say func(string, ...any)) (*striker, error) {
	var working sync.WaitGroup
	defer working.Wait() // after it was told to end
	life, end := context.WithCancel(ctx)
	defer end()
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var failures errorList
	chains, disconnect, err := t.chains()
	if err != nil {
		return nil, err
	}
	defer disconnect()
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for t.known.Load() == nil {
		if err := chains[0].head(ready); err != nil && ready.Err() != nil {
			return nil, errors.Join(errNoHead, err)
		}
		_ = wait(ready, 50*time.Millisecond) // the call above says whether ready ended
	}
	clients, closing, err := n.connect()
	if err != nil {
		return nil, err
	}
	defer closing()
	working.Go(func() { chains[0].follow(life) })
	var loads sync.WaitGroup
	for i, c := range chains {
		random := rand.New(rand.NewPCG(seed, 100+uint64(i))) //nolint:gosec // reproducible, not secret.
		work := c.measure
		if i == len(chains)-1 {
			work = c.equivocate
		}
		loads.Go(func() { failures.add(work(loading, life, random)) })
	}
	for i := range readers {
		rd := &reader{traffic: t, random: rand.New(rand.NewPCG(seed, 200+uint64(i))), replicas: clients, names: n.replicas(), counters: t.newest} //nolint:gosec // reproducible, not secret.
		working.Go(func() { rd.read(life) })
	}
	patience, cancelPatience := context.WithTimeout(ctx, duration+settleTimeout)
	defer cancelPatience()
	n.changing.Store(slices.ContainsFunc(faults, func(f fault) bool { return f.Kind == member || f.Kind == conflict }))
	s := &striker{network: n, replicas: clients, say: say, told: make(map[string]bool), patience: patience}
	r.Faults = len(faults)
	began := time.Now()
	if err := s.run(ctx, faults, began); err != nil {
		return nil, err
	}
	if err := wait(ctx, time.Until(began.Add(duration))); err != nil {
		return nil, err
	}
	stop()
	settling, cancelSettling := context.WithTimeout(ctx, settleTimeout)
	defer cancelSettling()
	healed := time.Now()
	answered := make(chan struct{})
	go func() { loads.Wait(); close(answered) }()
	if lineupOf(seed) == mixed {
		if err := s.mayNeedRootKeys(settling, answered); err != nil {
			r.Violations = append(r.Violations, "STUCK: "+err.Error())
		}
	}
	if s.recovered != nil {
		r.Recovered = s.recovered.String()
	}
	select {
	case <-answered:
	case <-settling.Done():
		r.Violations = append(r.Violations, fmt.Sprintf("STUCK: %d samples have no answer %s after all faults were healed", t.unansweredNow(), settleTimeout))
	}
	r.Liar = s.liar
	if err := n.exposed(settling, s, r); err != nil {
		r.Violations = append(r.Violations, err.Error())
	}
	if err := s.member.finished(settling); err != nil {
		r.Violations = append(r.Violations, "STUCK: the change of membership: "+err.Error())
	}
	if s.member != nil {
		r.Membership = s.member.what
	}
	r.Damaged = s.damaged
	for _, a := range s.altered {
		r.Altered = append(r.Altered, a.String())
	}
	if r.Blocks, err = n.agree(settling, func() []string { return n.sound(n.current(), s) }); err != nil {
		r.Violations = append(r.Violations, err.Error())
	}
	r.SettleSeconds = time.Since(healed).Seconds()
	end()
	loads.Wait()
	working.Wait()
	r.firstWrites(s.deaths, t.acks, n.outages.whole)
	return s, failures.err()
}

// sound are those of the replicas whose stored bytes nobody altered.
func (n *network) sound(ids []string, s *striker) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return len(s.altered) > 0 && id == s.damaged })
}

// conclude stops the network and compares its disks with what was told.
func (n *network) conclude(ctx context.Context, t *traffic, s *striker, r *result) {
	if err := n.stopAll(); err != nil {
		r.Violations = append(r.Violations, err.Error())
	}
	var err error
	if r.FoundBy, err = n.foundOut(ctx, s); err != nil {
		r.Violations = append(r.Violations, err.Error())
	}
	found, problems, err := n.inspect(ctx, n.sound(n.good(), s), s.recovered != nil)
	if err != nil {
		problems = append(problems, err.Error())
	} else {
		problems = append(problems, found.lost(t.acks)...)
	}
	r.Violations = append(r.Violations, problems...)
	for _, a := range t.acks { // again: nothing that was given out may have changed
		if _, err := n.receipt(a.receipt, a.sample); err != nil {
			r.Violations = append(r.Violations, fmt.Sprintf("the receipt of %s counter %d verifies no more: %v", a.meter, a.counter, err))
		}
	}
	r.History = t.history.check(checkPatience)
	for _, illegal := range r.History.Illegal {
		r.Violations = append(r.Violations, "not linearizable: "+illegal)
	}
}

// newest is the newest counter that a meter signed, as far as it was sent.
func (t *traffic) newest(meter string) uint64 {
	t.history.mu.Lock()
	defer t.history.mu.Unlock()
	for _, o := range slices.Backward(t.history.operations) {
		if in := o.Input.(input); in.write && in.meter == meter { //nolint:errcheck,forcetypeassert // begin puts nothing else in.
			return in.counter
		}
	}
	return 0
}

func (t *traffic) unansweredNow() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// errorList gathers errors of several goroutines.
type errorList struct {
	mu   sync.Mutex
	list []error
}

func (l *errorList) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, err)
}

func (l *errorList) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.list...)
}

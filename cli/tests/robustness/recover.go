package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// recovery is what came of continuing a ledger by root keys.
type recovery struct {
	continued []string // replicas whose newest block was continued
	anew      []string // survivors that joined anew
	lost      []string
	refused   []string // survivors at which the draft was refused: what they hold may not be continued
}

func (r *recovery) String() string {
	return fmt.Sprintf("continued %s; anew %s; lost %s; no draft at %s", r.continued, r.anew, r.lost, r.refused)
}

// lockSaid is what `lacre recovery lock --json` prints.
type lockSaid struct {
	Node   string     `json:"node_id"`
	Locked *pointSaid `json:"locked"`
	Head   *pointSaid `json:"head"`

	file string
}

type pointSaid struct {
	Height uint64 `json:"height"`
	Header string `json:"header"`
}

// recover continues the ledger with the surviving replicas, by root keys and with
// the commands of docs/runbooks/recovery.md (rule C8). Clients go on meanwhile.
func (o *operator) recover(ctx context.Context, survivors []string) (*recovery, error) {
	n := o.network
	r := new(recovery)
	for _, id := range n.replicas() {
		if !slices.Contains(survivors, id) {
			n.processes[id].lose()
			r.lost = append(r.lost, id)
		}
	}
	if err := n.stop(survivors); err != nil {
		return nil, err
	}
	locks, err := o.locks(ctx, survivors)
	if err != nil {
		return nil, err
	}
	file, err := o.draftRecovery(ctx, r, locks)
	if err != nil {
		return nil, err
	}
	keys := o.roots()
	for _, id := range survivors {
		keys = append(keys, filepath.Join(n.NodeDir(id), "cosigner.next.pem"), filepath.Join(n.NodeDir(id), "log.next.pem"))
	}
	signed, err := o.sign(ctx, file, keys...)
	if err != nil {
		return nil, err
	}
	for _, id := range survivors {
		path := founding.ConfigPath(n.live(), id)
		if _, err := o.lacre(ctx, "recovery", "apply", path, signed); err == nil {
			r.continued = append(r.continued, id)
			continue
		} else if !strings.Contains(err.Error(), "--anew") {
			return nil, err
		}
		if _, err := o.lacre(ctx, "recovery", "apply", path, signed, "--anew"); err != nil {
			return nil, err
		}
		r.anew = append(r.anew, id)
	}
	for _, id := range survivors {
		if err := n.processes[id].start(); err != nil {
			return nil, err
		}
	}
	o.say("operator: recovery: %s", r)
	return r, o.trusted(ctx, len(n.trusted().Epochs())+1)
}

// locks has each survivor say what it signed; the one that holds most comes first.
func (o *operator) locks(ctx context.Context, survivors []string) (locks []lockSaid, err error) {
	for _, id := range survivors {
		l := lockSaid{file: filepath.Join(o.network.live(), id+".lock")}
		out, err := o.lacre(ctx, "recovery", "lock", founding.ConfigPath(o.network.live(), id), "--out", l.file, "--json")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(out), &l); err != nil {
			return nil, fmt.Errorf("the lock of %s: %w: %s", id, err, out)
		}
		if l.Head == nil {
			return nil, fmt.Errorf("the lock of %s names no newest block: %s", id, out)
		}
		locks = append(locks, l)
	}
	slices.SortStableFunc(locks, func(a, b lockSaid) int { return cmp.Compare(b.Head.Height, a.Head.Height) })
	return locks, nil
}

// draftRecovery drafts at the survivor that holds most and, where that is refused,
// at the next: what may have been certified is continued.
func (o *operator) draftRecovery(ctx context.Context, r *recovery, locks []lockSaid) (file string, err error) {
	command := []string{"recovery", "draft"}
	for _, l := range locks {
		command = append(command, l.file)
	}
	var failures []error
	for _, l := range locks {
		made, err := o.draft(ctx, append(slices.Clone(command), "--data", filepath.Join(o.network.NodeDir(l.Node), "data"))...)
		if err != nil {
			r.refused = append(r.refused, l.Node)
			failures = append(failures, err)
		} else if file == "" {
			file = made
		}
	}
	if file == "" {
		return "", errors.Join(failures...)
	}
	return file, nil
}

// conflict makes honest replicas lock headers that exclude each other: the leader
// gives one follower other entries than the rest and keeps its own cosignature to
// itself, until nothing is certified any more; then its machine is lost. The
// others cannot go on but by root keys.
func (s *striker) conflict(ctx context.Context, leader string) error {
	n := s.network
	p := n.processes[leader]
	s.liar = leader
	for _, lie := range []string{"withhold", "equivocate"} {
		s.told[lie] = true
		if err := p.tell("lie " + lie + " on"); err != nil {
			return err
		}
	}
	n.processes[s.doomed()].mislead()
	rest := slices.DeleteFunc(n.replicas(), func(id string) bool { return id == leader })
	o := &operator{network: n, say: s.say}
	err := o.until(ctx, "nothing is certified any more", func(ctx context.Context) error {
		if lied, err := p.ask("count equivocate"); err != nil || lied == 0 {
			return errors.Join(errors.New("the leader has not lied yet"), err)
		}
		for _, id := range rest {
			call, cancel := context.WithTimeout(ctx, readTimeout)
			status, err := s.replicas[id].GetStatus(call, &ledgerv1.GetStatusRequest{})
			cancel()
			if err != nil {
				return err
			}
			if status.GetAppliedHeight() < status.GetCertifiedHeight()+2 {
				return fmt.Errorf("%s has applied block %d and certified %d", id, status.GetAppliedHeight(), status.GetCertifiedHeight())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.kill()
	r, err := o.recover(ctx, rest)
	if err != nil {
		return err
	}
	if len(r.continued) == 0 || !slices.Contains(r.anew, s.doomed()) || !slices.Contains(r.refused, s.doomed()) {
		return fmt.Errorf("%s was given other entries, and is not the one that is not continued: %s", s.doomed(), r)
	}
	s.recovered = r
	return o.retired(ctx, leader)
}

// standstill is how long beside liars everything may go unanswered, after all was
// healed, before root keys continue the ledger.
const standstill = 30 * time.Second

// mayNeedRootKeys waits until all is answered. If it is not, an equivocating leader
// and a death have left replicas with blocks that exclude each other, and so rule
// C8 is for it: liveness may be lost beside a liar, safety never.
func (s *striker) mayNeedRootKeys(ctx context.Context, answered <-chan struct{}) error {
	timer := time.NewTimer(standstill)
	defer timer.Stop()
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
	}
	if !s.told["equivocate"] {
		return nil // nothing excuses it
	}
	s.network.changing.Store(true)
	o := &operator{network: s.network, say: s.say}
	r, err := o.recover(ctx, s.network.good())
	s.recovered = r
	return err
}

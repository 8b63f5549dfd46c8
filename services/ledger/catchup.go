package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
)

const (
	// fetchAbove is how many blocks a replica may lack and still leave them to
	// the ordering engine, whose log keeps more entries than that.
	fetchAbove = 1024
	// patientAsks is how often a replica asks in vain before it takes its own
	// configuration for an old one; also how often the wait is logged.
	patientAsks = 40
)

// place is a certified block and the ordering index of its entry.
type place struct{ height, index uint64 }

// lacking is what this replica should fetch before it takes part in the
// ordering. One that is of the configuration that it knows, and lacks little,
// fetches nothing: the ordering engine brings it. One that holds blocks without raw
// vectors fetches on until it holds the decision that let them go.
func (s *Service) lacking(config *state.Config, past past, answers map[string]*replicav1.PositionResponse, asked int, owes bool) (place, bool) {
	to, ok := furthest(answers)
	head := s.machine.Head().Block.Height
	if !ok || to.height <= head {
		return place{}, false
	}
	member := config.Replica(s.config.NodeID) != nil && !dismissed(answers, (len(config.Message.GetReplicas())-1)/3)
	outdated := owes || head == 0 || s.alone || !member || s.machine.Restoring() || past.heard < past.needed && asked > patientAsks
	return to, outdated || to.height-head > fetchAbove
}

// furthest is the certified place that most answers name, of these the highest.
func furthest(answers map[string]*replicav1.PositionResponse) (best place, ok bool) {
	votes := make(map[place]int)
	for _, a := range answers {
		if a.GetCertifiedIndex() > 0 {
			votes[place{a.GetCertifiedHeight(), a.GetCertifiedIndex()}]++
		}
	}
	for p, n := range votes {
		if !ok || n > votes[best] || n == votes[best] && p.height > best.height {
			best, ok = p, true
		}
	}
	return best, ok
}

// dismissed tells whether more than f replicas say that their configuration does
// not name this one.
func dismissed(answers map[string]*replicav1.PositionResponse, f int) bool {
	without := 0
	for _, a := range answers {
		if !a.GetMember() {
			without++
		}
	}
	return without > f
}

// catchUp fetches the blocks up to a place. What fails on the way to the peers
// is tried again with a place of then; the error is this replica's own.
func (s *Service) catchUp(ctx context.Context, to place) error {
	s.alone = false // if it fails, the ordering engine may still bring what is missing
	err := s.machine.CatchUp(ctx, to.height, to.index)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case reason.Of(dataLoss(err)) == reason.DataLoss:
		return err
	}
	s.log.WarnContext(ctx, "the blocks that are missing here could not all be fetched; trying again", "height", s.machine.Head().Block.Height, "to", to.height, "error", err)
	select {
	case <-time.After(askInterval):
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), err)
	}
}

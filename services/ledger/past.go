package ledger

import (
	"context"
	"time"

	"github.com/lacre-metrology/lacre/core/state"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
)

// askPast is rule C7: before this replica signs anything it hears n-F replicas,
// itself among them. If one of them holds a cosignature of ours above our own
// lock, our disk is an old one, and we sign nothing up to the highest applied
// height plus what may lie uncertified above it. A lock that covers all that the
// others hold needs no such quiet. A replica that lacks much first fetches it:
// then it asks those who are replicas today.
//
// Known hole: an answer is believed without proof, so one lying replica can
// keep a starting one quiet.
func (s *Service) askPast(ctx context.Context) error {
	for asked := 1; ; asked++ {
		config, err := state.GetConfig(s.store)
		if err != nil {
			return err
		}
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		answers, failures := s.peers.Positions(asking, func(answers map[string]*replicav1.PositionResponse) bool {
			past := pastOf(config, s.config.NodeID, answers)
			return past.heard >= past.needed
		}, askPatience)
		cancel()
		past := pastOf(config, s.config.NodeID, answers)
		owes, err := s.store.Owes()
		if err != nil {
			return err
		}
		if to, ok := s.lacking(config, past, answers, asked, owes); ok {
			if err := s.catchUp(ctx, to); err != nil {
				return err
			}
			continue
		}
		if past.heard >= past.needed && !owes {
			lock := s.store.Lock()
			past.seen = max(past.seen, s.collector.Seen(s.signer.Name())) // in certificates that were fetched
			first := past.signFrom(lock.Height, s.machine.Head())
			if first > 0 {
				s.log.WarnContext(ctx, "this replica's disk is older than its past; it keeps quiet",
					"lock", lock.Height, "seen", past.seen, "signs_from", first)
			}
			s.signer.SignFrom(first)
			return nil
		}
		if asked%patientAsks == 1 {
			s.log.InfoContext(ctx, "waiting for other replicas before signing", "answers", past.heard, "needed", past.needed, "error", failures)
		}
		select {
		case <-time.After(askInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// past is what other replicas of the configuration know of this one.
type past struct {
	heard, needed int
	applied, seen uint64
}

func pastOf(config *state.Config, self string, answers map[string]*replicav1.PositionResponse) past {
	n := len(config.Message.GetReplicas())
	p := past{needed: n - (n-1)/3}
	if config.Replica(self) != nil {
		p.heard = 1
	}
	for id, a := range answers {
		if config.Replica(id) == nil || id == self {
			continue // anybody can be registered as a replica; the configuration's count
		}
		p.heard++
		p.applied, p.seen = max(p.applied, a.GetAppliedHeight()), max(p.seen, a.GetSeenHeight())
	}
	return p
}

// signFrom is the lowest height that may be signed on top of a lock.
func (p past) signFrom(lock uint64, head fsm.Head) uint64 {
	if p.seen <= lock {
		return 0
	}
	return max(p.applied, p.seen, head.Block.Height) + uint64(head.MaxUncertified) + 1
}

package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/daemon"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/registry"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
)

// ErrRemoved is how a replica ends that a certified configuration does not name
// any more. Its directory stays as it is.
var ErrRemoved = daemon.Retired("the certified configuration does not name this replica any more")

// errPassedOver ends a replica that the ordering engine goes on without: it was cut
// off while it was removed, or while one that it does not know joined and came to
// lead. Nobody brings it the blocks that say so any more. Opened again, it fetches
// them.
var errPassedOver = errors.New("the others go on without this replica, by blocks that it does not have")

// solitudeBound is how long a replica may know no leader before it asks the others
// whether it is still one of theirs, each time anew.
const solitudeBound = 5 * time.Second

// solitude measures how long nobody has led.
type solitude struct {
	bound time.Duration
	since time.Time // zero while somebody leads
}

func newSolitude(bound time.Duration) *solitude { return &solitude{bound: bound} }

// long tells that it lasts long, once for each bound.
func (s *solitude) long(led bool, now time.Time) bool {
	switch {
	case led:
		s.since = time.Time{}
	case s.since.IsZero():
		s.since = now
	case now.Sub(s.since) >= s.bound:
		s.since = now
		return true
	}
	return false
}

// passedOver tells whether the others go on without this replica, by what they say.
func (s *Service) passedOver(ctx context.Context) bool {
	config, err := state.GetConfig(s.store)
	if err != nil {
		return false
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answers, _ := s.peers.Positions(asking, nil, 0) // who does not answer says nothing
	why := goOnWithout(config, s.config.NodeID, s.machine.Head().Block.Height, answers)
	if why != "" {
		s.log.WarnContext(ctx, "nobody leads this replica, and the others go on; it begins again, and fetches", "because", why)
	}
	return why != ""
}

// goOnWithout tells why more replicas than may lie go on without this one: their
// configuration does not name it, though the one here does, or they have certified
// what it does not have and the next start can fetch; "" if they do not. Only the replicas of the configuration
// here count, and what they say decides nothing but that this one looks for itself.
func goOnWithout(config *state.Config, self string, head uint64, answers map[string]*replicav1.PositionResponse) string {
	if config.Replica(self) == nil {
		return ""
	}
	count := make(map[string]*replicav1.PositionResponse)
	ahead := 0
	for id, a := range answers {
		if config.Replica(id) == nil || id == self {
			continue
		}
		count[id] = a
		if a.GetCertifiedHeight() > head {
			ahead++
		}
	}
	f := (len(config.Message.GetReplicas()) - 1) / 3
	to, fetchable := furthest(count) // what the next start will fetch up to
	switch {
	case dismissed(count, f):
		return fmt.Sprintf("their configuration does not name it, number %d, which it has, does", config.Message.GetHeader().GetSequence())
	case ahead > f && fetchable && to.height > head:
		return fmt.Sprintf("%d have certified blocks above %d, its newest", ahead, head)
	}
	return ""
}

// runOrdering answers rule C7, then orders until ctx ends.
func (s *Service) runOrdering(ctx context.Context) error {
	if err := s.askPast(ctx); err != nil {
		return errors.Join(err, s.raft.Close())
	}
	if err := s.machine.Resume(ctx); err != nil {
		return errors.Join(err, s.raft.Close())
	}
	if gone, err := s.removed(); err != nil || gone {
		if gone {
			err = s.farewell(ctx)
		}
		return errors.Join(err, s.raft.Close())
	}
	timing := raft.LAN()
	if s.config.Loopback {
		timing = raft.Loopback()
	}
	config := raft.Config{
		NodeID: s.config.NodeID, Dir: s.config.raftDir(), Listener: s.raft, Applier: s.machine, Resolve: s.resolve,
		TLS: raft.PeerTLS{
			ServerConfig: s.node.MutualTLS(identity.Registered(s.registry, identity.RoleReplica)),
			ClientConfig: func(id string) *tls.Config { return s.node.ClientTLS(registry.Node(s.registry, id)) },
			PeerID:       s.peerID,
		},
		Fatal:  s.hang,
		Logger: s.log, Timing: timing,
	}
	if s.tune != nil {
		s.tune(&config)
	}
	engine, err := raft.Open(ctx, config)
	if err != nil {
		return err
	}
	s.order.engine.Store(engine)
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	var following sync.WaitGroup
	following.Go(func() { end(s.followConfiguration(running, engine)) })
	err = engine.Run(running)
	end(nil)
	following.Wait()
	for _, cause := range []error{ErrRemoved, errPassedOver} {
		if errors.Is(context.Cause(running), cause) {
			return errors.Join(cause, err)
		}
	}
	return err
}

// followConfiguration makes Raft's members follow the certified configuration
// (rule C6), and ends connections of replicas that are registered no more (R5).
// It returns ErrRemoved once the configuration and the engine go without this
// replica, and errPassedOver once they seem to.
func (s *Service) followConfiguration(ctx context.Context, engine *raft.Engine) error {
	var admin digest.Digest
	var joining []string
	var leave time.Time // zero while this replica is not removed
	alone := newSolitude(s.solitude)
	for {
		changed := s.collector.Changed()
		if _, led := engine.Leader(); alone.long(led, time.Now()) && s.passedOver(ctx) {
			return errPassedOver
		}
		if now := s.collector.Newest().Block.Admin; now != admin {
			admin = now
			engine.Recheck()
			var err error
			if joining, err = s.joining(); err != nil {
				s.log.ErrorContext(ctx, "the registrations cannot be read", "error", err)
			}
		}
		if engine.IsLeader() {
			if err := s.applyMembers(ctx, engine, joining); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "the ordering engine's members do not follow the configuration yet", "error", err)
			}
		}
		if gone, err := s.removed(); err == nil && gone && !engine.IsLeader() {
			if leave.IsZero() {
				leave = time.Now().Add(leaveTimeout)
			}
			// While the others still count on it, its word may be what they lack.
			if among := slices.ContainsFunc(engine.Members(), s.isSelf); !among || time.Now().After(leave) {
				return s.farewell(ctx)
			}
		}
		select {
		case <-changed:
		case <-time.After(refreshInterval):
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) isSelf(m ordering.Member) bool { return m.ID == s.config.NodeID }

// leaveTimeout is how long a removed replica stays that does not learn that the
// ordering engine goes without it.
const leaveTimeout = 30 * time.Second

// farewell logs why this replica ends.
func (s *Service) farewell(ctx context.Context) error {
	config, err := state.GetConfig(s.store)
	if err != nil {
		return err
	}
	s.log.WarnContext(ctx, "this replica is removed and stops for good; its directory can be audited and kept",
		"configuration", config.Message.GetHeader().GetSequence(), "block", config.Height)
	return ErrRemoved
}

// removed tells whether a certified configuration goes without this replica,
// which has cosigned before and is not registered anew.
func (s *Service) removed() (bool, error) {
	config, err := s.certifiedConfig()
	if err != nil || config == nil || config.Replica(s.config.NodeID) != nil || s.store.Lock().IsZero() {
		return false, err
	}
	joining, err := s.joining()
	return !slices.Contains(joining, s.config.NodeID), err
}

// certifiedConfig is the configuration in force; nil while it is not certified.
func (s *Service) certifiedConfig() (*state.Config, error) {
	config, err := state.GetConfig(s.store)
	if err != nil || config.Height > s.collector.Newest().Block.Height {
		return nil, err
	}
	return config, nil
}

// joining lists the replicas that wait for a configuration that names them:
// registered, not revoked, and registered since the configuration in force, which
// otherwise passed them over, or removed them. They are members of the ordering
// without a vote, so that they hold the block of their configuration and can
// cosign it.
func (s *Service) joining() ([]string, error) {
	config, err := s.certifiedConfig()
	if err != nil || config == nil {
		return nil, err
	}
	since, _, err := s.store.Block(config.Height)
	if err != nil {
		return nil, err
	}
	certified := s.collector.Newest().Block.Size
	var registered, ids []string
	err = s.store.Scan([]byte(state.PrefixNode), nil, func(key, _ []byte) bool {
		registered = append(registered, strings.TrimPrefix(string(key), state.PrefixNode))
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, id := range registered {
		node, err := state.GetNode(s.store, id)
		if err != nil {
			return nil, err
		}
		at := node.GetRegistrationIndex()
		if node.GetRole() == int32(recordv1.Role_ROLE_REPLICA) && !node.GetRevoked() && at >= since.Size && at < certified &&
			config.Replica(id) == nil && config.Organisation(node.GetOrganisation()) != nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// applyMembers gives a vote to the configuration's replicas, and a place without
// one to those that are joining and have an address here. One that has its place
// keeps it when another configuration comes first.
func (s *Service) applyMembers(ctx context.Context, engine *raft.Engine, joining []string) error {
	config, err := state.GetConfig(s.store)
	if err != nil {
		return err
	}
	present := engine.Members()
	find := func(in []ordering.Member, id string) bool {
		return slices.ContainsFunc(in, func(m ordering.Member) bool { return m.ID == id })
	}
	var wanted []ordering.Member
	if config.Height > s.collector.Newest().Block.Height {
		// It is not certified yet: nobody goes and nobody gets a vote, but its new
		// replicas get the block, because their cosignatures may be what it lacks.
		wanted = slices.Clone(present)
		for _, m := range members(config) {
			joining = append(joining, m.ID)
		}
	} else {
		wanted = members(config)
		for _, m := range present {
			if m.Voter || find(wanted, m.ID) {
				continue
			}
			stays, err := s.mayWait(config, m.ID)
			if err != nil {
				return err
			}
			if stays {
				wanted = append(wanted, m)
			}
		}
	}
	for _, id := range joining {
		if _, err := s.resolve(id); err == nil && !find(wanted, id) {
			wanted = append(wanted, ordering.Member{ID: id})
		}
	}
	slices.SortFunc(wanted, func(a, b ordering.Member) int { return strings.Compare(a.ID, b.ID) })
	if slices.Equal(present, wanted) {
		return nil
	}
	s.log.InfoContext(ctx, "changing the members of the ordering engine", "from", present, "to", wanted)
	changing, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	return engine.SetMembers(changing, wanted)
}

// mayWait tells whether a member without a vote keeps its place: it is registered,
// and the last change of configuration did not remove it.
func (s *Service) mayWait(config *state.Config, id string) (bool, error) {
	before := state.Config{Message: config.Previous}
	if config.Previous != nil && before.Replica(id) != nil {
		return false, nil
	}
	node, err := state.GetNode(s.store, id)
	return err == nil && node != nil && !node.GetRevoked() && node.GetRole() == int32(recordv1.Role_ROLE_REPLICA), err
}

// hang ends the process when a write to the disk takes longer than it may.
func (s *Service) hang(err error) {
	s.log.Error("the disk hangs; ending the process", "error", err)
	os.Exit(3) //nolint:forbidigo // rule R3: whatever tidies up would hang on the same disk.
}

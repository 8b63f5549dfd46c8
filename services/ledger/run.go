package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/registry"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
)

const (
	askInterval     = 250 * time.Millisecond
	askTimeout      = 2 * time.Second
	refreshInterval = time.Second // rule C2: the newest cosignature, each second when idle
	watchInterval   = 200 * time.Millisecond
	memberTimeout   = 20 * time.Second // then the configuration is read again: it may have changed
	staleAfter      = 30 * time.Second // a certified time older than this means: not following
)

// lateOrder is the ordering engine, which starts only after rule C7 is
// answered; until then nobody leads.
type lateOrder struct{ engine atomic.Pointer[raft.Engine] }

func (o *lateOrder) IsLeader() bool {
	e := o.engine.Load()
	return e != nil && e.IsLeader()
}

func (o *lateOrder) Leader() (string, bool) {
	if e := o.engine.Load(); e != nil {
		return e.Leader()
	}
	return "", false
}

func (o *lateOrder) Propose(ctx context.Context, entry []byte) ordering.Proposal {
	e := o.engine.Load()
	if e == nil {
		return nobodyLeads{}
	}
	return e.Propose(ctx, entry)
}

// nobodyLeads is the fate of a proposal before the engine runs.
type nobodyLeads struct{}

func (nobodyLeads) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func (nobodyLeads) Wait(context.Context) (ordering.Applied, error) {
	return ordering.Applied{}, &ordering.NotLeaderError{}
}

// runOrdering answers rule C7, then orders until ctx ends.
func (s *Service) runOrdering(ctx context.Context) error {
	if err := s.askPast(ctx); err != nil {
		return errors.Join(err, s.raft.Close())
	}
	if err := s.machine.Resume(ctx); err != nil {
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
		Fatal: func(err error) {
			s.log.Error("the ordering log hangs; ending the process", "error", err)
			os.Exit(3) //nolint:forbidigo // rule R3: whatever tidies up would hang on the same disk.
		},
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
	following, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.followConfiguration(following, engine) })
	defer running.Wait()
	defer cancel()
	return engine.Run(ctx)
}

func (s *Service) resolve(id string) (string, error) {
	for _, p := range s.config.Peers {
		if p.NodeID == id {
			return p.RaftAddress, nil
		}
	}
	return "", fmt.Errorf("replica %q has no address in this node's configuration", id)
}

func (s *Service) peerID(connection tls.ConnectionState) (string, bool) {
	spki, ok := identity.PeerSPKI(connection)
	if !ok {
		return "", false
	}
	peer, ok := s.registry.Role(spki)
	return peer.ID, ok && peer.Role == identity.RoleReplica
}

// askPast is rule C7: before this replica signs anything it hears n-F replicas,
// itself among them. If one of them holds a cosignature of ours above our own
// lock, our disk is an old one, and we sign nothing up to the highest applied
// height plus what may lie uncertified above it. A lock that covers all that the
// others hold needs no such quiet.
//
// Known hole: an answer is believed without proof, so one lying replica can
// keep a starting one quiet.
func (s *Service) askPast(ctx context.Context) error {
	config, err := state.GetConfig(s.store)
	if err != nil {
		return err
	}
	for {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		past := pastOf(config, s.config.NodeID, s.peers.Positions(asking))
		cancel()
		if past.heard >= past.needed {
			lock := s.store.Lock()
			first := past.signFrom(lock.Height, s.machine.Head())
			if first > 0 {
				s.log.WarnContext(ctx, "this replica's disk is older than its past; it keeps quiet",
					"lock", lock.Height, "seen", past.seen, "signs_from", first)
			}
			s.signer.SignFrom(first)
			return nil
		}
		s.log.InfoContext(ctx, "waiting for other replicas before signing", "answers", past.heard, "needed", past.needed)
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

// followConfiguration makes Raft's voters follow the certified configuration
// (rule C6), and ends connections of replicas that are registered no more (R5).
func (s *Service) followConfiguration(ctx context.Context, engine *raft.Engine) {
	var admin digest.Digest
	for {
		changed := s.collector.Changed()
		if now := s.collector.Newest().Block.Admin; now != admin {
			admin = now
			engine.Recheck()
		}
		if engine.IsLeader() {
			if err := s.applyMembers(ctx, engine); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "the ordering engine's members do not follow the configuration yet", "error", err)
			}
		}
		select {
		case <-changed:
		case <-time.After(refreshInterval):
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) applyMembers(ctx context.Context, engine *raft.Engine) error {
	config, err := state.GetConfig(s.store)
	if err != nil {
		return err
	}
	if config.Height > s.collector.Newest().Block.Height {
		return nil // not certified yet
	}
	wanted := members(config)
	slices.SortFunc(wanted, func(a, b ordering.Member) int { return strings.Compare(a.ID, b.ID) })
	if slices.Equal(engine.Members(), wanted) {
		return nil
	}
	changing, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	return engine.SetMembers(changing, wanted)
}

// refresher holds this replica's newest cosignature.
type refresher struct{ newest atomic.Pointer[stamped] }

type stamped struct {
	certify.Signed
	at time.Time
}

func (r *refresher) signed(s certify.Signed) { r.newest.Store(&stamped{Signed: s, at: time.Now()}) }

// refresh signs the newest checkpoint again each second when nothing new came,
// so that block time goes on when the ledger is idle (rules C2 and C4).
func (s *Service) refresh(ctx context.Context) error {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		newest := s.idle.newest.Load()
		if newest == nil || time.Since(newest.at) < refreshInterval/2 {
			continue
		}
		again, err := s.signer.Refresh(newest.Signed)
		if err != nil {
			return err
		}
		if again == nil {
			continue // rule C7 is not answered, or keeps this replica quiet
		}
		if !s.idle.newest.CompareAndSwap(newest, &stamped{Signed: *again, at: time.Now()}) {
			continue // a block came in between
		}
		if err := s.collector.Refreshed(*again); err != nil {
			return err
		}
		s.broadcast(*again)
	}
}

// watch makes readiness mean "follows the certified height", and ends the replica
// once it is certified that the network goes on with a version that this build
// does not know (docs/adr/0008).
func (s *Service) watch(ctx context.Context) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	ready := false
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		certified := s.collector.Newest()
		outdated := state.CheckVersion(s.store)
		if head := s.machine.Head(); reason.Of(outdated) == reason.UnsupportedVersion && certified.Block.Height >= head.Block.Height {
			return outdated
		} else if outdated != nil && reason.Of(outdated) != reason.UnsupportedVersion {
			return outdated
		}
		_, led := s.order.Leader()
		age := s.clock().Sub(time.Unix(0, certifiedUnixNano(s.collector.Fresh())))
		now := outdated == nil && led && len(certified.Text) > 0 && age < staleAfter
		if now != ready {
			ready = now
			s.server.SetServing(ledgerv1.LedgerService_ServiceDesc.ServiceName, ready)
			s.log.InfoContext(ctx, "readiness changed", "ready", ready, "certified", certified.Block.Height)
		}
	}
}

func certifiedUnixNano(c certify.Certified) int64 {
	seconds := certify.Time(c.Text)
	if seconds > math.MaxInt64/1_000_000_000 {
		return math.MaxInt64
	}
	return int64(seconds) * 1_000_000_000
}

// fetch brings missing blocks from the peers, for a replica that fell behind
// the ordering log.
func (s *Service) fetch(ctx context.Context, from func() uint64, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	return s.peers.Fetch(ctx, from, to, take)
}

package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/registry"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
)

const (
	askInterval     = 250 * time.Millisecond
	askTimeout      = 2 * time.Second
	refreshInterval = time.Second // rule C2: the newest cosignature, each second when idle
	watchInterval   = 200 * time.Millisecond
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
	return o.engine.Load().Propose(ctx, entry) // the cutter asks IsLeader first
}

// runOrdering answers rule C7, then orders until ctx ends.
func (s *Service) runOrdering(ctx context.Context) error {
	if err := s.askPast(ctx); err != nil {
		return errors.Join(err, s.raft.Close())
	}
	timing := raft.LAN()
	if s.config.Loopback {
		timing = raft.Loopback()
	}
	engine, err := raft.Open(ctx, raft.Config{
		NodeID: s.config.NodeID, Dir: s.config.raftDir(), Listener: s.raft, Applier: s.machine, Resolve: s.resolve,
		TLS: raft.PeerTLS{
			ServerConfig: s.node.MutualTLS(identity.Registered(s.registry, identity.RoleReplica)),
			ClientConfig: func(id string) *tls.Config { return s.node.ClientTLS(registry.Node(s.registry, id)) },
			PeerID:       s.peerID,
		},
		Fatal:  func(err error) { s.log.Error("the ordering log hangs; ending the process", "error", err); os.Exit(3) },
		Logger: s.log, Timing: timing,
	})
	if err != nil {
		return err
	}
	s.order.engine.Store(engine)
	go s.followConfiguration(ctx, engine)
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
func (s *Service) askPast(ctx context.Context) error {
	config, err := state.GetConfig(s.store)
	if err != nil {
		return err
	}
	n := len(config.Message.GetReplicas())
	needed := n - (n-1)/3 - 1 // without ourselves
	for {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		answers := s.peers.Positions(asking)
		cancel()
		if len(answers) >= needed {
			lock := s.signer.Lock()
			var applied, seen uint64
			for _, a := range answers {
				applied, seen = max(applied, a.GetAppliedHeight()), max(seen, a.GetSeenHeight())
			}
			if seen > lock.Height {
				quiet := applied + uint64(config.Message.GetLimits().GetMaxUncertifiedBlocks())
				s.log.WarnContext(ctx, "this replica's disk is older than its past; it keeps quiet",
					"lock", lock.Height, "seen", seen, "until", quiet)
				s.signer.KeepQuiet(quiet)
			}
			return nil
		}
		s.log.InfoContext(ctx, "waiting for other replicas before signing", "answers", len(answers), "needed", needed)
		select {
		case <-time.After(askInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// followConfiguration makes Raft's voters follow the certified configuration (rule C6).
func (s *Service) followConfiguration(ctx context.Context, engine *raft.Engine) {
	for {
		changed := s.collector.Changed()
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
	want := make(map[string]bool)
	var members []ordering.Member
	for _, r := range config.Message.GetReplicas() {
		want[r.GetNodeId()] = true
		members = append(members, ordering.Member{ID: r.GetNodeId(), Voter: true})
	}
	have := engine.Members()
	same := len(have) == len(members)
	for _, m := range have {
		same = same && m.Voter && want[m.ID]
	}
	if same {
		return nil
	}
	return engine.SetMembers(ctx, members)
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
		if !s.idle.newest.CompareAndSwap(newest, &stamped{Signed: *again, at: time.Now()}) {
			continue // a block came in between
		}
		if err := s.collector.Refreshed(*again); err != nil {
			return err
		}
		s.peers.Broadcast(*again)
	}
}

// watch makes readiness mean "follows the certified height".
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
		_, led := s.order.Leader()
		age := time.Since(time.Unix(0, certifiedUnixNano(s.collector.Fresh())))
		now := led && len(certified.Text) > 0 && age < 30*time.Second
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
func (s *Service) fetch(ctx context.Context, from, to uint64, take func(*replicav1.FetchBlocksResponse) error) error {
	if s.peers == nil {
		return reason.New(reason.NotReady, "peers are not open yet")
	}
	return s.peers.Fetch(ctx, from, to, take)
}

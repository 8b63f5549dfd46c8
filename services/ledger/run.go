package ledger

import (
	"context"
	"crypto/tls"
	"math"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
)

const (
	askInterval     = 250 * time.Millisecond
	askTimeout      = 2 * time.Second
	askPatience     = askInterval // for more answers than rule C7 needs
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

func (o *lateOrder) LeaderChanges() (<-chan struct{}, func()) {
	if e := o.engine.Load(); e != nil {
		return e.LeaderChanges()
	}
	return nil, func() {} // nobody is forwarded to before the engine runs
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

func (s *Service) peerID(connection tls.ConnectionState) (string, bool) {
	spki, ok := identity.PeerSPKI(connection)
	if !ok {
		return "", false
	}
	peer, ok := s.registry.Role(spki)
	return peer.ID, ok && peer.Role == identity.RoleReplica
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
		fresh := s.collector.Fresh()
		within := s.watchClock(ctx, fresh.Text)
		age := s.clock().Sub(time.Unix(0, certifiedUnixNano(fresh)))
		now := outdated == nil && within && led && len(certified.Text) > 0 && age < staleAfter
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

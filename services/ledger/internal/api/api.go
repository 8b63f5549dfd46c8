// Package api is the ledger over gRPC: LedgerService for everybody,
// ReplicaService for the other replicas.
//
// Source: proto/lacre/ledger/v1 and proto/lacre/replica/v1; architecture, rules
// C3, C7 and N1.
//
// Invariants:
//   - No answer that depends on a block leaves before that block is certified,
//     DUPLICATE included (C3): a handler reads only leaves below the certified
//     size, or it waits for the certificate of all that it may have read.
//   - Damaged bytes are never served: the first that is found ends all service.
//   - Sizes are checked before anything is decoded, and pages are bounded.
package api

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/tracing"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/peers"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Leadership is the ordering engine, as the servers see it.
type Leadership interface {
	Leader() (nodeID string, ok bool)
	IsLeader() bool
	// LeaderChanges gives a token whenever either may have changed; stop ends that.
	LeaderChanges() (changes <-chan struct{}, stop func())
}

// Config is what the servers are made of.
type Config struct {
	NodeID       string
	NetworkID    digest.Digest
	Origin       string
	Signer       crypto.Signer // the node's registered key: signs events
	Store        *storage.Store
	Certificates *certify.Archive
	Collector    *certify.Collector
	Machine      *fsm.Machine
	Cutter       *propose.Cutter
	Order        Leadership
	Peers        *peers.Peers
	Cache        *signature.Cache
	Fatal        func(error) // ends the node: its disk is damaged
	Log          *slog.Logger

	// Ordered and Certified are told how long a submission that this replica led took to be applied here, and then to be
	// certified; they decide nothing and may be nil.
	Ordered, Certified func(took time.Duration)

	Traces *tracing.Traces // nil when they are off
}

// Server implements LedgerService.
type Server struct {
	ledgerv1.UnimplementedLedgerServiceServer
	Config
	guard    *guard
	followed followed
}

// Replica implements ReplicaService.
type Replica struct {
	replicav1.UnimplementedReplicaServiceServer
	server *Server
}

// New makes both servers.
func New(c Config) (*Server, *Replica) {
	s := &Server{Config: c, guard: newGuard(c.Fatal)}
	return s, &Replica{server: s}
}

// Register puts both services on a gRPC server.
func Register(on grpc.ServiceRegistrar, s *Server, r *Replica) {
	on.RegisterService(s.guard.wrap(ledgerv1.LedgerService_ServiceDesc), s)
	on.RegisterService(s.guard.wrap(replicav1.ReplicaService_ServiceDesc), r)
}

// Stop takes no submission in any more, waits until those that came are answered
// or ctx ends, and lets go of every call that still waits, streams included.
func (s *Server) Stop(ctx context.Context) { s.guard.stop(ctx) }

// certifiedVisible waits until everything is certified that the handler may
// have read so far (rule C3).
func (s *Server) certifiedVisible(ctx context.Context) (certify.Certified, error) {
	return s.Collector.Wait(ctx, s.Machine.Visible())
}

// covering is the first certificate at or above the block of a leaf.
func (s *Server) covering(index uint64) (*tlog.Certificate, error) {
	height, err := s.Store.HeightOf(index)
	if errors.Is(err, storage.ErrNotStored) {
		return nil, reason.New(reason.NotFound, "record %d is not on the ledger: %v", index, err)
	}
	if err != nil {
		return nil, err
	}
	return s.certificateFrom(height)
}

func (s *Server) certificateFrom(height uint64) (*tlog.Certificate, error) {
	certified, ok, err := s.Certificates.From(height)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, reason.New(reason.NotCertified, "block %d is not certified yet; the newest certified is %d", height, s.Collector.Newest().Block.Height)
	}
	return s.presentable(certified)
}

// receipt builds the receipt of a certified leaf.
func (s *Server) receipt(index uint64) ([]byte, error) {
	certificate, err := s.covering(index)
	if err != nil {
		return nil, err
	}
	return s.receiptUnder(index, certificate)
}

func (s *Server) receiptUnder(index uint64, certificate *tlog.Certificate) ([]byte, error) {
	record, path, err := s.proven(index, certificate)
	if err != nil {
		return nil, err
	}
	return receipt.Build(record, index, path, certificate)
}

func (s *Server) proven(index uint64, certificate *tlog.Certificate) ([]byte, []digest.Digest, error) {
	record, err := s.Store.Record(index)
	if err != nil {
		return nil, nil, err
	}
	path, err := tlog.InclusionProof(s.Store, index, certificate.Checkpoint.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("inclusion proof of record %d: %w", index, err)
	}
	return record, path, nil
}

// locate finds a certified measurement.
func (s *Server) locate(key *ledgerv1.MeasurementKey) (uint64, error) {
	if err := record.CheckID(key.GetMeterId()); err != nil {
		return 0, err
	}
	certified := s.Collector.Newest().Block
	index, ok, err := state.IndexOf(s.Store, key.GetMeterId(), key.GetCounter())
	if err != nil {
		return 0, err
	}
	if !ok || index >= certified.Size {
		return 0, reason.New(reason.NotFound, "counter %d of meter %q is not on the ledger up to block %d", key.GetCounter(), key.GetMeterId(), certified.Height)
	}
	return index, nil
}

func bytesOf(path []digest.Digest) [][]byte {
	out := make([][]byte, len(path))
	for i := range path {
		out[i] = path[i].Bytes()
	}
	return out
}

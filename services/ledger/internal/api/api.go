// Package api is the ledger over gRPC: LedgerService for everybody,
// ReplicaService for the other replicas.
//
// Source: proto/lacre/ledger/v1 and proto/lacre/replica/v1; architecture, rules
// C3, C7 and N1.
//
// Invariants:
//   - No answer that depends on a block leaves before that block is certified,
//     DUPLICATE included (C3): every handler that read the state waits for the
//     certificate of the head that it may have read.
//   - Sizes are checked before anything is decoded, and pages are bounded.
package api

import (
	"context"
	"crypto"
	"fmt"
	"log/slog"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
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
	Log          *slog.Logger
}

// Server implements LedgerService.
type Server struct {
	ledgerv1.UnimplementedLedgerServiceServer
	Config
}

// Replica implements ReplicaService.
type Replica struct {
	replicav1.UnimplementedReplicaServiceServer
	server *Server
}

// New makes both servers.
func New(c Config) (*Server, *Replica) {
	s := &Server{Config: c}
	return s, &Replica{server: s}
}

// certifiedHead waits until what was readable when the handler began is certified.
func (s *Server) certifiedHead(ctx context.Context) (certify.Certified, error) {
	return s.Collector.Wait(ctx, s.Machine.Head().Block.Height)
}

// covering is the first certificate at or above a block.
func (s *Server) covering(index uint64) (*tlog.Certificate, error) {
	height, err := s.Store.HeightOf(index)
	if err != nil {
		return nil, reason.New(reason.NotFound, "record %d is not on the ledger: %v", index, err)
	}
	certified, ok, err := s.Certificates.From(height)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, reason.New(reason.NotCertified, "record %d is in block %d, which is not certified yet", index, height)
	}
	return tlog.ParseCertificate(certified.Note)
}

// receipt builds the receipt of a certified leaf.
func (s *Server) receipt(index uint64) ([]byte, error) {
	certificate, err := s.covering(index)
	if err != nil {
		return nil, err
	}
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
func (s *Server) locate(ctx context.Context, key *ledgerv1.MeasurementKey) (uint64, error) {
	certified, err := s.certifiedHead(ctx)
	if err != nil {
		return 0, err
	}
	index, ok, err := state.IndexOf(s.Store, key.GetMeterId(), key.GetCounter())
	if err != nil {
		return 0, err
	}
	if !ok || index >= certified.Block.Size {
		return 0, reason.New(reason.NotFound, "counter %d of meter %q is not on the ledger up to block %d", key.GetCounter(), key.GetMeterId(), certified.Block.Height)
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

// Package api is ComputeService over gRPC: limits first, then the endorser.
//
// Source: proto/lacre/compute/v1; the paper, section VI-E, attack 2 (an endorser
// refuses a module that no approval names, and records the attempt).
package api

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/sandbox/profile"
	"github.com/lacre-metrology/lacre/services/compute/internal/endorse"
	"github.com/lacre-metrology/lacre/services/compute/internal/modules"
)

// maxQueued bounds the samples that wait or are computed at one time.
const maxQueued = 4 * record.MaxClaims

// Ledger is the certified ledger, as compute sees it.
type Ledger interface {
	Snapshot() (*follower.Snapshot, error)
	Report(ctx context.Context, signer crypto.Signer, report *recordv1.EventReport) error
}

// Server implements ComputeService.
type Server struct {
	computev1.UnimplementedComputeServiceServer
	ledger   Ledger
	endorser *endorse.Endorser
	modules  *modules.Modules
	log      *slog.Logger
	queue    *semaphore.Weighted
}

// New makes the server.
func New(ledger Ledger, endorser *endorse.Endorser, held *modules.Modules, log *slog.Logger) *Server {
	return &Server{ledger: ledger, endorser: endorser, modules: held, log: log, queue: semaphore.NewWeighted(maxQueued)}
}

// Endorse runs the approved module on each sample and signs the batch.
func (s *Server) Endorse(_ context.Context, request *computev1.EndorseRequest) (*computev1.EndorseResponse, error) {
	n := len(request.GetSamples())
	if n == 0 || n > record.MaxClaims {
		return nil, reason.New(reason.Malformed, "%d samples, want 1 to %d", n, record.MaxClaims)
	}
	algorithm, err := record.Digest32("algorithm", request.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	if !s.queue.TryAcquire(int64(n)) {
		return nil, rpcserver.Overloaded("samples to endorse", 100*time.Millisecond)
	}
	defer s.queue.Release(int64(n))
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	response, err := s.endorser.Endorse(snapshot, algorithm, request.GetSamples())
	if err != nil {
		return nil, err
	}
	response.CertifiedHeight = snapshot.Head().Height
	return response, nil
}

// InstallAlgorithm takes a module that an approval on the certified ledger
// names, and refuses and reports any other.
func (s *Server) InstallAlgorithm(ctx context.Context, request *computev1.InstallAlgorithmRequest) (*computev1.InstallAlgorithmResponse, error) {
	module := request.GetModule()
	if len(module) > profile.MaxModuleBytes {
		return nil, reason.New(reason.TooLarge, "module has %d bytes, the limit is %d", len(module), profile.MaxModuleBytes)
	}
	id := modules.Digest(module)
	err := s.install(ctx, id, module)
	if err == nil {
		s.log.InfoContext(ctx, "algorithm installed", "algorithm", id)
		return &computev1.InstallAlgorithmResponse{Algorithm: id[:]}, nil
	}
	if why := reason.Of(err); why == reason.UnknownAlgorithm || why == reason.ProfileViolation || why == reason.AlgorithmNotInForce {
		caller := rpcserver.PeerFrom(ctx)
		s.log.WarnContext(ctx, "installation refused", "algorithm", id, "caller", caller.ID, "error", err)
		report := &recordv1.EventReport{
			NetworkId: s.endorser.NetworkID[:], Reporter: s.endorser.NodeID,
			Kind: recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION, Subject: record.SubjectAlgorithm(id),
			Detail: "offered by " + caller.ID + ": " + string(why),
		}
		if failed := s.ledger.Report(ctx, s.endorser.Signer, report); failed != nil && reason.Of(failed) != reason.AlreadyReported {
			return nil, errors.Join(err, failed)
		}
	}
	return nil, err
}

func (s *Server) install(ctx context.Context, id digest.Digest, module []byte) error {
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return err
	}
	approved, err := state.GetAlgorithm(snapshot, id)
	if err != nil {
		return err
	}
	if approved == nil {
		return reason.New(reason.UnknownAlgorithm, "module has digest %s, and no approval on the certified ledger names it", id)
	}
	if approved.GetWithdrawn() {
		return reason.New(reason.AlgorithmNotInForce, "the approval of algorithm %s is withdrawn", id.Short())
	}
	_, err = s.modules.Install(ctx, module)
	return err
}

// ListAlgorithms tells which modules are loaded.
func (s *Server) ListAlgorithms(context.Context, *computev1.ListAlgorithmsRequest) (*computev1.ListAlgorithmsResponse, error) {
	response := &computev1.ListAlgorithmsResponse{}
	for _, id := range s.modules.List() {
		program := s.modules.Program(id)
		response.Algorithms = append(response.Algorithms, &computev1.LoadedAlgorithm{
			Algorithm: id.Bytes(), Name: program.Module().Name, Version: program.Module().Version,
			InterpreterOnly: program.Stats().Interpreted,
		})
	}
	return response, nil
}

// Package api is ComputeService over gRPC: limits first, then the endorser.
//
// Source: proto/lacre/compute/v1; the paper, section VI-E, attack 2 (an endorser
// refuses a module that no approval names, and records the attempt).
package api

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/sandbox/profile"
	"github.com/lacre-metrology/lacre/services/compute/internal/endorse"
	"github.com/lacre-metrology/lacre/services/compute/internal/modules"
)

const (
	// maxHeld bounds the bytes of samples that are computed at one time.
	maxHeld = 64 << 20
	// overhead is what a sample costs besides its bytes.
	overhead = 2 << 10
	// patience is how long an installation waits for its approval to be followed:
	// an approval that was certified a moment ago is no forgery.
	patience = 2 * time.Second
)

// Ledger is the certified ledger, as compute sees it.
type Ledger interface {
	Snapshot() (*follower.Snapshot, error)
	// Wait returns the first snapshot at or above a height.
	Wait(ctx context.Context, height uint64) (*follower.Snapshot, error)
}

// Events records security events; Report does not wait for the ledger.
type Events interface {
	Report(report *recordv1.EventReport) error
}

// Server implements ComputeService.
type Server struct {
	computev1.UnimplementedComputeServiceServer
	ledger   Ledger
	events   Events
	endorser *endorse.Endorser
	modules  *modules.Modules
	log      *slog.Logger
	room     *semaphore.Weighted // bytes
	patience time.Duration
}

// New makes the server.
func New(ledger Ledger, events Events, endorser *endorse.Endorser, held *modules.Modules, log *slog.Logger) *Server {
	return &Server{ledger: ledger, events: events, endorser: endorser, modules: held, log: log,
		room: semaphore.NewWeighted(maxHeld), patience: patience}
}

// Endorse runs the approved module on each sample and signs the batch.
func (s *Server) Endorse(ctx context.Context, request *computev1.EndorseRequest) (*computev1.EndorseResponse, error) {
	n := len(request.GetSamples())
	if n == 0 || n > record.MaxClaims {
		return nil, reason.New(reason.Malformed, "%d samples, want 1 to %d", n, record.MaxClaims)
	}
	algorithm, err := record.Digest32("algorithm", request.GetAlgorithm())
	if err != nil {
		return nil, err
	}
	var size int64
	for _, sample := range request.GetSamples() {
		size += int64(len(sample.GetHeader()) + len(sample.GetRawVector()) + overhead)
	}
	if !s.room.TryAcquire(size) {
		return nil, rpcserver.Overloaded("samples to endorse", 100*time.Millisecond)
	}
	defer s.room.Release(size)
	snapshot, err := s.ledger.Snapshot()
	if err != nil {
		return nil, err
	}
	response, err := s.endorser.Endorse(ctx, snapshot, algorithm, request.GetSamples())
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
	id := modules.Digest(module)
	err := s.install(ctx, id, module)
	if err == nil {
		s.log.InfoContext(ctx, "algorithm installed", "algorithm", id)
		return &computev1.InstallAlgorithmResponse{Algorithm: id[:]}, nil
	}
	if why := reason.Of(err); slices.Contains(recorded, why) {
		caller := rpcserver.PeerFrom(ctx)
		s.log.WarnContext(ctx, "installation refused", "algorithm", id, "caller", caller.ID, "error", err)
		report := &recordv1.EventReport{
			NetworkId: s.endorser.NetworkID[:], Reporter: s.endorser.NodeID,
			Kind: recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION, Subject: record.SubjectAlgorithm(id),
			Detail: "offered by " + caller.ID + ": " + string(why),
		}
		if full := s.events.Report(report); full != nil {
			return nil, full // no attempt is answered that is not recorded
		}
	}
	return nil, err
}

// recorded are the refusals of an installation that become security events: the
// module, or that it came here, is not what an approval says.
var recorded = []reason.Reason{reason.UnknownAlgorithm, reason.ProfileViolation, reason.AlgorithmNotInForce, reason.NotContracted, reason.TooLarge}

func (s *Server) install(ctx context.Context, id digest.Digest, module []byte) error {
	if len(module) > profile.MaxModuleBytes {
		return reason.New(reason.TooLarge, "module has %d bytes, the limit is %d", len(module), profile.MaxModuleBytes)
	}
	approved, err := s.approval(ctx, id)
	if err != nil {
		return err
	}
	if approved == nil {
		return reason.New(reason.UnknownAlgorithm, "module has digest %s, and no approval on the certified ledger names it", id)
	}
	if approved.GetWithdrawn() {
		return reason.New(reason.AlgorithmNotInForce, "the approval of algorithm %s is withdrawn", id.Short())
	}
	if err := s.contracted(approved); err != nil {
		return err
	}
	_, err = s.modules.Install(ctx, module)
	return err
}

// approval finds the approval of a module, and gives the newest blocks a moment
// to arrive before it says that there is none.
func (s *Server) approval(ctx context.Context, id digest.Digest) (*statev1.Algorithm, error) {
	wait, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	snapshot, err := s.ledger.Snapshot()
	for err == nil {
		approved, err := state.GetAlgorithm(snapshot, id)
		if err != nil || approved != nil {
			return approved, err
		}
		newer, waited := s.ledger.Wait(wait, snapshot.Head().Height+1)
		if waited != nil {
			return nil, ctx.Err() // nil when only the patience ended
		}
		snapshot = newer
	}
	return nil, err
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

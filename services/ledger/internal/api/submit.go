package api

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
)

// Submit hands in one submission; a replica that does not lead forwards it.
func (s *Server) Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	if err := checkLimits(request); err != nil {
		return nil, err
	}
	if err := s.guard.enter(); err != nil {
		return nil, err
	}
	defer s.guard.leave()
	return s.forward(ctx, request)
}

func checkLimits(request *ledgerv1.SubmitRequest) error {
	if n := len(request.GetRecords()); n == 0 || n > 1+record.MaxClaims {
		return reason.New(reason.Malformed, "%d records, want 1 to %d", n, 1+record.MaxClaims)
	}
	for i, r := range request.GetRecords() {
		if len(r) == 0 || len(r) > record.MaxBytes {
			return reason.New(reason.TooLarge, "record %d has %d bytes, want 1 to %d", i, len(r), record.MaxBytes)
		}
	}
	if n := len(request.GetRawVectors()); n > len(request.GetRecords())-1 {
		return reason.New(reason.Malformed, "%d raw vectors for %d records", n, len(request.GetRecords()))
	}
	for i, v := range request.GetRawVectors() {
		if len(v) == 0 || len(v) > record.MaxRawVectorBytes {
			return reason.New(reason.TooLarge, "raw vector %d has %d bytes, want 1 to %d", i, len(v), record.MaxRawVectorBytes)
		}
	}
	return nil
}

// lead checks a submission, has it ordered, and answers when it is certified.
func (s *Server) lead(ctx context.Context, request *ledgerv1.SubmitRequest) (_ *ledgerv1.SubmitResponse, err error) {
	submission := &replicav1.Submission{Records: request.GetRecords(), RawVectors: request.GetRawVectors()}
	parsed := fsm.Parse(submission)
	outcomes, height, hopeless := s.rehearse(parsed)
	if !hopeless {
		defer s.Machine.Expect(submission, parsed)()
		result, err := s.order(ctx, submission, parsed.IsNetworkConfig())
		if err != nil {
			return nil, err
		}
		outcomes, height = result.Outcomes, result.Height
	}
	certified, err := s.certified(ctx, height, !hopeless)
	if err != nil {
		return nil, err
	}
	_, span := s.Traces.Below(ctx, "ledger.reply")
	defer func() { span.End(err) }()
	response := &ledgerv1.SubmitResponse{CertifiedHeight: certified.Block.Height, Outcomes: make([]*ledgerv1.RecordOutcome, len(outcomes))}
	var measured []*ledgerv1.RecordOutcome // each gets a receipt
	var equivocal [][]byte
	for i, o := range outcomes {
		answer := &ledgerv1.RecordOutcome{Accepted: o.Accepted, Index: o.Index, Reason: string(o.Reason), Detail: o.Detail}
		response.Outcomes[i] = answer
		if i == 0 || len(request.GetRawVectors()) == 0 {
			continue // not a measurement
		}
		if o.Accepted || o.Reason == reason.Duplicate {
			measured = append(measured, answer)
		}
		if o.Reason == reason.Equivocation {
			equivocal = append(equivocal, request.GetRecords()[i])
		}
	}
	if err := s.giveReceipts(measured); err != nil {
		return nil, err
	}
	if len(equivocal) > 0 {
		s.reportEquivocations(ctx, equivocal)
	}
	return response, fault.Around(fault.Reply, func() error { return nil })
}

// order has a submission ordered and applied here.
func (s *Server) order(ctx context.Context, submission *replicav1.Submission, alone bool) (propose.Result, error) {
	begun := time.Now()
	result, err := s.Cutter.Submit(ctx, submission, alone)
	if err == nil {
		block := attribute.Int64("lacre.block", int64(result.Height))
		s.Traces.Past(ctx, "ledger.order", begun, result.Began, block)
		s.Traces.Past(ctx, "ledger.apply", result.Began, result.Ended, block)
	}
	if err == nil && s.Ordered != nil {
		s.Ordered(time.Since(begun))
	}
	return result, err
}

// certified waits for a block's certificate; fresh says that the block was made for this call.
func (s *Server) certified(ctx context.Context, height uint64, fresh bool) (certify.Certified, error) {
	begun := time.Now()
	_, span := s.Traces.Below(ctx, "ledger.certify")
	certified, err := s.Collector.Wait(ctx, height)
	span.End(err)
	if err == nil && fresh && s.Certified != nil {
		s.Certified(time.Since(begun))
	}
	return certified, err
}

// receiptsEach is how many receipts are worth a goroutine; one takes some 10 us.
const receiptsEach = 64

// giveReceipts makes the receipts of an answer, on every core: a thousand meters
// wait for it.
func (s *Server) giveReceipts(measured []*ledgerv1.RecordOutcome) error {
	workers := max(1, min(runtime.GOMAXPROCS(0), len(measured)/receiptsEach))
	errs := make([]error, workers)
	var made sync.WaitGroup
	for i, part := range slices.Collect(slices.Chunk(measured, max(1, (len(measured)+workers-1)/workers))) {
		made.Go(func() {
			receipts := receiptMaker{server: s}
			for _, answer := range part {
				if answer.Receipt, errs[i] = receipts.of(answer.GetIndex()); errs[i] != nil {
					return
				}
			}
		})
	}
	made.Wait()
	return errors.Join(errs...)
}

// receiptMaker makes receipts one after the other, most of them of one block.
type receiptMaker struct {
	server      *Server
	height      uint64
	certificate *tlog.Certificate // the first at or above height; nil at the beginning
}

func (m *receiptMaker) of(index uint64) ([]byte, error) {
	height, err := m.server.Store.HeightOf(index)
	if err != nil {
		return nil, err
	}
	if m.certificate == nil || m.height != height {
		if m.certificate, err = m.server.certificateFrom(height); err != nil {
			return nil, err
		}
		m.height = height
	}
	return m.server.receiptUnder(index, m.certificate)
}

// rehearse asks the transition against the newest block and keeps nothing. A
// submission of which nothing would be accepted is answered without being
// ordered; of any other the signatures are in the cache from now on. The
// height that it saw is returned: rule C3 holds for refusals too. A rehearsal
// that fails, or during which a block came, says nothing: then the real
// transition decides.
func (s *Server) rehearse(submission *state.Submission) (outcomes []state.Outcome, height uint64, hopeless bool) {
	head := s.Machine.Head().Block
	fresh := s.Collector.Fresh()
	if fresh.Block.Height > head.Height {
		return nil, 0, false
	}
	block, err := state.Begin(s.Store, head, state.Options{Verifier: s.Cache}, fresh.Block.Height, fresh.Text)
	if err != nil {
		if !errors.Is(err, state.ErrTooFarAhead) {
			s.Log.Debug("rehearsal failed", "error", err)
		}
		return nil, 0, false
	}
	checks, err := block.Checks(submission)
	if err != nil {
		return nil, 0, false
	}
	s.Cache.VerifyBatch(checks)
	if outcomes, err = block.Refused(submission); err != nil || outcomes == nil || s.Machine.Visible() != head.Height {
		return nil, 0, false
	}
	return outcomes, head.Height, true
}

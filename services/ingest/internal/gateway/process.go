package gateway

import (
	"context"
	"fmt"
	"time"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// tries bounds how often a batch goes round again because the ledger moved on
// between endorsement and block: a new configuration, approval or registration.
const tries = 3

// batchTimeout bounds one round of a batch; the meter keeps what is unanswered.
const batchTimeout = 30 * time.Second

// process carries a batch to its end and answers every sample of it.
func (g *Gateway) process(ctx context.Context, algorithm digest.Digest, batch []*Sample) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	defer func() {
		for _, s := range batch {
			g.room.free(len(s.Raw))
		}
	}()
	remaining := batch
	var err error
	for range tries {
		if remaining, err = g.round(ctx, algorithm, remaining); len(remaining) == 0 {
			return
		}
	}
	if err == nil {
		err = reason.New(reason.NotReady, "the ledger moved on %d times while the sample was endorsed", tries)
	}
	for _, s := range remaining {
		s.answer(Answer{Err: rpcerror.With(err, rpcerror.RetryAfter(retryDelay))})
	}
}

// round endorses and submits once. It answers what is settled and returns the
// samples that may succeed in another round.
func (g *Gateway) round(ctx context.Context, algorithm digest.Digest, batch []*Sample) ([]*Sample, error) {
	snapshot, err := g.ledger.Snapshot()
	if err != nil {
		return batch, err
	}
	endorsed, err := g.endorse(ctx, snapshot, algorithm, batch)
	if err != nil {
		if rpcerror.IsPermanent(err) {
			for _, s := range batch {
				s.answer(Answer{Err: err})
			}
			return nil, nil
		}
		return batch, err
	}
	if len(endorsed.samples) == 0 {
		return nil, nil // every sample was refused
	}
	request, err := g.measurements(snapshot, algorithm, endorsed)
	if err != nil {
		return endorsed.samples, err
	}
	response, err := g.ledger.Submit(ctx, request)
	if err != nil {
		return endorsed.samples, err
	}
	if len(response.GetOutcomes()) != len(request.GetRecords()) {
		return endorsed.samples, fmt.Errorf("ledger gave %d outcomes for %d records", len(response.GetOutcomes()), len(request.GetRecords()))
	}
	var again []*Sample
	for i, s := range endorsed.samples {
		outcome := response.GetOutcomes()[1+i] // the set comes first
		why := reason.Reason(outcome.GetReason())
		switch {
		case len(outcome.GetReceipt()) > 0: // accepted, or a duplicate
			s.answer(Answer{Receipt: outcome.GetReceipt()})
		case movedOn(why):
			again = append(again, s)
			err = &reason.Error{Reason: why, Detail: outcome.GetDetail()}
		default:
			s.answer(Answer{Err: &reason.Error{Reason: why, Detail: outcome.GetDetail()}})
		}
	}
	return again, err
}

// movedOn says that the sample is good and only what was said about it is
// stale: another round with a newer snapshot helps.
func movedOn(why reason.Reason) bool {
	switch why {
	case reason.StaleConfig, reason.StaleApproval, reason.StaleRegistration, reason.WrongDisposition,
		reason.PolicyNotMet, reason.BadEndorsement:
		return true
	}
	return false
}

// measurements builds the submission: the endorsement set, then a measurement
// for each sample in the order of the claims.
func (g *Gateway) measurements(snapshot *follower.Snapshot, algorithm digest.Digest, e *endorsed) (*ledgerv1.SubmitRequest, error) {
	set := &recordv1.EndorsementSet{NetworkId: g.networkID[:], Algorithm: algorithm[:], Endorsements: e.signatures}
	for _, c := range e.claims {
		hash := claim.Hash(c)
		set.Claims = append(set.Claims, hash[:])
	}
	setRecord, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_EndorsementSet{EndorsementSet: set}})
	if err != nil {
		return nil, err
	}
	approved, err := state.GetAlgorithm(snapshot, algorithm)
	if err != nil {
		return nil, err
	}
	if approved == nil {
		return nil, reason.New(reason.UnknownAlgorithm, "no approval on the certified ledger names algorithm %s", algorithm.Short())
	}
	config := snapshot.Config()
	late := config.Message.GetLimits().GetLatenessBoundNano()
	setDigest := record.Digest(setRecord)
	request := &ledgerv1.SubmitRequest{Records: [][]byte{setRecord}}
	for i, s := range e.samples {
		disposition := recordv1.Disposition_DISPOSITION_ON_TIME
		if snapshot.Head().BlockTimeUnixNano-s.Parsed.CapturedAtUnixNano > late {
			disposition = recordv1.Disposition_DISPOSITION_LATE
		}
		b, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{
			Header: s.Parsed.Bytes, Signature: s.Signature, Claim: e.claims[i], ClaimIndex: uint32(i),
			EndorsementSet: setDigest[:], Approval: approved.GetApproval(), Config: config.Digest[:], Disposition: disposition,
		}}})
		if err != nil {
			return nil, err
		}
		request.Records = append(request.Records, b)
		request.RawVectors = append(request.RawVectors, s.Raw)
	}
	return request, nil
}

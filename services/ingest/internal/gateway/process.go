package gateway

import (
	"context"
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

const (
	// tries bounds how often a sample goes round: because the ledger moved on
	// between endorsement and block, or has no leader for a moment.
	// All pauses together outlast an election, which takes up to 2 s.
	tries = 12
	// firstDelay is the pause before the second round; it doubles each time, up to
	// mostDelay: whoever waits for a new leader finds it soon.
	firstDelay = 50 * time.Millisecond
	mostDelay  = 250 * time.Millisecond
	// roundTimeout bounds one round; the meter keeps what is unanswered.
	roundTimeout = 30 * time.Second
	// catchUp bounds the wait for the follower to see what a replica answered upon.
	catchUp = time.Second
)

// process carries a batch through one round. What may still succeed joins a
// later batch; every other sample is answered.
func (g *Gateway) process(b *batcher, batch []*Sample) {
	ctx, cancel := context.WithTimeout(g.life, roundTimeout)
	defer cancel()
	g.counts.batches.Add(1)
	ctx, span := g.traceBatch(ctx, batch)
	again, why := g.round(ctx, b.algorithm, batch)
	span.End(why)
	var retry []*Sample
	for _, s := range again {
		s.tries++
		switch {
		case g.life.Err() != nil:
			s.answer(Answer{Err: stopping()})
		case s.tries == tries:
			s.answer(Answer{Err: rpcerror.With(transient(why), rpcerror.RetryAfter(retryDelay))})
		default:
			retry = append(retry, s)
		}
	}
	if len(retry) > 0 {
		delay := max(min(firstDelay<<(retry[0].tries-1), mostDelay), min(rpcerror.Delay(why), roundTimeout))
		go func() {
			select {
			case <-time.After(delay):
			case <-g.life.Done():
			}
			b.add(retry...)
		}()
	}
}

// transient keeps what failed as a whole from counting against a sample: a
// permanent reason is one that was given for the sample itself.
func transient(err error) error {
	switch {
	case err == nil || reason.Of(err) == "":
		return reason.New(reason.NotReady, "endorsement or ledger failed: %v", err)
	case rpcerror.IsPermanent(err):
		return reason.New(reason.NotReady, "%v", err)
	}
	return err
}

// round endorses and submits once. It answers what is settled and returns the
// samples that may succeed in another round, and what stood in the way.
func (g *Gateway) round(ctx context.Context, algorithm digest.Digest, batch []*Sample) (again []*Sample, why error) {
	snapshot, err := g.ledger.Snapshot()
	if err != nil {
		return batch, err
	}
	sets, again, why := g.endorse(ctx, snapshot, algorithm, batch)
	if reason.Of(why) == reason.AlgorithmNotInForce { // certified: the algorithm is withdrawn
		for _, s := range again {
			s.answer(Answer{Err: why})
		}
		return nil, nil
	}
	for _, set := range sets {
		failed, err := g.submit(ctx, snapshot, algorithm, set)
		if len(failed) > 0 {
			again, why = append(again, failed...), err
		}
	}
	return again, why
}

// submit hands one endorsed set to the ledger.
func (g *Gateway) submit(ctx context.Context, snapshot *follower.Snapshot, algorithm digest.Digest, set endorsed) (again []*Sample, why error) {
	request, err := g.measurements(snapshot, algorithm, set)
	if err != nil {
		return set.samples, err
	}
	submitting, span := g.Traces.Below(ctx, "gateway.submit")
	response, err := g.ledger.Submit(submitting, request)
	span.End(err)
	if err != nil {
		return set.samples, err
	}
	_, span = g.Traces.Below(ctx, "gateway.reply")
	defer span.End(nil)
	first := response.GetOutcomes()[0]
	for i, s := range set.samples {
		outcome := response.GetOutcomes()[1+i] // the set comes first
		switch {
		case len(outcome.GetReceipt()) > 0: // accepted, or a duplicate
			g.counts.certified.Add(1)
			s.answer(Answer{Receipt: outcome.GetReceipt()})
		case notItsFault(first, outcome):
			if reason.Reason(outcome.GetReason()) == reason.WrongDisposition {
				s.disposition = other(s.disposition)
			}
			again, why = append(again, s), refused(outcome)
		default:
			s.answer(Answer{Err: refused(outcome)})
		}
	}
	if len(again) > 0 {
		// The next round rests on what the ledger knew when it refused.
		ctx, cancel := context.WithTimeout(ctx, catchUp)
		defer cancel()
		_, _ = g.ledger.Wait(ctx, response.GetCertifiedHeight()) // a follower that lags is no reason to give up
	}
	return again, why
}

func refused(outcome *ledgerv1.RecordOutcome) error {
	if outcome.GetReason() == "" {
		return reason.New(reason.NotCertified, "the ledger gave neither receipt nor reason")
	}
	return &reason.Error{Reason: reason.Reason(outcome.GetReason()), Detail: outcome.GetDetail()}
}

// notItsFault says that the sample may be good, and what was said about it is
// stale or wrong: another round helps. A measurement whose set was refused
// carries the set's reason.
func notItsFault(set, outcome *ledgerv1.RecordOutcome) bool {
	switch why := reason.Reason(outcome.GetReason()); why {
	case reason.StaleConfig, reason.StaleApproval, reason.StaleRegistration, reason.WrongDisposition,
		reason.PolicyNotMet, reason.BadEndorsement, reason.WrongPlace, reason.Duplicate, "":
		return true // a duplicate comes with its receipt, unless something is wrong
	default:
		return !set.GetAccepted() && set.GetReason() == outcome.GetReason()
	}
}

// measurements builds the submission: the endorsement set, then a measurement
// for each sample in the order of the claims.
func (g *Gateway) measurements(snapshot *follower.Snapshot, algorithm digest.Digest, e endorsed) (*ledgerv1.SubmitRequest, error) {
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
	config := snapshot.Config()
	setDigest := record.Digest(setRecord)
	request := &ledgerv1.SubmitRequest{Records: [][]byte{setRecord}}
	for i, s := range e.samples {
		if s.disposition == recordv1.Disposition_DISPOSITION_UNSPECIFIED {
			s.disposition = disposition(s, snapshot)
		}
		b, err := record.Encode(&recordv1.Record{Body: &recordv1.Record_Measurement{Measurement: &recordv1.Measurement{
			Header: s.Parsed.Bytes, Signature: s.Signature, Claim: e.claims[i], ClaimIndex: uint32(i),
			EndorsementSet: setDigest[:], Approval: approved.GetApproval(), Config: config.Digest[:], Disposition: s.disposition,
		}}})
		if err != nil {
			return nil, err
		}
		request.Records = append(request.Records, b)
		request.RawVectors = append(request.RawVectors, s.Raw)
	}
	return request, nil
}

// disposition is a guess: the ledger compares with the time of a block that does
// not exist yet, which after a silence may be much later than the newest one.
// It says when the guess was wrong, and the next one is the other.
func disposition(s *Sample, snapshot *follower.Snapshot) recordv1.Disposition {
	if snapshot.Head().BlockTimeUnixNano-s.Parsed.CapturedAtUnixNano > snapshot.Config().Message.GetLimits().GetLatenessBoundNano() {
		return recordv1.Disposition_DISPOSITION_LATE
	}
	return recordv1.Disposition_DISPOSITION_ON_TIME
}

func other(d recordv1.Disposition) recordv1.Disposition {
	if d == recordv1.Disposition_DISPOSITION_LATE {
		return recordv1.Disposition_DISPOSITION_ON_TIME
	}
	return recordv1.Disposition_DISPOSITION_LATE
}

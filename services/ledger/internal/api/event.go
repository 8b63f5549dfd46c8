package api

import (
	"context"
	"sync"
	"time"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// eventTimeout bounds the recording of an event, whoever waits for it.
const eventTimeout = 10 * time.Second

// reportEquivocations records that a meter signed samples which exclude each
// other (rule S3): the offered ones, and the accepted ones that they contradict.
// The transition checks the evidence and takes one event for each counter. The
// caller may be gone by now; the evidence must not be lost with it.
func (s *Server) reportEquivocations(ctx context.Context, offered [][]byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTimeout)
	defer cancel()
	var reporting sync.WaitGroup
	for _, leaf := range offered { // at most as many as a submission has records; they share blocks
		reporting.Go(func() {
			report, err := s.equivocation(leaf)
			if err == nil && report == nil {
				return // the contradiction is with a sample that was never accepted
			}
			if err == nil {
				err = s.report(ctx, report)
			}
			if err != nil {
				s.Log.ErrorContext(ctx, "an equivocation could not be recorded", "error", err)
			}
		})
	}
	reporting.Wait()
}

func (s *Server) report(ctx context.Context, report *recordv1.EventReport) error {
	kind, err := sample.KindOf(s.Signer.Public())
	if err != nil {
		return err
	}
	leaf, err := record.SignEvent(s.Signer, kind, report)
	if err != nil {
		return err
	}
	response, err := s.lead(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
	if err != nil {
		return err
	}
	if o := response.GetOutcomes()[0]; !o.GetAccepted() && reason.Reason(o.GetReason()) != reason.AlreadyReported {
		return &reason.Error{Reason: reason.Reason(o.GetReason()), Detail: o.GetDetail()}
	}
	return nil
}

func (s *Server) equivocation(offered []byte) (*recordv1.EventReport, error) {
	evidence, header, err := signedSample(offered)
	if err != nil {
		return nil, err
	}
	// The accepted sample under the same counter, or a neighbour that names
	// another digest than the offered one has, or that the offered one disowns.
	for _, counter := range []uint64{header.Counter, header.Counter - 1, header.Counter + 1} {
		index, ok, err := state.IndexOf(s.Store, header.MeterID, counter)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		leaf, err := s.Store.Record(index)
		if err != nil {
			return nil, err
		}
		other, accepted, err := signedSample(leaf)
		if err != nil {
			return nil, err
		}
		if !excludes(header, accepted) {
			continue
		}
		return &recordv1.EventReport{
			NetworkId: s.NetworkID.Bytes(), Reporter: s.NodeID, Kind: recordv1.EventKind_EVENT_KIND_METER_EQUIVOCATION,
			Subject: record.SubjectMeter(header.MeterID), Counter: min(header.Counter, accepted.Counter),
			Evidence: [][]byte{other, evidence},
		}, nil
	}
	return nil, nil
}

// excludes reports whether no honest meter signs both samples.
func excludes(a, b *sample.Sample) bool {
	switch {
	case a.Counter == b.Counter:
		return a.Digest != b.Digest
	case a.Counter == b.Counter+1:
		return a.Previous != b.Digest
	case b.Counter == a.Counter+1:
		return b.Previous != a.Digest
	}
	return false
}

// signedSample takes a measurement's header and signature as evidence.
func signedSample(leaf []byte) ([]byte, *sample.Sample, error) {
	r, err := record.Parse(leaf)
	if err != nil {
		return nil, nil, err
	}
	m := r.GetMeasurement()
	header, err := sample.Parse(m.GetHeader())
	if err != nil {
		return nil, nil, err
	}
	evidence, err := wire.Encode(&recordv1.SignedSample{Header: m.GetHeader(), Signature: m.GetSignature()})
	return evidence, header, err
}

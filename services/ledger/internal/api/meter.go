package api

import (
	"context"
	"encoding/base64"
	"encoding/binary"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

const (
	defaultPage = 100
	maxPage     = 1000
	maxPageSize = 8 << 20 // bytes of records
)

// GetMeter returns a meter's standing.
func (s *Server) GetMeter(ctx context.Context, request *ledgerv1.GetMeterRequest) (*ledgerv1.GetMeterResponse, error) {
	meter, chain, err := s.meter(request.GetMeterId())
	if err != nil {
		return nil, err
	}
	certified, err := s.certifiedVisible(ctx)
	if err != nil {
		return nil, err
	}
	response := &ledgerv1.GetMeterResponse{
		Registration: meter.GetRegistrationPayload(), RegistrationDigest: meter.GetRegistration(),
		Sequence: meter.GetLast().GetSequence(), LastStatement: meter.GetLast().GetDigest(),
		NewestCounter: chain.GetNewestCounter(), NewestSample: chain.GetNewestSample(),
		InService:       !meter.GetBarred() && meter.GetDecommissionedAtUnixNano() == 0,
		CertifiedHeight: certified.Block.Height,
	}
	for _, m := range chain.GetMissing() {
		response.Missing = append(response.Missing, &ledgerv1.CounterRange{First: m.GetFirst(), Last: m.GetLast()})
	}
	return response, nil
}

func (s *Server) meter(id string) (*statev1.Meter, *statev1.MeterChain, error) {
	if err := record.CheckID(id); err != nil {
		return nil, nil, err
	}
	meter, err := state.GetMeter(s.Store, id)
	if err != nil {
		return nil, nil, err
	}
	if meter == nil {
		return nil, nil, reason.New(reason.NotFound, "meter %q is not registered", id)
	}
	chain, err := state.GetMeterChain(s.Store, id)
	return meter, chain, err
}

// ListMeasurements pages through a meter's measurements. Capture times never
// decrease with the counter (rule S2), so a time is found by bisection.
func (s *Server) ListMeasurements(_ context.Context, request *ledgerv1.ListMeasurementsRequest) (*ledgerv1.ListMeasurementsResponse, error) {
	certified := s.Collector.Newest().Block
	meter, chain, err := s.meter(request.GetMeterId())
	if err != nil {
		return nil, err
	}
	if meter.GetRegistrationIndex() >= certified.Size {
		return nil, reason.New(reason.NotFound, "meter %q is not registered up to block %d", request.GetMeterId(), certified.Height)
	}
	size := int(request.GetPageSize())
	if size == 0 {
		size = defaultPage
	}
	if size > maxPage {
		return nil, reason.New(reason.Malformed, "page size %d, at most %d", size, maxPage)
	}
	p := pager{server: s, meter: request.GetMeterId(), last: chain.GetNewestCounter(), missing: chain.GetMissing(), below: certified.Size}
	first := meter.GetKeys()[0].GetFirstCounter()
	next := max(request.GetFromCounter(), first)
	if token := request.GetPageToken(); token != "" {
		if next, err = parseToken(token); err != nil {
			return nil, err
		}
		next = max(next, first) // whoever asks wrote the token: below first nothing is missing and nothing is there
	} else if from := request.GetFromCapturedAtUnixNano(); from > 0 {
		if next, err = p.firstFrom(next, from); err != nil {
			return nil, err
		}
	}
	response := &ledgerv1.ListMeasurementsResponse{}
	bytes := 0
	for next = p.skip(next); next <= p.last; next = p.skip(next + 1) {
		found, captured, err := p.at(next)
		if err != nil {
			return nil, err
		}
		if found == nil {
			continue
		}
		if until := request.GetUntilCapturedAtUnixNano(); until > 0 && captured >= until {
			return response, nil
		}
		if len(response.GetMeasurements()) == size || bytes+len(found.GetRecord()) > maxPageSize {
			response.NextPageToken = formatToken(next)
			return response, nil
		}
		bytes += len(found.GetRecord())
		response.Measurements = append(response.Measurements, found)
	}
	return response, nil
}

// pager reads one meter's measurements below the certified size.
type pager struct {
	server  *Server
	meter   string
	last    uint64                  // newest counter
	missing []*statev1.MissingRange // ascending; a gap may be as wide as counters go
	below   uint64                  // certified tree size
}

// skip is the lowest counter from one on that is not missing.
func (p *pager) skip(counter uint64) uint64 {
	for _, m := range p.missing {
		if counter >= m.GetFirst() && counter <= m.GetLast() {
			return m.GetLast() + 1
		}
	}
	return counter
}

// at is the measurement with a counter and its capture time; nil where it is
// missing or not certified.
func (p *pager) at(counter uint64) (*ledgerv1.ListedMeasurement, int64, error) {
	index, ok, err := state.IndexOf(p.server.Store, p.meter, counter)
	if err != nil || !ok || index >= p.below {
		return nil, 0, err
	}
	leaf, err := p.server.Store.Record(index)
	if err != nil {
		return nil, 0, err
	}
	r, err := record.Parse(leaf)
	if err != nil {
		return nil, 0, err
	}
	header, err := sample.Parse(r.GetMeasurement().GetHeader())
	if err != nil {
		return nil, 0, err
	}
	return &ledgerv1.ListedMeasurement{Index: index, Record: leaf}, header.CapturedAtUnixNano, nil
}

// firstFrom is the lowest counter from low on that was captured at or after a time.
func (p *pager) firstFrom(low uint64, unixNano int64) (uint64, error) {
	high := p.last + 1
	for low < high {
		middle := low + (high-low)/2
		probe := p.skip(middle)
		if probe >= high {
			high = middle
			continue
		}
		found, captured, err := p.at(probe)
		if err != nil {
			return 0, err
		}
		if found == nil || captured >= unixNano { // what is not certified is the newest
			high = middle
		} else {
			low = probe + 1
		}
	}
	return low, nil
}

func formatToken(counter uint64) string {
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, counter))
}

func parseToken(token string) (uint64, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 8 {
		return 0, reason.New(reason.Malformed, "page token %.32q is not one that this service gave", token)
	}
	return binary.BigEndian.Uint64(b), nil
}

package api

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// ListMeters pages through all meters with their newest signs of life.
func (s *Server) ListMeters(ctx context.Context, request *ledgerv1.ListMetersRequest) (*ledgerv1.ListMetersResponse, error) {
	size := int(request.GetPageSize())
	if size == 0 {
		size = defaultPage
	}
	if size > maxPage {
		return nil, reason.New(reason.Malformed, "page size %d, at most %d", size, maxPage)
	}
	from := state.PrefixMeter
	if token := request.GetPageToken(); token != "" {
		id, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || record.CheckID(string(id)) != nil {
			return nil, reason.New(reason.Malformed, "page token %.32q is not one that this service gave", token)
		}
		from = state.MeterKey(string(id))
	}
	var ids []string // one more than the page
	err := s.Store.Scan([]byte(state.PrefixMeter), []byte(from), func(key, _ []byte) bool {
		ids = append(ids, strings.TrimPrefix(string(key), state.PrefixMeter))
		return len(ids) <= size
	})
	if err != nil {
		return nil, err
	}
	response := &ledgerv1.ListMetersResponse{}
	if len(ids) > size {
		response.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(ids[size]))
		ids = ids[:size]
	}
	for _, id := range ids {
		listed, err := s.signs(id)
		if err != nil {
			return nil, err
		}
		response.Meters = append(response.Meters, listed)
	}
	certified, err := s.certifiedVisible(ctx)
	if err != nil {
		return nil, err
	}
	response.CertifiedHeight = certified.Block.Height
	return response, nil
}

func (s *Server) signs(id string) (*ledgerv1.ListedMeter, error) {
	meter, chain, err := s.meter(id)
	if err != nil {
		return nil, err
	}
	pulse, err := state.GetMeterPulse(s.Store, id)
	if err != nil {
		return nil, err
	}
	return &ledgerv1.ListedMeter{
		MeterId: id, InService: !meter.GetBarred() && meter.GetDecommissionedAtUnixNano() == 0,
		NewestCounter: chain.GetNewestCounter(), NewestCapturedAtUnixNano: chain.GetNewestCapturedAtUnixNano(),
		HeartbeatAtUnixNano: pulse.GetAtUnixNano(), HeartbeatCounter: pulse.GetNewestCounter(),
	}, nil
}

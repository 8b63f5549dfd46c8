package gateway

import (
	"context"

	"github.com/lacre-metrology/lacre/core/heartbeat"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
)

// Heartbeat hands a meter's sign of life to the ledger, which judges it, and
// returns its place. There is nothing to endorse, and few enough come (one in
// 10 s of a meter at most) that each is a submission of its own. Nothing keeps
// one that fails: the meter signs the next.
func (g *Gateway) Heartbeat(ctx context.Context, source Source, leaf []byte) (index uint64, err error) {
	select {
	case <-g.stopping:
		return 0, stopping()
	default:
	}
	r, err := record.Parse(leaf)
	if err != nil {
		return 0, err
	}
	if r.GetHeartbeat() == nil {
		return 0, reason.New(reason.WrongPlace, "a %T is no heartbeat", r.GetBody())
	}
	h, err := heartbeat.Parse(r.GetHeartbeat().GetHeartbeat())
	if err != nil {
		return 0, err
	}
	if h.NetworkID != g.networkID {
		return 0, reason.New(reason.WrongNetwork, "heartbeat is for network %s, this is %s", h.NetworkID.Short(), g.networkID.Short())
	}
	snapshot, err := g.ledger.Snapshot()
	if err != nil {
		return 0, err
	}
	meter, err := state.GetMeter(snapshot, h.MeterID)
	if err != nil {
		return 0, err
	}
	if meter == nil {
		return 0, reason.New(reason.UnknownMeter, "meter %q is not registered", h.MeterID)
	}
	if err := g.limits.take(source, h.MeterID); err != nil {
		return 0, err
	}
	response, err := g.ledger.Submit(ctx, &ledgerv1.SubmitRequest{Records: [][]byte{leaf}})
	if err != nil {
		return 0, err
	}
	outcome := response.GetOutcomes()[0]
	if outcome.GetAccepted() || reason.Reason(outcome.GetReason()) == reason.Duplicate {
		return outcome.GetIndex(), nil
	}
	return 0, refused(outcome)
}

package api

import (
	"context"
	"errors"

	"github.com/lacre-metrology/lacre/core/reason"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// errDeposed ends a call to a replica that leads no more.
var errDeposed = errors.New("another replica leads now, or none")

// forward hands a submission to whoever leads. A leader whose machine is gone does
// not answer, and says nothing; when another leads, the call to it ends and the new
// one is asked. Submissions are idempotent.
func (s *Server) forward(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	for {
		leader, ok := s.Order.Leader()
		switch {
		case s.Order.IsLeader():
			return s.lead(ctx, request)
		case !ok || leader == s.NodeID:
			return nil, rpcerror.With(reason.New(reason.NotLeader, "no leader is known at the moment"), rpcerror.RetryAfter(retryDelay))
		}
		response, err := whileLeading(ctx, s.Order, leader, func(ctx context.Context) (*ledgerv1.SubmitResponse, error) {
			return s.Peers.Forward(ctx, leader, request)
		})
		if err == nil {
			response.Leader = leader
		}
		if !errors.Is(err, errDeposed) {
			return response, err
		}
	}
}

// whileLeading calls until the leader changes: then the error is errDeposed.
func whileLeading[T any](ctx context.Context, order Leadership, leader string, call func(context.Context) (T, error)) (T, error) {
	changes, stop := order.LeaderChanges()
	defer stop()
	calling, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		for {
			if now, _ := order.Leader(); now != leader {
				end(errDeposed)
				return
			}
			select {
			case <-changes:
			case <-calling.Done():
				return
			}
		}
	}()
	answer, err := call(calling)
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(calling), errDeposed) {
		err = errDeposed
	}
	return answer, err
}

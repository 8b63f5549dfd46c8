package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/peers"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Cosign takes another replica's cosignature.
func (r *Replica) Cosign(ctx context.Context, request *replicav1.CosignRequest) (*replicav1.CosignResponse, error) {
	signed, err := r.spoken(ctx, request)
	if err != nil {
		return nil, err
	}
	return &replicav1.CosignResponse{}, r.server.Collector.Receive(signed)
}

// Cosignatures takes another replica's cosignatures as they come. One that does
// not count here, now or ever, takes nothing from those behind it; what no
// replica sends ends the stream, and so does damage of this replica's own disk.
func (r *Replica) Cosignatures(stream grpc.ClientStreamingServer[replicav1.CosignaturesRequest, replicav1.CosignaturesResponse]) error {
	ctx := stream.Context()
	if err := stream.SendHeader(nil); err != nil { // the caller waits for it before it sends
		return err
	}
	requests, ended := make(chan *replicav1.CosignaturesRequest), make(chan error, 1)
	go func() { // Recv alone would not end with this replica
		for {
			request, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case requests <- request:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case request := <-requests:
			if err := r.take(ctx, request); err != nil {
				return err
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return stream.SendAndClose(&replicav1.CosignaturesResponse{})
			}
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *Replica) take(ctx context.Context, request *replicav1.CosignaturesRequest) error {
	if n := len(request.GetCosignatures()); n == 0 || n > peers.MaxCosignatures {
		return reason.New(reason.Malformed, "%d cosignatures, want 1 to %d", n, peers.MaxCosignatures)
	}
	for _, one := range request.GetCosignatures() {
		signed, err := r.spoken(ctx, one)
		if err != nil {
			return err
		}
		err = r.server.Collector.Receive(signed)
		if lost := (*storage.DataLossError)(nil); errors.As(err, &lost) {
			return err
		}
		if err != nil {
			r.server.Log.DebugContext(ctx, "a cosignature does not count", "peer", rpcserver.PeerFrom(ctx).ID, "height", signed.Height, "error", err)
		}
	}
	return nil
}

// spoken is the caller's cosignature: a replica speaks for itself only.
func (r *Replica) spoken(ctx context.Context, request *replicav1.CosignRequest) (certify.Signed, error) {
	signed, err := peers.FromRequest(request)
	if err != nil {
		return signed, err
	}
	caller := rpcserver.PeerFrom(ctx)
	if own := state.CosignerName(r.server.Origin, caller.ID); signed.Cosignature.Name != own {
		return signed, reason.New(reason.PermissionDenied, "node %s sent a cosignature of %s, its own name is %s", caller.ID, signed.Cosignature.Name, own)
	}
	return signed, nil
}

// Position tells how far this replica is and what it has seen of the caller (rule C7).
func (r *Replica) Position(ctx context.Context, _ *replicav1.PositionRequest) (*replicav1.PositionResponse, error) {
	caller := rpcserver.PeerFrom(ctx).ID
	config, err := state.GetConfig(r.server.Store)
	if err != nil {
		return nil, err
	}
	certified := r.server.Collector.Newest().Block.Height
	index, _ := r.server.Machine.EntryOf(certified)
	return &replicav1.PositionResponse{
		AppliedHeight:   r.server.Machine.Head().Block.Height,
		CertifiedHeight: certified,
		SeenHeight:      r.server.Collector.Seen(state.CosignerName(r.server.Origin, caller)),
		CertifiedIndex:  index,
		Member:          config.Replica(caller) != nil,
	}, nil
}

// Forward is a submission that another replica took in. It is not forwarded again.
func (r *Replica) Forward(ctx context.Context, request *replicav1.ForwardRequest) (*replicav1.ForwardResponse, error) {
	if err := checkLimits(request.GetSubmit()); err != nil {
		return nil, err
	}
	if err := r.server.guard.enter(); err != nil {
		return nil, err
	}
	defer r.server.guard.leave()
	if !r.server.Order.IsLeader() {
		leader, _ := r.server.Order.Leader()
		return nil, rpcerror.With(reason.New(reason.NotLeader, "replica %s does not lead; the leader is %q", r.server.NodeID, leader), rpcerror.Leader(leader), rpcerror.RetryAfter(retryDelay))
	}
	response, err := r.server.lead(ctx, request.GetSubmit())
	return &replicav1.ForwardResponse{Submit: response}, err
}

// FetchBlocks streams whole blocks to a replica that lacks them.
func (r *Replica) FetchBlocks(request *replicav1.FetchBlocksRequest, stream grpc.ServerStreamingServer[replicav1.FetchBlocksResponse]) error {
	proven := false
	return r.fetchBlocks(stream.Context(), request.GetFromHeight(), request.GetToHeight(), func(height uint64, stored storage.Stored, certificate []byte) error {
		block := &replicav1.FetchBlocksResponse{Height: height, Records: stored.Leaves, RawVectors: vectors(stored), Certificate: certificate}
		if !proven && lacks(stored) {
			var err error
			if block.Expiry, err = r.server.expiryProof(); err != nil {
				return err
			}
			proven = true
		}
		return stream.Send(block)
	})
}

package api

import (
	"context"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/tlog"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// StreamBlocks follows the ledger from a height and goes on as blocks are
// certified. Every block that is sent is certified here; its own certificate is
// sent along if it has one, and that of a later block covers it otherwise.
func (s *Server) StreamBlocks(request *ledgerv1.StreamBlocksRequest, stream grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error {
	ctx := stream.Context()
	stop := s.Collector.Newest().Block.Height
	for height := request.GetFromHeight(); ; height++ {
		if request.GetStopAtHead() && height > stop {
			return nil
		}
		if _, err := s.Collector.Wait(ctx, height); err != nil {
			return context.Cause(ctx)
		}
		response, err := s.block(height, request.GetView())
		if err != nil {
			return err
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func (s *Server) block(height uint64, view ledgerv1.StreamView) (*ledgerv1.StreamBlocksResponse, error) {
	stored, err := s.Store.Load(height)
	if err != nil {
		return nil, err
	}
	response := &ledgerv1.StreamBlocksResponse{Height: height, Leaves: make([]*ledgerv1.Leaf, len(stored.Leaves))}
	for i, leaf := range stored.Leaves {
		if view == ledgerv1.StreamView_STREAM_VIEW_RECORDS || view == ledgerv1.StreamView_STREAM_VIEW_FULL || administrative(leaf) {
			response.Leaves[i] = &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Record{Record: leaf}}
			continue
		}
		hash := tlog.LeafHash(leaf)
		response.Leaves[i] = &ledgerv1.Leaf{Content: &ledgerv1.Leaf_Hash{Hash: hash[:]}}
	}
	if view == ledgerv1.StreamView_STREAM_VIEW_FULL {
		response.RawVectors = vectors(stored)
	}
	certificate, err := s.exactCertificate(height)
	response.Certificate = certificate
	return response, err
}

// administrative leaves and headers are what followers get in full.
func administrative(leaf []byte) bool {
	r, err := record.Parse(leaf)
	if err != nil {
		return true // whoever follows shall see it
	}
	switch r.GetBody().(type) {
	case *recordv1.Record_Statement, *recordv1.Record_BlockHeader:
		return true
	}
	return false
}

func vectors(stored storage.Stored) [][]byte {
	out := make([][]byte, len(stored.RawVectors))
	for i, v := range stored.RawVectors {
		out[i] = v.Bytes
	}
	return out
}

// exactCertificate is the certificate of this very height, or nil.
func (s *Server) exactCertificate(height uint64) ([]byte, error) {
	c, ok, err := s.Certificates.From(height)
	if err != nil || !ok || c.Height != height {
		return nil, err
	}
	return c.Note, nil
}

// FetchBlocks streams whole blocks to a replica that lacks them. They need not
// be certified: the replica validates each by itself and checks certificates.
func (r *Replica) fetchBlocks(ctx context.Context, from, to uint64, send func(height uint64, stored storage.Stored, certificate []byte) error) error {
	head := r.server.Machine.Head().Block.Height
	if to > head {
		return reason.New(reason.NotFound, "block %d is wanted, the newest here is %d", to, head)
	}
	for height := from; height <= to && ctx.Err() == nil; height++ {
		stored, err := r.server.Store.Load(height)
		if err != nil {
			return err
		}
		certificate, err := r.server.exactCertificate(height)
		if err != nil {
			return err
		}
		if err := send(height, stored, certificate); err != nil {
			return err
		}
	}
	return ctx.Err()
}

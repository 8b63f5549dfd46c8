package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/ingest/internal/evidence"
)

const (
	maxChunk = 256 << 10
	maxStats = 256
)

// Evidence implements EvidenceService.
type Evidence struct {
	evidencev1.UnimplementedEvidenceServiceServer
	keeper *evidence.Keeper
}

// NewEvidence makes the server.
func NewEvidence(k *evidence.Keeper) *Evidence { return &Evidence{keeper: k} }

// Put keeps a piece.
func (e *Evidence) Put(stream grpc.ClientStreamingServer[evidencev1.PutRequest, evidencev1.PutResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return ended(err)
	}
	if first.GetPiece() == nil {
		return reason.New(reason.Malformed, "the first message announces the piece")
	}
	piece, err := record.Digest32("digest", first.GetPiece().GetDigest())
	if err != nil {
		return err
	}
	before, err := e.keeper.Put(stream.Context(), piece, first.GetPiece().GetSize(), &upload{stream: stream})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&evidencev1.PutResponse{KeptBefore: before})
}

// upload reads the chunks of a stream.
type upload struct {
	stream grpc.ClientStreamingServer[evidencev1.PutRequest, evidencev1.PutResponse]
	left   []byte
}

func (u *upload) Read(p []byte) (int, error) {
	for len(u.left) == 0 {
		request, err := u.stream.Recv()
		if err != nil {
			return 0, err
		}
		if u.left = request.GetChunk(); len(u.left) == 0 || len(u.left) > maxChunk {
			return 0, reason.New(reason.Malformed, "a chunk of %d bytes, want 1 to %d", len(u.left), maxChunk)
		}
	}
	n := copy(p, u.left)
	u.left = u.left[n:]
	return n, nil
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return reason.New(reason.Malformed, "the call ended before a piece was announced")
	}
	return err
}

// Get gives a piece to an authority's node.
func (e *Evidence) Get(request *evidencev1.GetRequest, stream grpc.ServerStreamingServer[evidencev1.GetResponse]) (err error) {
	piece, err := record.Digest32("digest", request.GetDigest())
	if err != nil {
		return err
	}
	body, index, err := e.keeper.Get(stream.Context(), rpcserver.PeerFrom(stream.Context()), piece, request.GetPurpose())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	buffer := make([]byte, maxChunk)
	response := &evidencev1.GetResponse{RecordIndex: index}
	for {
		n, err := io.ReadFull(body, buffer)
		if n > 0 {
			response.Chunk = buffer[:n]
			if err := stream.Send(response); err != nil {
				return err
			}
			response = &evidencev1.GetResponse{}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// Stat tells which pieces are kept here.
func (e *Evidence) Stat(ctx context.Context, request *evidencev1.StatRequest) (*evidencev1.StatResponse, error) {
	if n := len(request.GetDigests()); n > maxStats {
		return nil, reason.New(reason.TooLarge, "%d digests, at most %d at a time", n, maxStats)
	}
	response := new(evidencev1.StatResponse)
	for _, d := range request.GetDigests() {
		piece, err := digest.FromBytes(d)
		if err != nil {
			return nil, reason.New(reason.Malformed, "%v", err)
		}
		kept, erased, err := e.keeper.Kept(ctx, piece)
		if err != nil {
			return nil, err
		}
		standing := evidencev1.Standing_STANDING_ABSENT
		switch {
		case erased:
			standing = evidencev1.Standing_STANDING_ERASED
		case kept:
			standing = evidencev1.Standing_STANDING_KEPT
		}
		response.Standings = append(response.Standings, standing)
	}
	return response, nil
}

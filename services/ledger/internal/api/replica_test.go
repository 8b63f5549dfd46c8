package api

import (
	"context"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/peers"
)

// cosignatures is a stream of a caller without an identity, whose node id is empty.
type cosignatures struct {
	grpc.ServerStream
	ctx      context.Context //nolint:containedctx // this is how gRPC hands a context to a stream's handler.
	requests []*replicav1.CosignaturesRequest
	answered bool
}

func (s *cosignatures) Context() context.Context     { return s.ctx }
func (s *cosignatures) SendHeader(metadata.MD) error { return nil }

func (s *cosignatures) SendAndClose(*replicav1.CosignaturesResponse) error {
	s.answered = true
	return nil
}

func (s *cosignatures) Recv() (*replicav1.CosignaturesRequest, error) {
	if len(s.requests) == 0 {
		return nil, io.EOF
	}
	next := s.requests[0]
	s.requests = s.requests[1:]
	return next, nil
}

func TestCosignaturesOfAStreamAreTheCallers(t *testing.T) {
	server, n, _ := serving(t)
	_, replica := New(server.Config)
	head := server.Machine.Head().Block
	under := func(name string) *replicav1.CosignRequest {
		t.Helper()
		checkpoint := tlog.Checkpoint{Origin: server.Origin, Size: head.Size, Root: head.Root}
		log, err := tlog.SignLog(n.Replicas[1].Log, checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		cosignature, err := tlog.Cosign(n.Replicas[1].Cosigner, name, checkpoint, uint64(n.NowUnix))
		if err != nil {
			t.Fatal(err)
		}
		return peers.ToRequest(certify.Signed{Height: head.Height, Checkpoint: checkpoint, Log: log, Cosignature: cosignature})
	}
	// The caller's own name is that of no replica: it does not count, and is no reason to end the stream.
	own, another := under(state.CosignerName(server.Origin, "")), under(state.CosignerName(server.Origin, n.Replicas[1].ID))
	for name, c := range map[string]struct {
		sent [][]*replicav1.CosignRequest
		want reason.Reason // of the stream's end
	}{
		"what does not count":     {[][]*replicav1.CosignRequest{{own, own}, {own}}, ""},
		"another's":               {[][]*replicav1.CosignRequest{{own, another}, {own}}, reason.PermissionDenied},
		"as many as there may be": {[][]*replicav1.CosignRequest{slices.Repeat([]*replicav1.CosignRequest{own}, peers.MaxCosignatures)}, ""},
		"one more":                {[][]*replicav1.CosignRequest{slices.Repeat([]*replicav1.CosignRequest{own}, peers.MaxCosignatures+1), {own}}, reason.Malformed},
		"none":                    {[][]*replicav1.CosignRequest{{}}, reason.Malformed},
		"no cosignature":          {[][]*replicav1.CosignRequest{{{Height: head.Height}}}, reason.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			stream := &cosignatures{ctx: t.Context()}
			for _, sent := range c.sent {
				stream.requests = append(stream.requests, &replicav1.CosignaturesRequest{Cosignatures: sent})
			}
			err := replica.Cosignatures(stream)
			if reason.Of(err) != c.want || (err == nil) != stream.answered {
				t.Errorf("ends with %v, answered %v; want %q", err, stream.answered, c.want)
			}
		})
	}
}

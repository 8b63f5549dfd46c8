package rpcserver

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// watchedHealth is the health service whose watches end when the server drains. The library's own never end by
// themselves, and a graceful stop would wait for them until its grace time is over.
type watchedHealth struct {
	*health.Server
	draining <-chan struct{} // closed when stopping begins
}

// Watch tells of every change; the last one of a draining server is NOT_SERVING, then the stream ends with UNAVAILABLE.
func (h *watchedHealth) Watch(request *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-h.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	watching := &watchStream{ServerStreamingServer: stream, ctx: ctx}
	err := h.Server.Watch(request, watching)
	cancel()
	<-ended
	select {
	case <-h.draining:
	default:
		return err
	}
	if watching.last == healthv1.HealthCheckResponse_SERVING {
		if err := stream.Send(&healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "the server is stopping")
}

// watchStream is a watch's stream that can be ended from here, and knows what it said last.
type watchStream struct {
	grpc.ServerStreamingServer[healthv1.HealthCheckResponse]
	ctx  context.Context //nolint:containedctx // this is how gRPC hands a context to a stream's handler.
	last healthv1.HealthCheckResponse_ServingStatus
}

func (s *watchStream) Context() context.Context { return s.ctx }

func (s *watchStream) Send(response *healthv1.HealthCheckResponse) error {
	s.last = response.GetStatus()
	return s.ServerStreamingServer.Send(response)
}

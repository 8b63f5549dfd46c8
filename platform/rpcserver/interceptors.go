package rpcserver

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// replyMargin is taken off a caller's deadline, at most a tenth of what is left, so that the handler's own timeout can
// still be reported instead of being cut off.
const replyMargin = 20 * time.Millisecond

// pushback tells the client's gRPC library not to repeat a call that a handler answered (gRFC A6). Only the caller can
// judge a refusal; the library repeats what the transport lost.
var pushback = metadata.Pairs("grpc-retry-pushback-ms", "-1")

func (s *Server) identifyUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	return next(context.WithValue(ctx, peerKey{}, identify(ctx, s.options.Registry)), request)
}

func (s *Server) identifyStream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx := stream.Context()
	return next(server, &streamWithContext{ServerStream: stream,
		ctx: context.WithValue(ctx, peerKey{}, identify(ctx, s.options.Registry))})
}

func (s *Server) mapUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	response, err := next(ctx, request)
	if err != nil {
		err = s.mapError(ctx, info.FullMethod, err)
		_ = grpc.SetTrailer(ctx, pushback)
		return nil, err
	}
	return response, nil
}

func (s *Server) mapStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	err := next(server, stream)
	if err != nil {
		err = s.mapError(stream.Context(), info.FullMethod, err)
		stream.SetTrailer(pushback)
	}
	return err
}

// mapError hides what has no reason from the caller, and therefore logs it here.
func (s *Server) mapError(ctx context.Context, method string, err error) error {
	mapped := rpcerror.ToStatus(err)
	if entry, ok := rpcerror.Lookup(reason.Of(err)); ok { // what another server said may be no reason of the list
		s.refused.WithLabelValues(string(entry.Reason)).Inc()
	}
	if status.Code(mapped) == codes.Internal {
		s.options.Logger.ErrorContext(ctx, "internal error", "method", method, "error", err)
	}
	return mapped
}

func (s *Server) admitUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.allow.authorise(info.FullMethod, PeerFrom(ctx), s.options.Registry); err != nil {
		return nil, err
	}
	return next(ctx, request)
}

func (s *Server) admitStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	spki, shown := shownKey(stream.Context())
	admitted := &admittedStream{ServerStream: stream, admit: func() error {
		return s.allow.authorise(info.FullMethod, holder(s.options.Registry, spki, shown), s.options.Registry)
	}}
	if err := admitted.admit(); err != nil {
		return err
	}
	return next(server, admitted)
}

// boundUnary gives every unary call a deadline a little before the caller's.
func (s *Server) boundUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(s.config.UnaryTimeout)
	}
	left := time.Until(deadline)
	if left <= 0 {
		return nil, context.DeadlineExceeded
	}
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(-min(replyMargin, left/10)))
	defer cancel()
	return next(ctx, request)
}

// recovered turns a handler's panic into an internal error. State shared with other calls must not be left broken by a
// panic: parts that cannot promise that run outside of handlers, where a panic ends the process.
func (s *Server) recovered(ctx context.Context, cause any) error {
	s.options.Logger.ErrorContext(ctx, "handler panicked", "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return status.Error(codes.Internal, "internal error; the server's log tells more")
}

// streamWithContext replaces the context of a stream.
type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // this is how gRPC hands a context to a stream's handler.
}

func (s *streamWithContext) Context() context.Context { return s.ctx }

// perCall keeps an interceptor that is about calls from the messages of a stream: it changes the context and sees the end.
func perCall(intercept grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return intercept(server, stream, info, func(server any, changed grpc.ServerStream) error {
			return next(server, &streamWithContext{ServerStream: stream, ctx: changed.Context()})
		})
	}
}

// admittedStream asks the registry again for every message: streams last, registrations may not.
type admittedStream struct {
	grpc.ServerStream
	admit func() error
}

func (s *admittedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	return s.admit()
}

func (s *admittedStream) SendMsg(message any) error {
	if err := s.admit(); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(message)
}

// callLogger adapts slog to the middleware: its levels are slog's.
func callLogger(logger *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, message string, fields ...any) {
		logger.Log(ctx, slog.Level(level), message, fields...)
	})
}

// levelOf keeps the hot path quiet: answers and refusals are the callers' business, faults are ours.
func levelOf(code codes.Code) logging.Level {
	switch code {
	case codes.Internal, codes.DataLoss, codes.Unknown, codes.Unimplemented:
		return logging.LevelError
	case codes.PermissionDenied, codes.Unauthenticated:
		return logging.LevelWarn
	default:
		return logging.LevelDebug
	}
}

func callerFields(ctx context.Context) logging.Fields {
	caller := PeerFrom(ctx)
	fields := logging.Fields{"peer.role", string(caller.Role)}
	if caller.ID != "" {
		fields = append(fields, "peer.id", caller.ID, "peer.organisation", caller.Organisation)
	}
	if caller.SPKI != (identity.SPKI{}) {
		fields = append(fields, "peer.spki", identity.Short(caller.SPKI))
	}
	return fields
}

// Overloaded is what a handler returns when its queue is full: RESOURCE_EXHAUSTED with the delay after which the caller
// may try again. Queue names the queue and its bound, such as "proposals, 256 of 256".
func Overloaded(queue string, retryAfter time.Duration) error {
	return rpcerror.With(reason.New(reason.Overloaded, "queue full: %s", queue), rpcerror.RetryAfter(retryAfter))
}

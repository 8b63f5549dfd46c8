package api

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// guard stands around every handler of both services.
//
// Invariants:
//   - After one read found damaged bytes no call is served any more: whatever
//     else lies on that disk is not to be trusted either.
//   - After stop no submission is taken in, and what waits is let go.
type guard struct {
	fatal func(error) // ends the node; called once

	mu       sync.Mutex
	damage   error // the first
	stopping bool
	running  int           // submissions
	idle     chan struct{} // closed when stopping and running is 0

	stopped context.Context //nolint:containedctx // it ends when waiting calls are to end; each call's own is joined to it.
	letGo   context.CancelFunc
}

func newGuard(fatal func(error)) *guard {
	g := &guard{fatal: fatal, idle: make(chan struct{})}
	g.stopped, g.letGo = context.WithCancel(context.Background())
	return g
}

// wrap makes the guarded form of a service.
func (g *guard) wrap(service grpc.ServiceDesc) *grpc.ServiceDesc {
	methods := make([]grpc.MethodDesc, len(service.Methods))
	for i, m := range service.Methods {
		methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: func(server any, ctx context.Context, decode func(any) error, outer grpc.UnaryServerInterceptor) (any, error) {
			return m.Handler(server, ctx, decode, func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				guarded := func(ctx context.Context, request any) (response any, err error) {
					err = g.call(ctx, func(ctx context.Context) error {
						response, err = handle(ctx, request)
						return err
					})
					return response, err
				}
				if outer == nil {
					return guarded(ctx, request)
				}
				return outer(ctx, request, info, guarded)
			})
		}}
	}
	streams := make([]grpc.StreamDesc, len(service.Streams))
	for i, s := range service.Streams {
		streams[i] = s
		streams[i].Handler = func(server any, stream grpc.ServerStream) error {
			return g.call(stream.Context(), func(ctx context.Context) error {
				return s.Handler(server, &boundStream{ServerStream: stream, ctx: ctx})
			})
		}
	}
	service.Methods, service.Streams = methods, streams
	return &service
}

// boundStream has the context that ends with the replica.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // this is how gRPC hands a context to a stream's handler.
}

func (s *boundStream) Context() context.Context { return s.ctx }

func (g *guard) call(ctx context.Context, handle func(context.Context) error) error {
	if err := g.damaged(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(g.stopped, func() { cancel(errStopping) })()
	err := handle(ctx)
	var lost *storage.DataLossError
	if errors.As(err, &lost) {
		return g.fail(lost)
	}
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	return err
}

var errStopping = reason.New(reason.NotReady, "this replica is stopping")

func (g *guard) damaged() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.damage
}

// fail makes the first damage that was found the answer to everything.
func (g *guard) fail(lost *storage.DataLossError) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.damage == nil {
		g.damage = reason.New(reason.DataLoss, "this replica's disk is damaged and it serves nothing any more: %v", lost)
		g.fatal(g.damage)
	}
	return g.damage
}

// enter counts a submission in; leave counts it out.
func (g *guard) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		return reason.New(reason.NotLeader, "this replica is stopping")
	}
	g.running++
	return nil
}

func (g *guard) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running--; g.stopping && g.running == 0 {
		close(g.idle)
	}
}

// stop takes nothing in any more, waits until what came in is answered or ctx
// ends, and lets go of all calls that still wait.
func (g *guard) stop(ctx context.Context) {
	g.mu.Lock()
	if !g.stopping {
		if g.stopping = true; g.running == 0 {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.idle:
	case <-ctx.Done():
	}
	g.letGo()
}

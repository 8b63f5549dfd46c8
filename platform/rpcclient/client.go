// Package rpcclient opens gRPC connections to nodes of the network: TLS 1.3 with the server's key pinned or looked up
// in the registry, errors as the domain knows them, sane deadlines and retries.
//
// Source: architecture, rule N1; gRFC A6 (client retries), gRFC A8 (client keepalive).
//
// Invariants:
//   - no request leaves before the server proved to hold a key that the check accepts;
//   - a unary call always has a deadline;
//   - the library repeats only what the transport lost, never what a server answered; that is the caller's decision.
package rpcclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/platform/tracing"
)

// DefaultMaxMessageBytes is rpcserver's default, with room for nothing else: both sides must agree.
const DefaultMaxMessageBytes = 16 << 20

// DefaultUnaryTimeout is the deadline of a unary call whose context has none.
const DefaultUnaryTimeout = 30 * time.Second

// retryPolicy repeats a call that the transport lost (UNAVAILABLE without an answer; servers of this project forbid the
// repetition of what they answered, see rpcserver). Every request of this project is idempotent: a submission is
// identified by its bytes. The throttle stops retries while most calls fail.
const retryPolicy = `{
	"methodConfig": [{
		"name": [{}],
		"retryPolicy": {
			"maxAttempts": 4,
			"initialBackoff": "0.05s",
			"maxBackoff": "1s",
			"backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}],
	"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
}`

// Options says who calls and whom.
type Options struct {
	Node            *identity.Node                // this end's key; nil calls anonymously, as the public
	Server          identity.Check                // required: identity.Pin(...) or identity.Registered(...)
	MaxMessageBytes int                           // largest request or answer; 0 means DefaultMaxMessageBytes
	UnaryTimeout    time.Duration                 // 0 means DefaultUnaryTimeout
	Metrics         *grpcprometheus.ClientMetrics // nil means none; one set serves all connections of a process
	Logger          *slog.Logger                  // nil means slog.Default()
	Traces          *tracing.Traces               // calls carry their trace on; nil means that none does
}

// Dial prepares a connection to target ("host:port") without connecting yet: gRPC connects with the first call and
// again whenever the connection was lost. A server that fails the check shows as UNAVAILABLE whose detail names the
// keys. The caller closes the connection.
func Dial(target string, options Options) (*grpc.ClientConn, error) {
	if options.Server == nil {
		return nil, fmt.Errorf("dial %s: no check of the server's key", target)
	}
	if options.MaxMessageBytes == 0 {
		options.MaxMessageBytes = DefaultMaxMessageBytes
	}
	if options.UnaryTimeout == 0 {
		options.UnaryTimeout = DefaultUnaryTimeout
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	unary := []grpc.UnaryClientInterceptor{mapUnary, boundUnary(options.UnaryTimeout)}
	stream := []grpc.StreamClientInterceptor{mapStream}
	if options.Metrics != nil {
		unary = append(unary, options.Metrics.UnaryClientInterceptor())
		stream = append(stream, options.Metrics.StreamClientInterceptor())
	}
	connection, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(options.credentials(target)),
		grpc.WithDefaultServiceConfig(retryPolicy),
		// What a name server says decides nothing but an address. Asked for a service configuration, one that does not
		// answer such questions would delay every connection by ten seconds.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(options.MaxMessageBytes),
			grpc.MaxCallSendMsgSize(options.MaxMessageBytes),
		),
		// As rpcserver: TLS keeps a record that is read in parts.
		grpc.WithReadBufferSize(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		options.Traces.DialOption(),
		grpc.WithChainUnaryInterceptor(unary...),
		grpc.WithChainStreamInterceptor(stream...),
	)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return connection, nil
}

// credentials are TLS with this end's key, as long as it is the key.
func (o Options) credentials(target string) credentials.TransportCredentials {
	plain := credentials.NewTLS(o.tls(target))
	if o.Node == nil {
		return plain
	}
	return renewing{plain, o.Node}
}

// tls wraps the check so that a wrong key is logged where somebody looks: gRPC hides handshake errors in its retries.
func (o Options) tls(target string) *tls.Config {
	check := func(spki identity.SPKI) error {
		err := o.Server(spki)
		if err != nil {
			o.Logger.Warn("server refused", "target", target, "error", err) //nolint:noctx // a TLS callback has no context.
		}
		return err
	}
	if o.Node == nil {
		return identity.AnonymousTLS(check)
	}
	return o.Node.ClientTLS(check)
}

func mapUnary(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, callOptions ...grpc.CallOption) error {
	return rpcerror.FromStatus(invoke(ctx, method, request, reply, connection, callOptions...))
}

func boundUnary(timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, callOptions ...grpc.CallOption) error {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return invoke(ctx, method, request, reply, connection, callOptions...)
	}
}

func mapStream(ctx context.Context, desc *grpc.StreamDesc, connection *grpc.ClientConn, method string, open grpc.Streamer, callOptions ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, connection, method, callOptions...)
	if err != nil {
		return nil, rpcerror.FromStatus(err)
	}
	return &mappedStream{stream}, nil
}

// mappedStream gives a stream's errors the domain's form; io.EOF passes unchanged.
type mappedStream struct {
	grpc.ClientStream
}

func (s *mappedStream) RecvMsg(message any) error {
	return rpcerror.FromStatus(s.ClientStream.RecvMsg(message))
}

func (s *mappedStream) SendMsg(message any) error {
	return rpcerror.FromStatus(s.ClientStream.SendMsg(message))
}

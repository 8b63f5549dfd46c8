// Package rpcserver is the gRPC server that all services share: mutual TLS, an allow-list of roles for each method,
// limits, errors, logs, metrics, traces, health and reflection.
//
// Source: architecture, rule N1; gRPC core concepts (deadlines), gRPC health checking protocol, gRFC A6 (retry
// pushback), gRFC A8/A9 (keepalive).
//
// Invariants:
//   - a method without an entry in the allow-list is served to nobody, and the server does not start with such a method;
//   - the caller's role is asked of the registry for each call and each message of a stream, so that a revocation ends
//     what is already connected;
//   - nothing is decoded beyond the size limit, and no handler runs for a caller that is not allowed;
//   - every error that leaves went through package rpcerror.
package rpcserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/tracing"
)

// Config is what an operator decides. The zero value of every field but Listen is usable.
type Config struct {
	Listen            string        `yaml:"listen" doc:"host:port to listen on; port 0 takes a free one"`
	MaxMessageBytes   int           `yaml:"max_message_bytes" doc:"largest request or answer; 0 means the service's own default"`
	MaxStreams        uint32        `yaml:"max_streams" doc:"calls at a time on one connection; 0 means 1024"`
	UnaryTimeout      time.Duration `yaml:"unary_timeout" doc:"deadline of a unary call that brings none; 0 means 30s"`
	StopGrace         time.Duration `yaml:"stop_grace" doc:"time for calls in flight when stopping; 0 means 10s"`
	WithoutReflection bool          `yaml:"without_reflection" doc:"true hides the list of methods (gRPC reflection)"`
}

// DefaultMaxMessageBytes bounds a message when neither the configuration nor the service says: a submission of a few hundred records
// with their raw vectors fits.
const DefaultMaxMessageBytes = 16 << 20

// Validate reports every wrong field.
func (c Config) Validate() error {
	var failures []error
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		failures = append(failures, fmt.Errorf("listen: %w", err))
	}
	if c.MaxMessageBytes < 0 {
		failures = append(failures, fmt.Errorf("max_message_bytes: %d, must not be negative", c.MaxMessageBytes))
	}
	if c.UnaryTimeout < 0 || c.StopGrace < 0 {
		failures = append(failures, fmt.Errorf("unary_timeout %s, stop_grace %s: must not be negative", c.UnaryTimeout, c.StopGrace))
	}
	return errors.Join(failures...)
}

func (c Config) withDefaults() Config {
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = DefaultMaxMessageBytes
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 1024
	}
	if c.UnaryTimeout == 0 {
		c.UnaryTimeout = 30 * time.Second
	}
	if c.StopGrace == 0 {
		c.StopGrace = 10 * time.Second
	}
	return c
}

// Options is what the program brings.
type Options struct {
	Node     *identity.Node        // required: the server's key
	Registry identity.Registry     // who is who; nil knows nobody
	Allow    Allow                 // required: who may call what; health and reflection are public by themselves
	Logger   *slog.Logger          // nil means slog.Default()
	Metrics  prometheus.Registerer // nil means that metrics are not exported
	Traces   *tracing.Traces       // calls join the trace that they carry; nil means that none does
	// WindowBytes is how much a stream and a connection may have on its way unread. 0 lets gRPC find out how much pays, up
	// to 16 MiB, with pings: nothing among few busy connections; 600 meters and their gateway save a tenth of their CPU without.
	WindowBytes int32
}

// Server is a listening gRPC server. Register services on it, then Run it.
type Server struct {
	config   Config
	options  Options
	allow    Allow
	listener net.Listener
	grpc     *grpc.Server
	health   *health.Server
	draining chan struct{} // closed when Run begins to stop
	metrics  *grpcprometheus.ServerMetrics
	refused  *prometheus.CounterVec
}

// New listens at once, so that Addr is known before Run, and serves nothing until Run. Call Close if Run is never
// called.
func New(config Config, options Options) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("rpc server: %w", err)
	}
	if options.Node == nil {
		return nil, errors.New("rpc server: no node key")
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	s := &Server{config: config.withDefaults(), options: options, allow: options.Allow.clone(), health: health.NewServer(), draining: make(chan struct{})}
	s.metrics = grpcprometheus.NewServerMetrics(grpcprometheus.WithServerHandlingTimeHistogram())
	s.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lacre_rpc_refusals_total", Help: "Calls refused since the start, by reason.",
	}, []string{"reason"})
	if options.Metrics != nil {
		if err := errors.Join(options.Metrics.Register(s.metrics), options.Metrics.Register(s.refused)); err != nil {
			return nil, fmt.Errorf("rpc server: %w", err)
		}
	}
	s.grpc = grpc.NewServer(s.serverOptions()...)
	listener, err := net.Listen("tcp", config.Listen) //nolint:noctx // binding a local address does not block.
	if err != nil {
		return nil, fmt.Errorf("rpc server: %w", err)
	}
	s.listener = listener
	return s, nil
}

// serverOptions puts the interceptors in order, the outermost first: who calls, count, log, map errors, admit, bound in
// time, catch panics.
func (s *Server) serverOptions() []grpc.ServerOption {
	logger := callLogger(s.options.Logger)
	loggingOptions := []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(levelOf),
		logging.WithFieldsFromContext(callerFields),
	}
	onPanic := recovery.WithRecoveryHandlerContext(s.recovered)
	var window []grpc.ServerOption
	if n := s.options.WindowBytes; n > 0 {
		window = []grpc.ServerOption{grpc.StaticStreamWindowSize(n), grpc.StaticConnWindowSize(n)}
	}
	return append(window,
		grpc.Creds(credentials.NewTLS(s.options.Node.ServerTLS())),
		// TLS keeps a record that is read in parts: another buffer for each connection would be copied through.
		grpc.ReadBufferSize(0),
		grpc.MaxRecvMsgSize(s.config.MaxMessageBytes),
		grpc.MaxSendMsgSize(s.config.MaxMessageBytes),
		grpc.MaxConcurrentStreams(s.config.MaxStreams),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// rpcclient pings every 20 s; anything much more frequent is a nuisance.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		s.options.Traces.ServerOption(),
		grpc.ChainUnaryInterceptor(
			s.identifyUnary,
			s.metrics.UnaryServerInterceptor(),
			logging.UnaryServerInterceptor(logger, loggingOptions...),
			s.mapUnary,
			s.admitUnary,
			s.boundUnary,
			recovery.UnaryServerInterceptor(onPanic),
		),
		grpc.ChainStreamInterceptor(
			s.identifyStream,
			s.metrics.StreamServerInterceptor(),
			perCall(logging.StreamServerInterceptor(logger, loggingOptions...)),
			s.mapStream,
			s.admitStream,
			recovery.StreamServerInterceptor(onPanic),
		),
	)
}

// RegisterService makes Server a grpc.ServiceRegistrar: pb.RegisterXServer(server, impl).
func (s *Server) RegisterService(desc *grpc.ServiceDesc, implementation any) {
	s.grpc.RegisterService(desc, implementation)
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// SetServing tells the health service whether a service ("" for the server as a whole) is ready. A service that was
// never set is unknown to health checks; the whole is serving from Run on, unless it was set before.
func (s *Server) SetServing(service string, ready bool) {
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if ready {
		status = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(service, status)
}

// Ready tells for each service whether it is serving, by the same record that health checks answer from; "" is the
// server as a whole.
func (s *Server) Ready() map[string]bool {
	list, err := s.health.List(context.Background(), &healthv1.HealthListRequest{})
	if err != nil {
		return map[string]bool{"": false} // more services than the library lists: said as not ready rather than guessed
	}
	ready := make(map[string]bool, len(list.GetStatuses()))
	for service, status := range list.GetStatuses() {
		ready[service] = status.GetStatus() == healthv1.HealthCheckResponse_SERVING
	}
	return ready
}

// Close releases the port of a server that was never run.
func (s *Server) Close() error {
	s.grpc.Stop()
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves until ctx is cancelled, then refuses new calls, lets those in flight end within the grace time, cuts off
// the rest, and returns nil; an error only if handlers do not end even then. It fails at once if the allow-list does not match the registered services.
func (s *Server) Run(ctx context.Context) error {
	if err := s.allow.check(s.grpc.GetServiceInfo()); err != nil {
		return errors.Join(fmt.Errorf("rpc server: %w", err), s.Close())
	}
	s.registerBuiltIn()
	s.metrics.InitializeMetrics(s.grpc)
	s.options.Logger.InfoContext(ctx, "serving", "address", s.Addr().String(), "spki", identity.Short(s.options.Node.SPKI()))

	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("rpc server: %w", err)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	close(s.draining)
	return s.stop(ctx)
}

// registerBuiltIn adds health and reflection and opens them to everybody.
func (s *Server) registerBuiltIn() {
	before := s.grpc.GetServiceInfo()
	healthv1.RegisterHealthServer(s.grpc, &watchedHealth{Server: s.health, draining: s.draining})
	if !s.config.WithoutReflection {
		reflection.Register(s.grpc)
	}
	for service, info := range s.grpc.GetServiceInfo() {
		if _, own := before[service]; own {
			continue
		}
		for _, m := range info.Methods {
			s.allow["/"+service+"/"+m.Name] = []identity.Role{identity.RolePublic}
		}
	}
}

// stop ends in at most twice the grace time: once for calls to end, once more for handlers to notice that they were cut
// off. A handler that ignores its context outlives that, and the error says so.
func (s *Server) stop(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	grace := time.NewTimer(s.config.StopGrace)
	defer grace.Stop()
	select {
	case <-stopped:
		return nil
	case <-grace.C:
	}
	s.options.Logger.WarnContext(ctx, "calls cut off after the grace time", "grace", s.config.StopGrace)
	go s.grpc.Stop()
	grace.Reset(s.config.StopGrace)
	select {
	case <-stopped:
		return nil
	case <-grace.C:
		return fmt.Errorf("rpc server: handlers still run %s after they were cut off", s.config.StopGrace)
	}
}

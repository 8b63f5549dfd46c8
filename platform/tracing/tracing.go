// Package tracing sends OpenTelemetry traces of measurements to a collector: where one spent its time, from the meter's
// SDK through gateway, endorsers and leader.
//
// Source: OpenTelemetry specification, Trace SDK and OTLP/gRPC; W3C Trace Context.
//
// Invariants:
//   - A nil *Traces is tracing switched off: every method works, records nothing, and puts no handler on any call.
//   - A collector that is slow, dead or was never there costs a bounded queue and nothing else: no call waits for it, and
//     spans that find no room are dropped.
//   - A trace decides nothing. Whoever sends one chooses its id alone: each node samples by its own ratio, which the id
//     answers alike at all nodes of one ratio, so no caller makes a node export more than that.
//   - Only measurements are traced: a call that belongs to no span, such as a follower's stream, begins no trace.
package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/platform/version"
)

// DefaultRatio is the share of measurements that is traced unless the configuration says otherwise.
const DefaultRatio = 0.01

const (
	queueSpans    = 4096            // spans that wait for the collector; more are dropped
	batchSpans    = 512             // of one export
	batchDelay    = 2 * time.Second // until a batch goes that is not full
	exportTimeout = 5 * time.Second // of one export; what fails is dropped, not repeated
	flushTimeout  = 3 * time.Second // at the end, for what is queued
)

// Config is what an operator decides. The zero value sends nothing.
type Config struct {
	Endpoint    string  `yaml:"endpoint" doc:"host:port of an OpenTelemetry collector (OTLP over gRPC); empty sends nothing"`
	Plaintext   bool    `yaml:"plaintext" doc:"true speaks without TLS, as to a collector on this machine"`
	CA          string  `yaml:"ca" doc:"file of the certificates (PEM) that may sign the collector's; empty: the system's"`
	Certificate string  `yaml:"certificate" doc:"file of a certificate chain (PEM) to show to the collector; empty shows none"`
	Key         string  `yaml:"key" doc:"file of that certificate's key (PEM)"`
	Ratio       float64 `yaml:"ratio" doc:"share of the measurements to trace, up to 1; 0 means 0.01. Nodes of one ratio trace the same ones"`
}

// Validate reports every wrong field.
func (c Config) Validate() error {
	var failures []error
	if c.Ratio < 0 || c.Ratio > 1 || c.Ratio != c.Ratio {
		failures = append(failures, fmt.Errorf("ratio: %v, want above 0 and up to 1", c.Ratio))
	}
	if c.Endpoint != "" {
		if _, _, err := net.SplitHostPort(c.Endpoint); err != nil {
			failures = append(failures, fmt.Errorf("endpoint: %w", err))
		}
	}
	if c.Plaintext && (c.CA != "" || c.Certificate != "") {
		failures = append(failures, errors.New("plaintext: true, and ca or certificate are given; without TLS nobody looks at them"))
	}
	if (c.Certificate == "") != (c.Key == "") {
		failures = append(failures, fmt.Errorf("certificate %q and key %q: give both or neither", c.Certificate, c.Key))
	}
	return errors.Join(failures...)
}

// Options is what the program brings.
type Options struct {
	Service string                // "ledger", "compute", ...
	NodeID  string                // as registered
	Metrics prometheus.Registerer // nil means that spans are not counted
	Logger  *slog.Logger          // nil means slog.Default()
}

// Traces makes spans and sends them. Make it with New, then Run it, or Close it.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	log      *slog.Logger
}

// propagator writes and reads the W3C headers traceparent and tracestate.
var propagator = propagation.TraceContext{}

// New prepares the connection to the collector and does not wait for it. Without an endpoint the answer is nil, which
// is tracing switched off.
func New(c Config, o Options) (*Traces, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if c.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil *Traces is usable: it is tracing switched off.
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	security, err := c.security()
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	client, err := otlptrace.New(context.Background(), otlptracegrpc.NewClient(
		otlptracegrpc.WithEndpoint(c.Endpoint), security, otlptracegrpc.WithTimeout(exportTimeout),
		// A collector's trouble is not answered with more load, and spans are not worth keeping.
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{}),
		// What a name server says decides nothing but an address (as in rpcclient).
		otlptracegrpc.WithDialOption(grpc.WithDisableServiceConfig()),
	))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	counted := newExporter(client, o.Logger)
	if o.Metrics != nil {
		if err := o.Metrics.Register(counted); err != nil {
			return nil, errors.Join(fmt.Errorf("tracing: %w", err), client.Shutdown(context.Background()))
		}
	}
	if c.Ratio == 0 {
		c.Ratio = DefaultRatio
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(newSampler(c.Ratio)),
		sdktrace.WithSpanProcessor(counter{counted}),
		sdktrace.WithBatcher(counted, sdktrace.WithMaxQueueSize(queueSpans), sdktrace.WithMaxExportBatchSize(batchSpans),
			sdktrace.WithBatchTimeout(batchDelay), sdktrace.WithExportTimeout(exportTimeout)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "lacre-"+o.Service),
			attribute.String("service.instance.id", o.NodeID),
			attribute.String("service.version", version.String()),
		)),
	)
	return &Traces{provider: provider, tracer: provider.Tracer("github.com/lacre-metrology/lacre"), log: o.Logger}, nil
}

// CheckFiles reports a file that the configuration names and that cannot be used.
func (c Config) CheckFiles() error {
	_, err := c.security()
	return err
}

// security is TLS unless the operator said otherwise.
func (c Config) security() (otlptracegrpc.Option, error) {
	if c.Plaintext {
		return otlptracegrpc.WithInsecure(), nil
	}
	own := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		own.RootCAs = x509.NewCertPool()
		if !own.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", c.CA)
		}
	}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		own.Certificates = []tls.Certificate{pair}
	}
	return otlptracegrpc.WithTLSCredentials(credentials.NewTLS(own)), nil
}

// Run waits for ctx to end, then sends what is queued, for a bounded time, and ends the connection. A collector that
// does not take it is no failure of the node.
func (t *Traces) Run(ctx context.Context) error {
	if t == nil {
		return nil
	}
	<-ctx.Done()
	t.end(context.WithoutCancel(ctx))
	return nil
}

// Close is the end of Traces that are never run.
func (t *Traces) Close() error {
	if t != nil {
		t.end(context.Background())
	}
	return nil
}

func (t *Traces) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.WarnContext(ctx, "the last spans were not sent", "error", err)
	}
}

// ServerOption puts calls that belong to a trace into it.
func (t *Traces) ServerOption() grpc.ServerOption {
	if t == nil {
		return grpc.EmptyServerOption{}
	}
	return grpc.StatsHandler(otelgrpc.NewServerHandler(t.handler()...))
}

// DialOption lets calls carry the trace that they belong to.
func (t *Traces) DialOption() grpc.DialOption {
	if t == nil {
		return grpc.EmptyDialOption{}
	}
	return grpc.WithStatsHandler(otelgrpc.NewClientHandler(t.handler()...))
}

func (t *Traces) handler() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagator),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()), // calls are counted by the Prometheus interceptors
	}
}

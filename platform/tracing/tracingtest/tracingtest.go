// Package tracingtest is an OpenTelemetry collector for tests: a real gRPC server that keeps the spans it is sent.
//
// Source: opentelemetry-proto, TraceService (OTLP/gRPC).
package tracingtest

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// Span is a span that the collector was sent.
type Span struct {
	Node          string // service.instance.id of who sent it
	Service       string // service.name
	Name          string
	Trace, ID     string // hexadecimal
	Parent        string // "" for the root of its trace
	Links         []string
	Error         string // "" when it is well
	Began, Ended  uint64 // Unix nanoseconds
	Attributes    map[string]string
	Instrumenting string // the library that made it
}

// Collector keeps spans. It is safe for concurrent use.
type Collector struct {
	collectorv1.UnimplementedTraceServiceServer
	Address string // host:port, plain text unless options said otherwise

	mu      sync.Mutex
	spans   []Span
	changed chan struct{} // closed at the next change
}

// New serves until the test ends.
func New(t testing.TB, options ...grpc.ServerOption) *Collector {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{Address: listener.Addr().String(), changed: make(chan struct{})}
	server := grpc.NewServer(options...)
	collectorv1.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("collector: %v", err)
		}
	})
	return c
}

// Export implements TraceService.
func (c *Collector) Export(_ context.Context, request *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range request.GetResourceSpans() {
		resource := values(from.GetResource().GetAttributes())
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := spanOf(s)
				span.Node, span.Service, span.Instrumenting = resource["service.instance.id"], resource["service.name"], scope.GetScope().GetName()
				c.spans = append(c.spans, span)
			}
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func spanOf(s *tracev1.Span) Span {
	span := Span{
		Name: s.GetName(), Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
		Began: s.GetStartTimeUnixNano(), Ended: s.GetEndTimeUnixNano(), Attributes: values(s.GetAttributes()),
	}
	for _, l := range s.GetLinks() {
		span.Links = append(span.Links, hex.EncodeToString(l.GetSpanId()))
	}
	if s.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR {
		span.Error = "error: " + s.GetStatus().GetMessage()
	}
	return span
}

func values(attributes []*commonv1.KeyValue) map[string]string {
	m := make(map[string]string, len(attributes))
	for _, a := range attributes {
		switch v := a.GetValue().GetValue().(type) {
		case *commonv1.AnyValue_StringValue:
			m[a.GetKey()] = v.StringValue
		case *commonv1.AnyValue_IntValue:
			m[a.GetKey()] = fmt.Sprint(v.IntValue)
		default:
			m[a.GetKey()] = a.GetValue().String()
		}
	}
	return m
}

// Spans are those that came so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Wait returns the spans once they are enough, or fails the test when ctx ends.
func (c *Collector) Wait(ctx context.Context, t testing.TB, enough func([]Span) bool) []Span {
	t.Helper()
	for {
		c.mu.Lock()
		changed, spans := c.changed, append([]Span(nil), c.spans...)
		c.mu.Unlock()
		if enough(spans) {
			return spans
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("the collector waits in vain; it has %d spans:\n%s", len(spans), Draw(spans))
		}
	}
}

// Draw is the spans as trees, one a line, for messages.
func Draw(spans []Span) string {
	known := make(map[string]bool, len(spans))
	below := make(map[string][]Span)
	for _, s := range spans {
		known[s.ID] = true
		below[s.Parent] = append(below[s.Parent], s)
	}
	var out strings.Builder
	var draw func(list []Span, depth int)
	draw = func(list []Span, depth int) {
		for _, s := range list {
			fmt.Fprintf(&out, "%s%s  %s %dus %s\n", strings.Repeat("  ", depth), s.Name, s.Node, (s.Ended-s.Began)/1000, s.Error)
			draw(below[s.ID], depth+1)
		}
	}
	for parent, list := range below {
		if !known[parent] {
			draw(list, 0)
		}
	}
	return out.String()
}

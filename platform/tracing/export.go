package tracing

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exporter counts what is sent, and says once when the collector stops taking it, and once when it takes it again.
type exporter struct {
	sdktrace.SpanExporter
	log *slog.Logger

	ended, sent, failed atomic.Uint64 // spans
	failing             atomic.Bool
	description         *prometheus.Desc
}

func newExporter(to sdktrace.SpanExporter, log *slog.Logger) *exporter {
	return &exporter{SpanExporter: to, log: log, description: prometheus.NewDesc("lacre_trace_spans_total",
		"Spans of traces since the start: ended, of these sent to the collector, and failed to be sent. What is in none of the two waits, or found no room.",
		[]string{"state"}, nil)}
}

// ExportSpans never fails: the library would only log it, apart from the service's own log.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.failed.Add(uint64(len(spans)))
		if !e.failing.Swap(true) {
			e.log.WarnContext(ctx, "the collector takes no traces; they are dropped until it does", "error", err)
		}
		return nil
	}
	e.sent.Add(uint64(len(spans)))
	if e.failing.Swap(false) {
		e.log.InfoContext(ctx, "the collector takes traces again")
	}
	return nil
}

// Describe implements prometheus.Collector.
func (e *exporter) Describe(to chan<- *prometheus.Desc) { to <- e.description }

// Collect implements prometheus.Collector.
func (e *exporter) Collect(to chan<- prometheus.Metric) {
	for state, count := range map[string]*atomic.Uint64{"ended": &e.ended, "sent": &e.sent, "failed": &e.failed} {
		to <- prometheus.MustNewConstMetric(e.description, prometheus.CounterValue, float64(count.Load()), state)
	}
}

// counter is a span processor that counts.
type counter struct{ of *exporter }

func (c counter) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (c counter) OnEnd(sdktrace.ReadOnlySpan)                     { c.of.ended.Add(1) }
func (c counter) Shutdown(context.Context) error                  { return nil }
func (c counter) ForceFlush(context.Context) error                { return nil }

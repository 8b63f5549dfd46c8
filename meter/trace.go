package meter

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/lacre-metrology/lacre/core/sample"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
)

// trace begins the span of one sending of a sample, and says what the gateway is told of it; nil and "" without a
// Tracer. A sample that is sent again has another.
func (m *Meter) trace(s *sample.Sample) (span trace.Span, traceparent string) {
	if m.config.Tracer == nil {
		return nil, ""
	}
	ctx, span := m.config.Tracer.Start(context.Background(), "meter.sample", trace.WithAttributes(
		attribute.String("lacre.meter", s.MeterID), attribute.Int64("lacre.counter", int64(s.Counter)),
		attribute.String("lacre.sample", s.Digest.String()),
	))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return span, carrier["traceparent"]
}

// endSpan ends a span, if there is one; a failure is "" for a receipt.
func endSpan(span trace.Span, failure string) {
	if span == nil {
		return
	}
	if failure != "" {
		span.SetStatus(codes.Error, failure)
	}
	span.End()
}

// outcome words what became of a sending; "" for a receipt that was taken.
func outcome(a *ingestv1.SubmitResponse, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case a.GetRefusal() != nil:
		return a.GetRefusal().GetReason()
	case a.GetPending() != nil:
		return "pending"
	}
	return ""
}

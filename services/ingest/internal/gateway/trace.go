package gateway

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/lacre-metrology/lacre/platform/tracing"
)

// trace begins the span of a sample that was taken: below its meter's, if it sent one.
func (g *Gateway) trace(s *Sample, traceparent string) {
	if g.Traces == nil {
		return
	}
	_, s.span = g.Traces.Start(g.Traces.FromParent(context.Background(), traceparent), "gateway.sample")
	if s.span.Recording() {
		s.span.Set(attribute.String("lacre.meter", s.Parsed.MeterID), attribute.Int64("lacre.counter", int64(s.Parsed.Counter)),
			attribute.String("lacre.sample", s.Parsed.Digest.String()))
	}
}

// traceBatch begins the span of one round of a batch; everything that is done once for all of it is below.
func (g *Gateway) traceBatch(ctx context.Context, batch []*Sample) (context.Context, tracing.Span) {
	if g.Traces == nil {
		return ctx, tracing.Span{}
	}
	spans := make([]tracing.Span, len(batch))
	for i, s := range batch {
		spans[i] = s.span
	}
	return g.Traces.Batch(ctx, "gateway.batch", spans, attribute.Int("lacre.samples", len(batch)))
}

package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// maxTraceParent is the length of a traceparent of version 00; one of a later version may be longer, and is not read.
const maxTraceParent = 55

// Span is a stretch of one measurement's, or one batch's, way. The zero value records nothing.
type Span struct{ span trace.Span }

// Start begins a span below the one of ctx, or a trace of its own when ctx has none.
func (t *Traces) Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, Span{span}
}

// Below begins a span only if ctx has one that is recorded: for what happens apart from measurements too.
func (t *Traces) Below(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, Span) {
	if t == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, Span{}
	}
	return t.Start(ctx, name, attributes...)
}

// Batch begins the span of work that is done once for many: below the first of them that is recorded, and linked with
// every other one in both directions. None is begun when none of them is recorded, so the cost of a batch that nobody
// traces is a look at each.
func (t *Traces) Batch(ctx context.Context, name string, of []Span, attributes ...attribute.KeyValue) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	var parent trace.Span
	var links []trace.Link
	for _, s := range of {
		switch {
		case !s.Recording():
		case parent == nil:
			parent = s.span
		default:
			links = append(links, trace.Link{SpanContext: s.span.SpanContext()})
		}
	}
	if parent == nil {
		return ctx, Span{}
	}
	ctx, span := t.tracer.Start(trace.ContextWithSpan(ctx, parent), name, trace.WithAttributes(attributes...), trace.WithLinks(links...))
	link := trace.Link{SpanContext: span.SpanContext()}
	for _, s := range of {
		if s.Recording() && s.span != parent {
			s.span.AddLink(link)
		}
	}
	return ctx, Span{span}
}

// Past records a span that is over, below the one of ctx if that is recorded.
func (t *Traces) Past(ctx context.Context, name string, began, ended time.Time, attributes ...attribute.KeyValue) {
	if t == nil || !trace.SpanFromContext(ctx).IsRecording() || began.IsZero() || ended.Before(began) {
		return
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(ended))
}

// Recording tells whether anybody will see the span.
func (s Span) Recording() bool { return s.span != nil && s.span.IsRecording() }

// Set adds attributes.
func (s Span) Set(attributes ...attribute.KeyValue) {
	if s.span != nil {
		s.span.SetAttributes(attributes...)
	}
}

// End ends the span; an error is its outcome. Only the first call counts.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// FromParent is ctx within the trace of a W3C traceparent that a request carried; ctx itself when it is empty, not one,
// or tracing is off.
func (t *Traces) FromParent(ctx context.Context, traceparent string) context.Context {
	if t == nil || len(traceparent) != maxTraceParent {
		return ctx
	}
	return propagator.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

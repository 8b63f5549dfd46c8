package tracing

import (
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// sampler decides which spans are recorded.
type sampler struct{ ratio sdktrace.Sampler }

func newSampler(ratio float64) sdktrace.Sampler {
	return sampler{sdktrace.TraceIDRatioBased(ratio)}
}

// ShouldSample follows a span of this process. A caller's trace is recorded when the caller records it and the ratio
// holds for its id: what another organisation sends costs no more than what begins here. A trace begins with a span of
// the program's own, never with a call that came or went by itself.
func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	drop := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: parent.TraceState()}
	switch {
	case !parent.IsValid():
		if p.Kind != trace.SpanKindInternal && p.Kind != trace.SpanKindUnspecified {
			return drop
		}
	case !parent.IsSampled():
		return drop
	case !parent.IsRemote():
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: parent.TraceState()}
	}
	return s.ratio.ShouldSample(p)
}

// Description is for whoever inspects the provider.
func (s sampler) Description() string { return "Lacre{" + s.ratio.Description() + "}" }

package state

import (
	"slices"

	"github.com/lacre-metrology/lacre/core/reason"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Spans of a state value ascend and do not overlap; only the last may be open.
// The functions return a new list and leave the old one as it is.

// suspend opens a span.
func suspend(spans []*statev1.Span, from int64) ([]*statev1.Span, error) {
	if n := len(spans); n > 0 {
		last := spans[n-1]
		if last.GetUntilUnixNano() == 0 {
			return nil, reason.New(reason.InvalidStatement, "suspended since %d ns already", last.GetFromUnixNano())
		}
		if from < last.GetUntilUnixNano() {
			return nil, overlapping("suspended from %d ns, but an earlier suspension ended only at %d", from, last.GetUntilUnixNano())
		}
	}
	return addSpan(spans, &statev1.Span{FromUnixNano: from})
}

// resume closes the open span.
func resume(spans []*statev1.Span, until int64) ([]*statev1.Span, error) {
	n := len(spans)
	if n == 0 || spans[n-1].GetUntilUnixNano() != 0 {
		return nil, reason.New(reason.InvalidStatement, "nothing is suspended that could be resumed")
	}
	if from := spans[n-1].GetFromUnixNano(); until < from {
		return nil, reason.New(reason.InvalidStatement, "resumed at %d ns, suspended only from %d", until, from)
	}
	spans = slices.Clone(spans)
	spans[n-1] = &statev1.Span{FromUnixNano: spans[n-1].GetFromUnixNano(), UntilUnixNano: until}
	return spans, nil
}

// replaceFrom adds a span that ends the one before where it begins.
func replaceFrom(spans []*statev1.Span, next *statev1.Span) ([]*statev1.Span, error) {
	if n := len(spans); n > 0 {
		last := spans[n-1]
		if next.GetFromUnixNano() <= last.GetFromUnixNano() {
			return nil, overlapping("valid from %d ns, the one in force is from %d; want a later one", next.GetFromUnixNano(), last.GetFromUnixNano())
		}
		if next.GetFromUnixNano() < last.GetUntilUnixNano() {
			spans = slices.Clone(spans)
			spans[n-1] = &statev1.Span{FromUnixNano: last.GetFromUnixNano(), UntilUnixNano: next.GetFromUnixNano()}
		}
	}
	return addSpan(spans, next)
}

// overlapping refuses a time that reaches back over what was given or used already.
func overlapping(format string, args ...any) error {
	return reason.New(reason.Overlapping, format, args...)
}

func addSpan(spans []*statev1.Span, s *statev1.Span) ([]*statev1.Span, error) {
	if len(spans) >= maxSpans {
		return nil, reason.New(reason.InvalidStatement, "more than %d spans", maxSpans)
	}
	return append(slices.Clone(spans), s), nil
}

func checkEffective(unixNano int64) error {
	if unixNano <= 0 {
		return reason.New(reason.InvalidStatement, "effective at %d ns, want a time after 1970", unixNano)
	}
	return nil
}

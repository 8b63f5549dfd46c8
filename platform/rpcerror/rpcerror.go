// Package rpcerror is the one place where a refusal of the domain becomes a gRPC status, and a status becomes a refusal
// again on the other side.
//
// Source: house rules, "Errors"; google.rpc.ErrorInfo and google.rpc.RetryInfo (AIP-193).
//
// Invariants:
//   - a *reason.Error that leaves a server arrives as a *reason.Error of the same reason and detail, so callers use
//     errors.Is and reason.Of as if there were no network between;
//   - no error is judged by its text;
//   - an error without a reason leaves as INTERNAL and says nothing about the server's inside.
package rpcerror

import (
	"context"
	"errors"
	"maps"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/lacre-metrology/lacre/core/reason"
)

// Domain is ErrorInfo.domain of every refusal of this project.
const Domain = "lacre"

// leaderKey is the ErrorInfo metadata key of the leader hint.
const leaderKey = "leader"

// Error is a refusal as a client sees it. It unwraps to a *reason.Error when the server gave a reason.
type Error struct {
	Code       codes.Code
	Reason     reason.Reason     // "" when the status carried none: transport failures, deadlines, internal errors
	Detail     string            // both sides of what did not match, for people
	Metadata   map[string]string // further facts; may be nil
	RetryAfter time.Duration     // when to try again; 0 when the server did not say
}

// Error names the reason, or the code when there is none, and the detail.
func (e *Error) Error() string {
	name := string(e.Reason)
	if name == "" {
		name = e.Code.String()
	}
	if e.Detail == "" {
		return name
	}
	return name + ": " + e.Detail
}

// Unwrap makes errors.Is, errors.As and reason.Of see the domain's refusal; of a deadline and a cancellation, the
// context's error.
func (e *Error) Unwrap() error {
	switch {
	case e.Reason != "":
		return &reason.Error{Reason: e.Reason, Detail: e.Detail}
	case e.Code == codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case e.Code == codes.Canceled:
		return context.Canceled
	default:
		return nil
	}
}

// GRPCStatus is the status that carries this error; status.FromError and status.Code use it.
func (e *Error) GRPCStatus() *status.Status {
	if e.Reason == "" {
		return status.New(e.Code, e.Detail)
	}
	bare := status.New(e.Code, e.Error())
	info := &errdetails.ErrorInfo{Reason: string(e.Reason), Domain: Domain, Metadata: withDetail(e.Metadata, e.Detail)}
	detailed, err := bare.WithDetails(info)
	if err == nil && e.RetryAfter > 0 {
		detailed, err = detailed.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	if err != nil { // Only an OK status or an unmarshalable message can cause this; neither is possible here.
		return bare
	}
	return detailed
}

// detailKey carries the detail, because the status message has the reason in front of it for readers of other tools.
const detailKey = "detail"

func withDetail(metadata map[string]string, detail string) map[string]string {
	if detail == "" {
		return metadata
	}
	all := maps.Clone(metadata)
	if all == nil {
		all = make(map[string]string, 1)
	}
	all[detailKey] = detail
	return all
}

// Option adds to a refusal what its reason does not say.
type Option func(*Error)

// RetryAfter says when the caller may try again.
func RetryAfter(delay time.Duration) Option {
	return func(e *Error) { e.RetryAfter = delay }
}

// Leader names the replica that leads, by node id or address as the caller knows it; "" adds nothing.
func Leader(hint string) Option {
	return func(e *Error) {
		if hint != "" {
			Fact(leaderKey, hint)(e)
		}
	}
}

// Fact adds one key and value for programs; people read the detail. The keys "leader" and "detail" are taken.
func Fact(key, value string) Option {
	return func(e *Error) {
		if e.Metadata == nil {
			e.Metadata = make(map[string]string)
		}
		e.Metadata[key] = value
	}
}

// With turns a refusal into one that also says what the options add: a delay, a leader. The error's text becomes the
// detail. An err that carries no reason is returned as it is.
func With(err error, options ...Option) error {
	refusal, ok := fromDomain(err)
	if !ok {
		return err
	}
	for _, option := range options {
		option(refusal)
	}
	return refusal
}

// ToStatus is what a server answers for an error of its handler: the mapped refusal, or of a context's end its code, or
// a status that a handler built itself, or INTERNAL. Nil stays nil. The error returned is always a gRPC status.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := fromDomain(err); ok {
		return refusal.GRPCStatus().Err()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "deadline exceeded while serving")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "cancelled while serving")
	}
	if own, ok := status.FromError(err); ok && own.Code() != codes.Unknown {
		return own.Err()
	}
	return status.Error(codes.Internal, "internal error; the server's log tells more")
}

// FromStatus is what a client sees of a server's answer: an *Error. Nil stays nil, and an error that is no status too.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	if already := (*Error)(nil); errors.As(err, &already) {
		return err
	}
	answer, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &Error{Code: answer.Code(), Detail: answer.Message()}
	for _, detail := range answer.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				e.Reason = reason.Reason(d.GetReason())
				e.Detail = d.GetMetadata()[detailKey]
				e.Metadata = maps.Clone(d.GetMetadata())
				delete(e.Metadata, detailKey)
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if e.Reason == "" && e.Code == codes.ResourceExhausted {
		// Our servers give a reason with every RESOURCE_EXHAUSTED of their own. A bare one is gRPC's: a message above the
		// transport's limit, refused before any handler or interceptor could see it.
		e.Reason = reason.TooLarge
	}
	return e
}

// LeaderHint is the leader that a NOT_LEADER answer named, or "".
func LeaderHint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Metadata[leaderKey]
	}
	return ""
}

// Delay is when the answer asked the caller to try again, or 0.
func Delay(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// IsPermanent tells whether the same request can never succeed, by the table. Errors without a reason are not
// permanent.
func IsPermanent(err error) bool { return Permanent(reason.Of(err)) }

// fromDomain finds the refusal in err's chain. Context that wrappers added to the text goes into the detail.
func fromDomain(err error) (*Error, bool) {
	var built *Error
	if errors.As(err, &built) && built.Reason != "" {
		clone := *built
		clone.Metadata = maps.Clone(built.Metadata)
		return &clone, true
	}
	var refusal *reason.Error
	if !errors.As(err, &refusal) {
		return nil, false
	}
	detail := refusal.Detail
	if err != error(refusal) { //nolint:errorlint // identity is meant: only a wrapper has more to say.
		detail = err.Error()
	}
	entry, known := Lookup(refusal.Reason)
	if !known {
		entry.Code = codes.Unknown
	}
	return &Error{Code: entry.Code, Reason: refusal.Reason, Detail: detail}, true
}

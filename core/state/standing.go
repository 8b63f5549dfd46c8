package state

import (
	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/reason"
	statev1 "github.com/lacre-metrology/lacre/gen/lacre/state/v1"
)

// Standing is what an approval is worth for a capture.
type Standing string

// The standings. Withdrawn is judged now and goes before all others, which are
// judged at the capture's time (rule S2).
const (
	InForce     Standing = "in force"
	Withdrawn   Standing = "withdrawn"
	NotYetValid Standing = "not yet valid"
	Expired     Standing = "expired"
	Superseded  Standing = "superseded"
	Suspended   Standing = "suspended"
)

// AlgorithmStanding judges an approval, with its terms, for a capture. It is
// the one judge of it: the transition, and whoever lists approvals at a time.
func AlgorithmStanding(value *statev1.Algorithm, terms *approval.Approval, capturedAtUnixNano int64) Standing {
	from, until := validity(terms)
	supersededAt := value.GetSupersededAtUnixNano()
	switch {
	case value.GetWithdrawn():
		return Withdrawn
	case capturedAtUnixNano < from:
		return NotYetValid
	case capturedAtUnixNano >= until:
		return Expired
	case supersededAt != 0 && capturedAtUnixNano >= supersededAt:
		return Superseded
	case Covers(value.GetSuspensions(), capturedAtUnixNano):
		return Suspended
	}
	return InForce
}

// validity is in nanoseconds, the end not included.
func validity(terms *approval.Approval) (from, until int64) {
	return terms.NotBeforeUnix * 1_000_000_000, terms.NotAfterUnix * 1_000_000_000
}

// inForce refuses a capture for which the approval is not in force.
func (a *approved) inForce(capturedAtUnixNano int64) error {
	refuse := func(format string, args ...any) error {
		return reason.New(reason.AlgorithmNotInForce, format, args...)
	}
	module := a.terms.Module.Short()
	switch AlgorithmStanding(a.state, a.terms, capturedAtUnixNano) {
	case InForce:
		return nil
	case Withdrawn:
		return refuse("the approval of module %s was withdrawn", module)
	case Superseded:
		return refuse("captured at %d ns, module %s is superseded from %d by module %s; give the meter parameters under that one",
			capturedAtUnixNano, module, a.state.GetSupersededAtUnixNano(), shortOf(a.state.GetSuccessor()))
	case Suspended:
		return refuse("captured at %d ns, while the approval of module %s was suspended", capturedAtUnixNano, module)
	default:
		from, until := validity(a.terms)
		return refuse("captured at %d ns, the approval is valid from %d until %d", capturedAtUnixNano, from, until)
	}
}

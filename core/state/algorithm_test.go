package state_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/approval"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// A module is superseded once, by another that is approved and neither
// withdrawn nor superseded itself; a renewal does not undo it.
func TestS4_SupersessionNamesAModuleInForce(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	at := n.NowUnix*second + 5
	unknown := digest.Plain([]byte("unknown"))
	refuseStatement(t, n, supersede(n, unknown, at), reason.UnknownAlgorithm)
	refuseStatement(t, n, supersede(n, n.Algorithm, at), reason.InvalidStatement)
	refuseStatement(t, n, supersede(n, unknown, 0), reason.InvalidStatement)
	none := &recordv1.AlgorithmStatus{Header: n.Header("algorithm/" + n.Algorithm.String()), Algorithm: n.Algorithm.Bytes(),
		Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_SUPERSEDE, EffectiveAtUnixNano: at}
	refuseStatement(t, n, n.Sign(none, statetest.Body()), reason.Malformed)
	none.Action, none.Successor = recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, unknown.Bytes()
	refuseStatement(t, n, n.Sign(none, statetest.Body()), reason.Malformed)

	second := n.ApproveAnother("second")
	gone := n.ApproveAnother("gone")
	other := *n
	other.Algorithm = gone
	n.Accept(algorithmStatus(&other, recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW, 0))
	refuseStatement(t, n, supersede(n, gone, at), reason.AlgorithmNotInForce)
	n.Accept(supersede(n, second, at))
	refuseStatement(t, n, supersede(n, second, at+1), reason.InvalidStatement)
	other.Algorithm = second
	refuseStatement(t, n, supersede(&other, n.Algorithm, at), reason.AlgorithmNotInForce) // a ring

	n.Approve()
	value, err := state.GetAlgorithm(n.Store, n.Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	if value.GetSupersededAtUnixNano() != at || digest.Digest(value.GetSuccessor()) != second {
		t.Errorf("after a renewal superseded at %d by %x, want %d by %s", value.GetSupersededAtUnixNano(), value.GetSuccessor(), at, second)
	}
}

// The standing for a capture changes exactly where a statement says.
func TestS2_StandingAtATime(t *testing.T) {
	n := statetest.New(t, statetest.Options{})
	n.Approve()
	at := func(s int64) int64 { return (statetest.GenesisUnix + s) * second }
	n.Accept(algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_SUSPEND, at(10)))
	n.Accept(algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_RESUME, at(20)))
	n.Accept(supersede(n, n.ApproveAnother("successor"), at(30)))
	terms := n.Terms()
	standing := func(at int64) state.Standing {
		value, err := state.GetAlgorithm(n.Store, n.Algorithm)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := approval.Parse(value.GetApprovalPayload())
		if err != nil {
			t.Fatal(err)
		}
		return state.AlgorithmStanding(value, parsed, at)
	}
	for when, want := range map[int64]state.Standing{
		terms.NotBeforeUnix*second - 1: state.NotYetValid, terms.NotBeforeUnix * second: state.InForce,
		at(10) - 1: state.InForce, at(10): state.Suspended, at(20) - 1: state.Suspended, at(20): state.InForce,
		at(30) - 1: state.InForce, at(30): state.Superseded,
		terms.NotAfterUnix*second - 1: state.Superseded, terms.NotAfterUnix * second: state.Expired,
	} {
		if got := standing(when); got != want {
			t.Errorf("at %d: %s, want %s", when, got, want)
		}
	}
	n.Accept(algorithmStatus(n, recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW, 0))
	if got := standing(at(5)); got != state.Withdrawn {
		t.Errorf("withdrawn later, for a capture before: %s", got)
	}
}

package audit_test

import (
	"testing"

	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/trust"
)

// elsewhere is the trust bundle of another network.
func elsewhere(t *testing.T) *trust.Bundle {
	t.Helper()
	n := statetest.New(t, statetest.Options{Organisations: 7})
	policy, err := state.PolicyOf(n.Config, n.ID)
	if err != nil {
		t.Fatal(err)
	}
	b, err := trust.New(trust.Epoch{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

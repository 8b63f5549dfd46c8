package devnet

import (
	"errors"
	"fmt"
)

// organisations are all that a development network may have, in the order in
// which they come to run a replica; the endorsing ones may run an endorser as well.
var organisations = []struct {
	id        string
	endorsing bool
}{
	{Authority, false}, {"institute", true}, {operator, true}, {"university", true},
	{"association", false}, {"laboratory", false}, {"ministry", false},
}

// operator runs the gateway, whatever else it runs.
const operator = "operator"

// Shape is how many organisations run a replica, and how many an endorser. An
// organisation may have one without the other; one that has no node at all is no
// member of the network.
type Shape struct {
	Replicas  int `json:"replicas"`
	Endorsers int `json:"endorsers"`
}

// DefaultShape is four replicas, of which one may lie, and three endorsers.
func DefaultShape() Shape { return Shape{Replicas: 4, Endorsers: len(EndorsingOrganisations())} }

// Check wants replicas and endorsers, and not more than there are organisations.
func (s Shape) Check() error {
	var failures []error
	if s.Replicas < 1 || s.Replicas > len(organisations) {
		failures = append(failures, fmt.Errorf("%d replicas, want 1 to %d", s.Replicas, len(organisations)))
	}
	if most := len(EndorsingOrganisations()); s.Endorsers < 1 || s.Endorsers > most {
		failures = append(failures, fmt.Errorf("%d endorsers, want 1 to %d", s.Endorsers, most))
	}
	return errors.Join(failures...)
}

// EndorsingOrganisations are those that run an endorser in a network of
// DefaultShape.
func EndorsingOrganisations() []string {
	var ids []string
	for _, o := range organisations {
		if o.endorsing {
			ids = append(ids, o.id)
		}
	}
	return ids
}

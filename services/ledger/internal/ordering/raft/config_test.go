package raft

import (
	"testing"
	"time"
)

// The first write after a leader's death is to come within 3 s. A follower notices
// the death after three Heartbeats at the latest, all that are left may be needed,
// and ordering, certifying and a gateway's next round take their time too.
func TestAnElectionLeavesTimeForTheFirstWrite(t *testing.T) {
	for name, timing := range map[string]Timing{"LAN": LAN(), "Loopback": Loopback()} {
		if latest := 3 * timing.Heartbeat; latest > 2200*time.Millisecond {
			t.Errorf("%s: the last follower notices after %s, want 2.2 s at the latest", name, latest)
		}
	}
}

package doctor

import (
	"strings"
	"testing"
)

// What a node waits for is said in words, and a disk that takes no writes is a
// failure with a remedy of its own.
func TestReadinessSaysWhatIsWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		ready    bool
		services map[string]bool
		level    Level
		found    string
		remedy   string
	}{
		"it serves":        {true, map[string]bool{"": true, "lacre.ledger.v1.LedgerService": true}, OK, "it serves", ""},
		"it catches up":    {false, map[string]bool{"": true, "b": false, "a": false}, Warn, "not ready: a, b", "follows the certified ledger"},
		"its disk is full": {false, map[string]bool{"disk": false}, Fail, "its disk takes no writes", "make room"},
	} {
		t.Run(name, func(t *testing.T) {
			var x examination
			x.readiness("replica-a", c.ready, c.services)
			if len(x.items) != 1 || x.items[0].Level != c.level || !strings.Contains(x.items[0].Found, c.found) || !strings.Contains(x.items[0].Remedy, c.remedy) {
				t.Errorf("%+v", x.items)
			}
		})
	}
}

package change_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/cli/internal/change"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// Who signs a change compares keys with what he was told: each shows as itself.
func TestDifferenceShowsEachKeyOfABody(t *testing.T) {
	one, two := bytes.Repeat([]byte{1}, 33), bytes.Repeat([]byte{2}, 33)
	body := func(keys ...[]byte) *recordv1.NetworkConfig {
		return &recordv1.NetworkConfig{NotifiedBodies: []*recordv1.NotifiedBody{{Id: "nb", Threshold: 1, Keys: keys}}}
	}
	lines := strings.Join(change.Difference(body(one), body(one, two)), "\n")
	if want := "[" + hex.EncodeToString(one) + " " + hex.EncodeToString(two) + "]"; !strings.Contains(lines, want) {
		t.Errorf("%s\nlacks %s", lines, want)
	}
}

package reason

import (
	"errors"
	"fmt"
	"testing"
)

func TestErrorsAreFoundByReason(t *testing.T) {
	err := fmt.Errorf("record 41: %w", New(StaleConfig, "names %d, %d is in force", 1, 2))
	if !errors.Is(err, New(StaleConfig, "")) || errors.Is(err, New(Duplicate, "")) {
		t.Errorf("%v is matched by the wrong reason", err)
	}
	if Of(err) != StaleConfig || Of(errors.New("other")) != "" || Of(nil) != "" {
		t.Errorf("reason of %v is %s", err, Of(err))
	}
	if got, want := err.Error(), "record 41: STALE_CONFIG: names 1, 2 is in force"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&Error{Reason: Duplicate}).Error(); got != "DUPLICATE" {
		t.Errorf("%q", got)
	}
}

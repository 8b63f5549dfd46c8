//go:build robustness

package fault

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

func TestCommands(t *testing.T) {
	for _, bad := range []string{"", "before", "before commit", "while commit kill", "before commit explode", "before commit delay soon", "before commit fail EWHAT", "clock now"} {
		if err := do(bad); err == nil {
			t.Errorf("the command %q is taken", bad)
		}
	}
	done := 0
	step := func() error { done++; return nil }
	for _, c := range []struct {
		command string
		done    int
		err     error
	}{
		{"before commit fail ENOSPC", 0, syscall.ENOSPC},
		{"before commit off", 1, nil},
		{"after commit fail EIO", 1, syscall.EIO},
		{"after commit off", 1, nil},
	} {
		if err := do(c.command); err != nil {
			t.Fatal(err)
		}
		done = 0
		if err := Around(Commit, step); !errors.Is(err, c.err) || done != c.done {
			t.Errorf("%s: done %d times and gave %v, want %d and %v", c.command, done, err, c.done, c.err)
		}
	}
	if err := do("clock -1h"); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(7200, 0)
	if got := Clock(func() time.Time { return at })(); got.Unix() != 3600 {
		t.Errorf("an hour back is %v", got)
	}
	if err := do("lie equivocate on"); err != nil || !On(Equivocate) || On(Withhold) {
		t.Errorf("lies: %v", err)
	}
}

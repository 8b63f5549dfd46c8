//go:build !robustness

package fault

import "time"

// Built tells whether this program can be struck.
const Built = false

// Around does f.
func Around(_ Step, f func() error) error { return f() }

// On tells whether the replica tells a lie: it does not.
func On(Lie) bool { return false }

// Clock is the clock that it is given.
func Clock(clock func() time.Time) func() time.Time { return clock }

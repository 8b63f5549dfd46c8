//go:build !unix

package benchtest

import (
	"testing"
	"time"
)

var began = time.Now()

// CPU is the elapsed time where there is no other: alone on a machine they are
// the same for one goroutine.
func CPU(testing.TB) time.Duration { return time.Since(began) }

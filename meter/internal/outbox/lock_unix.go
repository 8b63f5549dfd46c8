//go:build unix

package outbox

import (
	"os"
	"syscall"
)

// flock takes the lock without waiting; the kernel drops it when the process
// ends, however it ends.
func flock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

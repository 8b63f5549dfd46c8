//go:build unix && !linux

package bench

import "syscall"

// dieWithParent cannot be had here: a run that is killed leaves its nodes.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

package main

import "syscall"

// dieWithParent has the kernel end a process when the thread that started it
// ends, at the latest with this process (PR_SET_PDEATHSIG of prctl(2)).
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

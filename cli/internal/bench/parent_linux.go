package bench

import "syscall"

// dieWithParent has the kernel end a process when the thread that started it
// ends, at the latest with this process, even by SIGKILL (PR_SET_PDEATHSIG of
// prctl(2)). Each node has its own group, so that Ctrl-C reaches this process
// alone.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

package daemon

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// scheduleInBatches makes all threads of the process SCHED_BATCH (sched(7)): one that
// wakes up does not interrupt whoever runs, but waits for its turn. A service works on
// what came together, batch by batch, so to be woken for each message costs it
// switches and lets it find less to do at once: docs/performance.md has what that is
// worth. Other programs interrupt it as before. Threads that are made later inherit
// it. Whoever started the process under another policy than the default one meant it,
// and a system that refuses is none the worse: the policy changes no result. A few
// passes are enough: only a thread that was not reached yet makes another such thread.
func scheduleInBatches() {
	left := true
	for pass := 0; left && pass < 10; pass++ {
		left = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				return
			}
			attributes, err := unix.SchedGetAttr(id, 0)
			if err != nil || attributes.Policy != unix.SCHED_NORMAL {
				continue // it has ended, or is done
			}
			err = unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: attributes.Nice}, 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return
			}
			left = true
		}
	}
}

package daemon

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Every thread of a service is scheduled in batches, those that it makes later too;
// their nice values stay.
func TestAllThreadsAreScheduledInBatches(t *testing.T) {
	if before, err := unix.SchedGetAttr(0, 0); err != nil || before.Policy != unix.SCHED_NORMAL && before.Policy != unix.SCHED_BATCH {
		t.Fatalf("the test runs under policy %+v (%v), it needs the default one", before, err)
	}
	nice := threads(t)
	scheduleInBatches()
	const more = 8
	var running, done sync.WaitGroup
	stop := make(chan struct{})
	running.Add(more)
	for range more {
		done.Go(func() {
			runtime.LockOSThread() // one thread for each
			defer runtime.UnlockOSThread()
			running.Done()
			<-stop
		})
	}
	running.Wait()
	after := threads(t)
	close(stop)
	done.Wait()
	if len(after) < more {
		t.Fatalf("%d threads, at least %d were made: the test shows nothing", len(after), more)
	}
	for id, got := range after {
		if got.Policy != unix.SCHED_BATCH {
			t.Errorf("thread %d has policy %d, want %d", id, got.Policy, unix.SCHED_BATCH)
		}
		if before, ok := nice[id]; ok && before.Nice != got.Nice {
			t.Errorf("thread %d has nice value %d, it was %d", id, got.Nice, before.Nice)
		}
	}
}

func threads(t *testing.T) map[int]*unix.SchedAttr {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[int]*unix.SchedAttr)
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if attributes, err := unix.SchedGetAttr(id, 0); err == nil { // else it has ended
			out[id] = attributes
		}
	}
	return out
}

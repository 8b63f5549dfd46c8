//go:build robustness

package fault

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Built tells whether this program can be struck.
const Built = true

// action is what happens at a step.
type action struct {
	kill  bool
	torn  bool // of a write: half of it, then kill
	delay time.Duration
	errno syscall.Errno
}

var (
	mu     sync.Mutex
	points = map[string]action{} // by "before-step" or "after-step"
	lies   = map[Lie]bool{}
	told   = map[Lie]int{}
	skew   atomic.Int64
)

func init() { //nolint:gochecknoinits // only the suite's own build has it.
	for _, command := range strings.Split(os.Getenv("LACRE_FAULTS"), ";") {
		if command == "" {
			continue
		}
		if err := do(command); err != nil {
			panic(err)
		}
	}
	path := os.Getenv("LACRE_FAULT_SOCKET")
	if path == "" {
		return
	}
	_ = os.Remove(path) //nolint:gosec // a socket of an earlier life, where the suite says.
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	go serve(l)
}

// serve takes one command a line and answers "ok" or what is wrong with it.
func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for lines := bufio.NewScanner(c); lines.Scan(); {
				answer := "ok"
				if err := do(lines.Text()); err != nil {
					answer = err.Error()
				} else if lie, asked := strings.CutPrefix(lines.Text(), "count "); asked {
					mu.Lock()
					answer = fmt.Sprint(told[Lie(lie)])
					mu.Unlock()
				}
				if _, err := fmt.Fprintln(c, answer); err != nil {
					return
				}
			}
		}()
	}
}

// do carries a command out:
//
//	before|after STEP kill | torn | delay DURATION | fail ERRNO | off
//	lie LIE on | off
//	count LIE
//	clock DURATION
func do(command string) error {
	f := strings.Fields(command)
	wrong := fmt.Errorf("cannot read the command %q", command)
	if len(f) < 2 {
		return wrong
	}
	mu.Lock()
	defer mu.Unlock()
	switch {
	case f[0] == "clock":
		d, err := time.ParseDuration(f[1])
		skew.Store(int64(d))
		return err
	case f[0] == "count":
		return nil
	case f[0] == "lie" && len(f) == 3:
		lies[Lie(f[1])] = f[2] == "on"
		return nil
	case len(f) < 3 || f[0] != "before" && f[0] != "after":
		return wrong
	}
	at := f[0] + "-" + f[1]
	switch {
	case f[2] == "kill":
		points[at] = action{kill: true}
	case f[2] == "torn":
		points[at] = action{torn: true}
	case f[2] == "off":
		delete(points, at)
	case f[2] == "delay" && len(f) == 4:
		d, err := time.ParseDuration(f[3])
		if err != nil {
			return err
		}
		points[at] = action{delay: d}
	case f[2] == "fail" && len(f) == 4:
		errno, ok := map[string]syscall.Errno{"ENOSPC": syscall.ENOSPC, "EROFS": syscall.EROFS, "EIO": syscall.EIO}[f[3]]
		if !ok {
			return wrong
		}
		points[at] = action{errno: errno}
	default:
		return wrong
	}
	return nil
}

func at(when string, step Step) action {
	mu.Lock()
	defer mu.Unlock()
	return points[when+"-"+string(step)]
}

// die is as if the power went.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (a action) strike(step Step) error {
	if a.kill {
		die()
	}
	if a.delay > 0 {
		<-time.After(a.delay)
	}
	if a.errno != 0 {
		return &os.PathError{Op: string(step), Path: "injected by the robustness suite", Err: a.errno}
	}
	return nil
}

// Around does f between the two points of a step: a failure before it means that
// f was not done, one after it that it was and the answer is lost.
func Around(step Step, f func() error) error {
	if err := at("before", step).strike(step); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return at("after", step).strike(step)
}

// WriteAt writes b between the two points of a step; torn, it writes a part that
// ends within a sector and dies.
func WriteAt(step Step, b []byte, offset int64, write func([]byte, int64) (int, error)) (n int, err error) {
	if at("before", step).torn {
		_, _ = write(b[:len(b)/2], offset)
		die()
	}
	err = Around(step, func() error { n, err = write(b, offset); return err })
	return n, err
}

// Told counts a lie; "count LIE" asks for the number.
func Told(l Lie) {
	mu.Lock()
	defer mu.Unlock()
	told[l]++
}

// On tells whether the replica tells a lie.
func On(l Lie) bool {
	mu.Lock()
	defer mu.Unlock()
	return lies[l]
}

// Clock is the given clock, put forward or back by command.
func Clock(clock func() time.Time) func() time.Time {
	return func() time.Time { return clock().Add(time.Duration(skew.Load())) }
}

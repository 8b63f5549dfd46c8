package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lacre-metrology/lacre/platform/version"
)

// Machine is where a run took place.
type Machine struct {
	CPU           string  `json:"cpu"`
	Cores         int     `json:"cores"`
	MemoryBytes   uint64  `json:"memory_bytes"`
	Kernel        string  `json:"kernel"`
	Go            string  `json:"go"`
	Commit        string  `json:"commit"`
	FsyncP50Ms    float64 `json:"fsync_p50_ms"` // of 4 KiB appended to a file
	FsyncP99Ms    float64 `json:"fsync_p99_ms"`
	LoadBefore    float64 `json:"load_average_before"` // of the last minute: above 0.5, something else was running
	LoadAfter     float64 `json:"load_average_after"`
	StartedAtUnix int64   `json:"started_at_unix"`
}

func describeMachine(dir string) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Commit: version.String(), StartedAtUnix: time.Now().Unix()}
	if cpuinfo, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(cpuinfo)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if meminfo, err := os.ReadFile("/proc/meminfo"); err == nil {
		if kilobytes, err := field(meminfo, "MemTotal:"); err == nil {
			m.MemoryBytes = kilobytes << 10
		}
	}
	var err error
	if m.LoadBefore, err = loadAverage(); err != nil {
		return m, err
	}
	m.FsyncP50Ms, m.FsyncP99Ms, err = measureFsync(dir)
	return m, err
}

func (m Machine) text() string {
	return fmt.Sprintf("%s, %d cores, load average %.2f before and %.2f after, fsync %.2f ms (median), %s, %s",
		m.CPU, m.Cores, m.LoadBefore, m.LoadAfter, m.FsyncP50Ms, m.Go, m.Commit)
}

// warnings say what makes the figures of a run doubtful.
func (m Machine) warnings() []string {
	if m.LoadBefore > 0.5 {
		return []string{fmt.Sprintf("the load average was %.2f before the run: something else uses this machine, and figures of speed are too low", m.LoadBefore)}
	}
	return nil
}

func loadAverage() (float64, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	words := strings.Fields(string(text))
	if len(words) == 0 {
		return 0, errors.New("/proc/loadavg is empty")
	}
	return strconv.ParseFloat(words[0], 64)
}

// measureFsync appends and syncs a file in the directory of the network.
func measureFsync(dir string) (p50, p99 float64, err error) {
	const times, size = 100, 4096
	file, err := os.Create(filepath.Join(dir, "fsync.tmp"))
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	block := make([]byte, size)
	took := make([]float64, times)
	for i := range took {
		if _, err := file.Write(block); err != nil {
			return 0, 0, err
		}
		start := time.Now()
		if err := file.Sync(); err != nil {
			return 0, 0, err
		}
		took[i] = float64(time.Since(start).Microseconds()) / 1000
	}
	slices.Sort(took)
	return took[times/2], took[times-1], nil
}

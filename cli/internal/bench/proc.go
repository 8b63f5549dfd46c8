package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of times in /proc/PID/stat: USER_HZ, which Linux
// has fixed at 100 on all architectures that Go supports (proc(5), time(7)).
const ticksPerSecond = 100

// usage is what a process has used since it started.
type usage struct {
	user, system time.Duration
	writtenBytes uint64 // handed to the disk, or on the way there; at most so many
	peakBytes    uint64 // of resident memory

	residentBytes  uint64 // now
	anonymousBytes uint64 // of these, those that are no file's pages: the heap
}

func (u usage) cpu() time.Duration { return u.user + u.system }

// readUsage reads /proc/PID (proc(5)).
func readUsage(pid int) (usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return usage{}, err
	}
	var u usage
	if u.user, u.system, err = parseStat(stat); err != nil {
		return usage{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return usage{}, err
	}
	for name, to := range map[string]*uint64{"VmHWM:": &u.peakBytes, "VmRSS:": &u.residentBytes, "RssAnon:": &u.anonymousBytes} {
		kilobytes, err := field(status, name)
		if err != nil {
			return usage{}, fmt.Errorf("%s/status: %w", dir, err)
		}
		*to = kilobytes << 10
	}
	io, err := os.ReadFile(dir + "/io")
	if err != nil {
		return usage{}, err
	}
	if u.writtenBytes, err = parseWritten(io); err != nil {
		return usage{}, fmt.Errorf("%s/io: %w", dir, err)
	}
	return u, nil
}

// parseStat finds utime and stime, the 14th and 15th fields. The second is the
// program's name in parentheses, and may hold anything.
func parseStat(stat []byte) (user, system time.Duration, err error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, errors.New("no name in parentheses")
	}
	fields := strings.Fields(string(stat[end+1:])) // from the third on
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("%d fields after the name, want 13 or more", len(fields))
	}
	for i, to := range []*time.Duration{&user, &system} {
		ticks, err := strconv.ParseInt(fields[11+i], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		*to = time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return user, system, nil
}

// parseWritten is what went to the disk at most. write_bytes counts a page cache's
// folio whole when a page of it becomes dirty, and file systems with large folios
// (ext4 since Linux 6.16) then write that page alone: 8 MB of single pages spread
// over a file of 128 MB count as 2.1 GB. wchar is what was given to write, sockets
// included. The nodes write to files no other way.
func parseWritten(io []byte) (uint64, error) {
	dirtied, err := field(io, "write_bytes:")
	if err != nil {
		return 0, err
	}
	given, err := field(io, "wchar:")
	return min(dirtied, given), err
}

// field is the number on the line that begins with a name.
func field(text []byte, name string) (uint64, error) {
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			words := strings.Fields(rest)
			if len(words) == 0 {
				return 0, fmt.Errorf("%s has no value", name)
			}
			return strconv.ParseUint(words[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("no line %s", name)
}

// loopbackBytes is what the loopback interface has carried, each byte once.
func loopbackBytes() (uint64, error) {
	text, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0, err
	}
	return parseNetDev(text, "lo")
}

func parseNetDev(text []byte, device string) (uint64, error) {
	for line := range strings.Lines(string(text)) {
		name, counts, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != device {
			continue
		}
		words := strings.Fields(counts)
		if len(words) == 0 {
			return 0, fmt.Errorf("device %s has no counters", device)
		}
		return strconv.ParseUint(words[0], 10, 64) // received bytes
	}
	return 0, fmt.Errorf("no device %s", device)
}

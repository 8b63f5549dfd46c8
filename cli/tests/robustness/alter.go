package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// alteration is a bit of a replica's files that was flipped.
type alteration struct {
	kind    string // one of files
	path    string
	offset  int64
	altered byte // what the file held there afterwards
}

func (a alteration) String() string {
	return fmt.Sprintf("%s at byte %d", filepath.Base(a.path), a.offset)
}

// stands tells whether the file still holds the altered byte: what is written
// anew, cut off or removed is not what was stored.
func (a alteration) stands() bool {
	b, err := byteAt(a.path, a.offset)
	return err == nil && b == a.altered
}

func byteAt(path string, offset int64) (byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read from.
	b := make([]byte, 1)
	_, err = f.ReadAt(b, offset)
	return b[0], err
}

// alter flips a bit of what a replica has stored, under it or while it is stopped.
func (s *striker) alter(f fault, p *process) (heal func() error, err error) {
	if f.Stopped {
		if p.running() && s.leads(context.Background()) == p.node.ID {
			s.died(p.node.ID, false)
		}
		p.kill()
	}
	random := rand.New(rand.NewPCG(f.Choice, 3)) //nolint:gosec // reproducible, not secret.
	data := filepath.Join(s.network.NodeDir(p.node.ID), "data")
	a, err := flip(data, f.File, random)
	if errors.Is(err, errNothingThere) && packed(f.File) {
		s.say("%s of %s: nothing is packed yet", f.File, p.node.ID)
		return p.start, nil
	}
	if err != nil {
		return nil, err
	}
	s.say("altered %s of %s: %s", a.kind, p.node.ID, a)
	s.altered = append(s.altered, a)
	s.network.outages.begin(alter, p.node.ID) // for good: it may stop at any moment
	p.mislead()
	return p.start, nil
}

// places are where a replica keeps what: files, by the kinds of the schedule.
var places = map[string]string{
	"segment": "store/segments/*.seg", "records": "store/segments/*.rec", "raw vectors": "store/segments/*.raw",
	"database": "store/store.db", "log": "raft/log/*.wal",
}

// packed kinds are there once a segment was full, and packed.
func packed(kind string) bool { return kind == "records" || kind == "raw vectors" }

var errNothingThere = errors.New("there is no such file that holds anything")

// flip flips a bit of a file of a kind, within what was written of it. A file that
// goes meanwhile, because it is packed, is none of them any more.
func flip(dir, kind string, random *rand.Rand) (a alteration, err error) {
	for {
		if a, err = flipOne(dir, kind, random); !errors.Is(err, fs.ErrNotExist) {
			return a, err
		}
	}
}

func flipOne(dir, kind string, random *rand.Rand) (alteration, error) {
	paths, err := filepath.Glob(filepath.Join(dir, places[kind]))
	if err != nil {
		return alteration{}, err
	}
	used := make(map[string]int64)
	for _, path := range paths {
		if used[path], err = written(path); err != nil {
			return alteration{}, err
		}
	}
	// A file that was only begun, to be packed or when the process died, holds nothing.
	paths = slices.DeleteFunc(paths, func(path string) bool { return used[path] == 0 })
	if len(paths) == 0 {
		return alteration{}, fmt.Errorf("%s in %s: %w", kind, dir, errNothingThere)
	}
	slices.Sort(paths)
	a := alteration{kind: kind, path: paths[random.IntN(len(paths))]}
	a.offset = random.Int64N(used[a.path])
	b, err := byteAt(a.path, a.offset)
	if err != nil {
		return alteration{}, err
	}
	a.altered = b ^ 1<<random.IntN(8)
	f, err := os.OpenFile(a.path, os.O_WRONLY, 0)
	if err != nil {
		return alteration{}, err
	}
	_, err = f.WriteAt([]byte{a.altered}, a.offset)
	return a, errors.Join(err, f.Close())
}

// written is the length of a file without the zeros at its end, which the log
// reserves.
func written(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read from.
	used, at, buffer := int64(0), int64(0), make([]byte, 1<<20)
	for {
		n, err := f.Read(buffer)
		for i := n - 1; i >= 0; i-- {
			if buffer[i] != 0 {
				used = at + int64(i) + 1
				break
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return used, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// foundOut says how the damaged replica's alterations were found: by itself, which
// ended with DATA_LOSS and named the place, or by whoever looks at the stopped
// disk. A flipped bit of a segment, packed or not, that stands and that nobody finds is an error.
// In the database it can lie in a free page, and in the log in what was written
// last: then it changes no answer.
func (n *network) foundOut(ctx context.Context, s *striker) (found string, err error) {
	if len(s.altered) == 0 {
		return "", nil
	}
	p := n.processes[s.damaged]
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held {
		said := tail(n.logPath(s.damaged), 40)
		for _, line := range strings.Split(said, "\n") {
			named := slices.ContainsFunc(s.altered, func(a alteration) bool { return strings.Contains(line, filepath.Base(a.path)) })
			if strings.Contains(line, "stored data is damaged") && named {
				return line, nil
			}
		}
		return "", fmt.Errorf("%s ended with code %d and does not say where the damage is:\n%s", s.damaged, exitLoss, said)
	}
	archive, err := n.archive(s.damaged)
	if err != nil {
		return "opening the stopped disk: " + err.Error(), nil
	}
	defer archive.Close() //nolint:errcheck // only read from.
	report, err := archive.Verify(ctx, nil)
	if err != nil {
		return "", err
	}
	if len(report.Problems) > 0 {
		return fmt.Sprintf("verifying the stopped disk: %s", report.Problems[0]), nil
	}
	for _, a := range s.altered {
		if (a.kind == "segment" || packed(a.kind)) && a.stands() {
			return "", fmt.Errorf("UNNOTICED: %s of %s was altered, stands, and is not found", a, s.damaged)
		}
	}
	return "", nil
}

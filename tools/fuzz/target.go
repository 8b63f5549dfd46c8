package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// target is one fuzz target.
type target struct {
	dir  string // of its package, relative to the root
	name string
}

func (t target) String() string { return t.dir + "." + t.name }

// corpusDir is where go test reads and writes a target's inputs.
func (t target) corpusDir() string { return filepath.Join(t.dir, "testdata", "fuzz", t.name) }

var declaration = regexp.MustCompile(`(?m)^func (Fuzz[A-Z0-9_]\w*)\(`)

// find lists the targets in the test files of the repository that match. Files
// that git ignores do not count.
func find(ctx context.Context, root string, match *regexp.Regexp) ([]target, error) {
	list := exec.CommandContext(ctx, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "*_test.go")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	var targets []target
	for _, file := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		source, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and git not told yet
		}
		if err != nil {
			return nil, err
		}
		for _, found := range declaration.FindAllSubmatch(source, -1) {
			if t := (target{dir: filepath.Dir(file), name: string(found[1])}); match.MatchString(t.String()) {
				targets = append(targets, t)
			}
		}
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("no fuzz target matches %q", match)
	}
	slices.SortFunc(targets, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
	return targets, nil
}

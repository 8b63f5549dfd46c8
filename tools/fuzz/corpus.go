package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxKeptBytes bounds one input that is committed.
const maxKeptBytes = 1024

// input is a file of a cache. The engine put it there because it reached code
// that no earlier one did.
type input struct {
	path  string
	found time.Time
}

// keepCorpora copies to each target's testdata/fuzz at most keep inputs of its
// cache, small ones, spread over the time in which they were found: early ones
// are ordinary, late ones reach what is seldom reached. What is there already
// stays, and counts.
func keepCorpora(targets []target, cache string, keep int) error {
	total := int64(0)
	for _, t := range targets {
		inputs, err := small(filepath.Join(cache, t.dir, t.name))
		if err != nil {
			return err
		}
		kept, err := size(t.corpusDir())
		if err != nil {
			return err
		}
		for _, in := range spread(inputs, keep-kept.files) {
			content, err := os.ReadFile(in.path)
			if err != nil {
				return err
			}
			to := filepath.Join(t.corpusDir(), filepath.Base(in.path))
			if err := errors.Join(os.MkdirAll(t.corpusDir(), 0o750), os.WriteFile(to, content, 0o600)); err != nil {
				return err
			}
		}
		if kept, err = size(t.corpusDir()); err != nil {
			return err
		}
		total += kept.bytes
		fmt.Printf("%-70s %3d inputs %7d bytes\n", t, kept.files, kept.bytes)
	}
	fmt.Printf("%d bytes\n", total)
	return nil
}

// small lists the inputs of a cache that are small enough, in the order in which
// they were found.
func small(dir string) ([]input, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var inputs []input
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() && info.Size() <= maxKeptBytes {
			inputs = append(inputs, input{path: filepath.Join(dir, e.Name()), found: info.ModTime()})
		}
	}
	slices.SortFunc(inputs, func(a, b input) int {
		if c := a.found.Compare(b.found); c != 0 {
			return c
		}
		return strings.Compare(a.path, b.path)
	})
	return inputs, nil
}

// spread picks at most n of a list, the last among them.
func spread(inputs []input, n int) []input {
	if n <= 0 {
		return nil
	}
	if len(inputs) <= n {
		return inputs
	}
	picked := make([]input, n)
	for i := range picked {
		picked[i] = inputs[(i+1)*len(inputs)/n-1]
	}
	return picked
}

type used struct {
	files int
	bytes int64
}

func size(dir string) (u used, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr != nil {
			return u, statErr
		}
		u.files, u.bytes = u.files+1, u.bytes+info.Size()
	}
	return u, err
}

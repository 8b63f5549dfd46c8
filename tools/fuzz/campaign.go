package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// minimizeRuns bounds how often the engine runs a target to shorten an input that
// it found interesting. Its default is a minute for each, in which it looks for
// nothing else: a short run would do little but that.
const minimizeRuns = "10x"

// campaign runs targets. Fields are set before run, out is written to by one
// goroutine at a time.
type campaign struct {
	targets []target
	length  time.Duration
	atOnce  int
	cache   string
	out     io.Writer

	mu      sync.Mutex // guards the rest, and out
	results map[target]result
}

// result is what a target's run printed last.
type result struct {
	executions  int64
	interesting int // new in this run
	corpus      int // inputs the run ended with
	elapsed     time.Duration
	err         error
}

// run builds each package once, runs every target, and joins what failed.
func (c *campaign) run(ctx context.Context) error {
	c.results = make(map[target]result)
	binaries, err := os.MkdirTemp("", "fuzz")
	if err != nil {
		return err
	}
	defer os.RemoveAll(binaries) //nolint:errcheck // a directory of the system's temporary ones
	built := make(map[string]string)
	work := make(chan target)
	var runners sync.WaitGroup
	for range max(1, c.atOnce) {
		runners.Go(func() {
			for t := range work {
				c.fuzz(ctx, t, built[t.dir])
			}
		})
	}
	var failed []error
	// Packages are built all before the first target runs: what runs is of one state of the sources.
	for _, t := range c.targets {
		if _, done := built[t.dir]; done {
			continue
		}
		built[t.dir], err = build(ctx, t.dir, filepath.Join(binaries, strconv.Itoa(len(built))))
		if err != nil {
			failed = append(failed, err)
		}
	}
	for _, t := range c.targets {
		if built[t.dir] != "" && ctx.Err() == nil {
			work <- t
		}
	}
	close(work)
	runners.Wait()
	for _, t := range c.targets {
		if r, ran := c.results[t]; ran && r.err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t, r.err))
		}
	}
	return errors.Join(append(failed, ctx.Err())...)
}

// build makes an instrumented test binary of a package.
func build(ctx context.Context, dir, binary string) (string, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz=.", "-o", binary, "./"+dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", dir, err, out)
	}
	return binary, nil
}

// fuzz runs one target and notes its result.
func (c *campaign) fuzz(ctx context.Context, t target, binary string) {
	cache, err := filepath.Abs(filepath.Join(c.cache, t.dir))
	if err != nil {
		c.note(t, result{err: err})
		return
	}
	command := exec.CommandContext(ctx, binary,
		"-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+c.length.String(), "-test.parallel=1",
		"-test.fuzzminimizetime="+minimizeRuns, "-test.fuzzcachedir="+cache, "-test.timeout=0")
	command.Dir = t.dir
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = time.Minute
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	began := time.Now()
	err = command.Run()
	r := parse(out.String())
	r.elapsed = time.Since(began)
	if err != nil && !onlyTimeUp(out.String()) {
		r.err = fmt.Errorf("%w\n%s", err, out.String())
	}
	c.note(t, r)
}

var timeUp = regexp.MustCompile(`(?s)^--- FAIL: \w+ \([\d.]+s\)\n\s+context deadline exceeded\nFAIL\n(exit status 1\n)?$`)

// onlyTimeUp says whether a target that failed did so only because its time was
// over: until 1.27 the engine sometimes takes the end of -fuzztime for a failure
// (golang/go#75804) and prints that error and nothing else. Whatever an input does
// is printed otherwise and names the input, a hanging one too.
func onlyTimeUp(out string) bool {
	_, failure, failed := strings.Cut(out, "--- FAIL:")
	return failed && timeUp.MatchString("--- FAIL:"+failure)
}

func (c *campaign) note(t target, r result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results[t] = r
	verdict := "ok"
	if r.err != nil {
		verdict = "FAILED\n" + r.err.Error()
	}
	_, _ = fmt.Fprintf(c.out, "%-70s %12d executions %6d new in %8s: %s\n", t, r.executions, r.interesting, r.elapsed.Round(time.Second), verdict)
}

var progress = regexp.MustCompile(`execs: (\d+) \(\d+/sec\), new interesting: (\d+) \(total: (\d+)\)`)

// parse reads the last line of progress.
func parse(out string) (r result) {
	lines := progress.FindAllStringSubmatch(out, -1)
	if len(lines) == 0 {
		return r
	}
	last := lines[len(lines)-1]
	r.executions, _ = strconv.ParseInt(last[1], 10, 64) // digits, by the expression; too many read as the largest
	r.interesting, _ = strconv.Atoi(last[2])
	r.corpus, _ = strconv.Atoi(last[3])
	return r
}

// table shows the results in Markdown.
func (c *campaign) table() string {
	var b strings.Builder
	b.WriteString("| Target | Executions | New inputs | Corpus | Time | Result |\n|---|--:|--:|--:|--:|---|\n")
	for _, t := range c.targets {
		r, ran := c.results[t]
		verdict := "nothing found"
		switch {
		case !ran:
			verdict = "not run"
		case r.err != nil:
			verdict = "**finding**"
		}
		fmt.Fprintf(&b, "| *%s* `%s` | %d | %d | %d | %s | %s |\n", t.dir, t.name, r.executions, r.interesting, r.corpus, r.elapsed.Round(time.Second), verdict)
	}
	return b.String()
}

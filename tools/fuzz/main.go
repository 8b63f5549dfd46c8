// Command fuzz runs the fuzz targets of the workspace and keeps their corpora.
//
//	fuzz [-time 10s] [-at-once 2] [-only RE] [-cache DIR] [-report FILE]   run every target for a time
//	fuzz -list [-only RE]                                                  print package and name of each
//	fuzz -keep N [-only RE] [-cache DIR]                                   choose what testdata/fuzz keeps
//
// Each package is built once, instrumented, so that edits made meanwhile do not
// disturb a campaign. Targets run with one worker each. A finding is written to the
// package's testdata/fuzz, as go test does; the others still run, and the command
// fails at the end. What is found interesting stays in the cache (Go's own unless
// -cache names another), and the next campaign goes on from there.
//
// It runs in the repository's root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	length := flags.Duration("time", 10*time.Second, "how long each target runs")
	atOnce := flags.Int("at-once", 2, "targets that run at once")
	only := flags.String("only", "", "regular expression that `package.Target` must match")
	cache := flags.String("cache", "", "`directory` of the inputs found interesting (default Go's)")
	report := flags.String("report", "", "also write the table to this `file`")
	list := flags.Bool("list", false, "list the targets")
	keep := flags.Int("keep", 0, "copy at most `N` small inputs of each target's cache to its testdata/fuzz, and run nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("argument %q is not understood", flags.Arg(0))
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	targets, err := find(ctx, ".", chosen)
	if err != nil {
		return err
	}
	if *cache == "" {
		if *cache, err = goCache(ctx); err != nil {
			return err
		}
	}
	switch {
	case *list:
		for _, t := range targets {
			fmt.Println(t.dir, t.name)
		}
		return nil
	case *keep > 0:
		return keepCorpora(targets, *cache, *keep)
	}
	c := &campaign{targets: targets, length: *length, atOnce: *atOnce, cache: *cache, out: os.Stdout}
	failed := c.run(ctx)
	table := c.table()
	fmt.Print("\n", table)
	if *report != "" {
		failed = errors.Join(failed, os.WriteFile(*report, []byte(table), 0o600))
	}
	return failed
}

// goCache is where go test -fuzz keeps what it finds.
func goCache(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOCACHE: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "fuzz"), nil
}

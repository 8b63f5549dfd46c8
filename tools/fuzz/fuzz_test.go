package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// workspace is a repository of one module with three targets: one that holds,
// one whose seed fails, and one that does not build.
func workspace(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "-buildvcs=false")
	write(t, "go.mod", "module example\n\ngo 1.26.0\n")
	write(t, "good/good_test.go", "package good\n\nimport \"testing\"\n\nfunc FuzzGood(f *testing.F) {\n\tf.Add([]byte(\"a\"))\n\tf.Fuzz(func(*testing.T, []byte) {})\n}\n")
	write(t, "bad/bad_test.go", "package bad\n\nimport \"testing\"\n\nfunc FuzzBad(f *testing.F) {\n\tf.Add([]byte(\"a\"))\n\tf.Fuzz(func(t *testing.T, b []byte) { t.Fatal(\"found it\") })\n}\n\nfunc Fuzzy() {}\n")
	write(t, "broken/broken_test.go", "package broken\n\nimport \"testing\"\n\nfunc FuzzBroken(f *testing.F) { undefined() }\n")
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// One finding and one package that does not build hide no other target, and the
// command fails.
func TestCampaignGoesOnAfterAFinding(t *testing.T) {
	workspace(t)
	targets, err := find(t.Context(), ".", regexp.MustCompile(""))
	if err != nil || fmt.Sprint(targets) != "[bad.FuzzBad broken.FuzzBroken good.FuzzGood]" {
		t.Fatalf("targets %v (%v)", targets, err)
	}
	c := &campaign{targets: targets, length: 200 * time.Millisecond, atOnce: 2, cache: t.TempDir(), out: io.Discard}
	err = c.run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "found it") || !strings.Contains(err.Error(), "undefined") {
		t.Errorf("the campaign ends with %v", err)
	}
	table := c.table()
	for _, want := range []string{"`FuzzGood` |", "nothing found", "**finding**", "not run"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
	if r := c.results[target{"good", "FuzzGood"}]; r.err != nil || r.executions == 0 || r.corpus == 0 {
		t.Errorf("the good target: %+v", r)
	}
}

func TestProgressIsRead(t *testing.T) {
	out := "fuzz: elapsed: 3s, execs: 10 (3/sec), new interesting: 1 (total: 4)\nfuzz: elapsed: 6s, execs: 123456 (41115/sec), new interesting: 17 (total: 20)\nPASS\n"
	if r := parse(out); r.executions != 123456 || r.interesting != 17 || r.corpus != 20 {
		t.Errorf("read as %+v", r)
	}
	if r := parse("FAIL"); r != (result{}) {
		t.Errorf("nothing is read as %+v", r)
	}
}

// The engine's own error at the end of a run is no finding; the same words from an
// input, or beside one, are.
func TestTheEndOfARunIsNoFinding(t *testing.T) {
	const running = "fuzz: elapsed: 3s, execs: 10 (3/sec), new interesting: 1 (total: 4)\n"
	const end = "--- FAIL: FuzzGood (3.02s)\n    context deadline exceeded\nFAIL\n"
	for out, want := range map[string]bool{
		running + end:                     true,
		running + end + "exit status 1\n": true,
		running:                           false,
		"":                                false,
		running + "--- FAIL: FuzzGood (3.02s)\n    fuzzing process hung or terminated unexpectedly: context deadline exceeded\nFAIL\n":                                                                 false,
		running + "--- FAIL: FuzzGood (3.02s)\n    --- FAIL: FuzzGood (0.00s)\n        good_test.go:3: context deadline exceeded\n    \n    Failing input written to testdata/fuzz/FuzzGood/1\nFAIL\n": false,
		running + end + "panic: late\n": false,
	} {
		if got := onlyTimeUp(out); got != want {
			t.Errorf("%q: only time is up: %v", out, got)
		}
	}
}

func TestCorporaStaySmall(t *testing.T) {
	t.Chdir(t.TempDir())
	began := time.Unix(1_700_000_000, 0)
	for i := range 40 {
		name := filepath.Join("cache", "pkg", "FuzzX", fmt.Sprintf("%02d", i))
		write(t, name, strings.Repeat("x", 30*i))
		if err := os.Chtimes(name, began, began.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	x := target{dir: "pkg", name: "FuzzX"}
	write(t, filepath.Join(x.corpusDir(), "regression"), "kept")
	for range 2 { // the second time nothing is added
		if err := keepCorpora([]target{x, {dir: "pkg", name: "FuzzNone"}}, "cache", 4); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(x.corpusDir())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != "10 22 34 regression" {
			t.Errorf("kept %s", got)
		}
	}
}

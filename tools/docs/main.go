// Command docs checks what the documentation says about the repository and prints every fault:
//
//   - a relative link leads to a file, and a fragment to a heading of it;
//   - a `make target` named in a page is a target of the Makefile;
//   - decisions in docs/adr are numbered without gaps, written as questions, and listed in their index;
//   - a test named in docs/threats.md, docs/robustness.md, docs/validity-codes.md, docs/welmec.md or docs/runbooks/canaries.md
//     exists, in the package that is named before it;
//   - docs/welmec.md has a line for each requirement from U2 to D4, once, with a test and with what remains organisational;
//   - every rule of the architecture (C1, R0, S1, B1, N1, ...) has a test function that bears its name.
//
// It runs in the repository's root and changes nothing.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	files, err := repositoryFiles()
	if err != nil {
		return err
	}
	var failures []error
	pages := 0
	for _, name := range files {
		if !strings.HasSuffix(name, ".md") || strings.Contains(name, "testdata/") {
			continue
		}
		pages++
		failures = append(failures, checkPage(name)...)
	}
	failures = append(failures, checkDecisions(files)...)
	known, err := findTests(files)
	if err != nil {
		return err
	}
	failures = append(failures, checkRules(known)...)
	for _, name := range []string{"docs/threats.md", "docs/robustness.md", "docs/validity-codes.md", "docs/welmec.md", "docs/runbooks/canaries.md"} {
		failures = append(failures, checkNamedTests(name, known)...)
	}
	failures = append(failures, checkRequirements("docs/welmec.md")...)
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("%w\n%d faults in the documentation", err, len(failures))
	}
	fmt.Printf("documentation: %d pages, %d rules with tests\n", pages, len(rules))
	return nil
}

// repositoryFiles are the files that git knows or would add.
func repositoryFiles() ([]string, error) {
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	var files []string
	for _, name := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if _, err := os.Stat(name); err == nil { // deleted, and not committed yet
			files = append(files, name)
		}
	}
	return files, nil
}

package main

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
)

const decisions = "docs/adr"

var decisionName = regexp.MustCompile(`^(\d{4})-[a-z0-9-]+\.md$`)

// checkDecisions holds the files of docs/adr and their index together.
func checkDecisions(files []string) []error {
	var failures []error
	index, err := os.ReadFile(path.Join(decisions, "README.md"))
	if err != nil {
		return []error{err}
	}
	next := 1
	for _, name := range files { // git lists them in order
		base, ok := strings.CutPrefix(name, decisions+"/")
		if !ok || base == "README.md" {
			continue
		}
		number := decisionName.FindStringSubmatch(base)
		if number == nil {
			failures = append(failures, fmt.Errorf("%s: expected a name like 0001-words.md", name))
			continue
		}
		if want := fmt.Sprintf("%04d", next); number[1] != want {
			failures = append(failures, fmt.Errorf("%s: expected number %s next", name, want))
		}
		next++
		if !strings.Contains(string(index), "("+base+")") {
			failures = append(failures, fmt.Errorf("%s is not listed in %s/README.md", name, decisions))
		}
		text, err := os.ReadFile(name)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if title, _, _ := strings.Cut(string(text), "\n"); !strings.HasPrefix(title, "# ") || !strings.HasSuffix(title, "?") {
			failures = append(failures, fmt.Errorf("%s: the title %q is not a question", name, title))
		}
	}
	return failures
}

// rules are the architecture's, each of which has a test named after it. C8 comes with the cluster's governance.
var rules = []string{
	"C1", "C2", "C3", "C4", "C5", "C6", "C7",
	"R0", "R1", "R2", "R3", "R4", "R5",
	"S1", "S2", "S3", "S4", "S5", "S6",
	"B1", "B2", "B3", "B4",
	"N1", "N2",
}

package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// requirements are the groups of WELMEC 7.2 that the table is about: the letter, the first and the last number.
var requirements = []struct {
	letter      byte
	first, last byte
}{{'U', '2', '9'}, {'L', '1', '8'}, {'T', '1', '8'}, {'S', '1', '3'}, {'D', '1', '4'}}

// requirement is "U2" or "L2 to L4".
var requirement = regexp.MustCompile(`\b([A-Z])(\d)(?: to [A-Z](\d))?\b`)

// checkRequirements looks for one line of a table for each requirement, whose fourth column names a test and whose last one,
// what remains organisational, is not empty.
func checkRequirements(page string) []error {
	text, err := os.ReadFile(page)
	if err != nil {
		return []error{err}
	}
	var failures []error
	lines := make(map[string]int) // by requirement
	for i, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !requirement.MatchString(cells[1]) {
			continue
		}
		fault := func(format string, args ...any) {
			failures = append(failures, fmt.Errorf("%s:%d: %s", page, i+1, fmt.Sprintf(format, args...)))
		}
		if len(cells) != 7 || slices.ContainsFunc(cells[1:6], func(c string) bool { return strings.TrimSpace(c) == "" }) {
			fault("want five cells, none empty")
		} else if !strings.Contains(cells[4], "`Test") && !strings.Contains(cells[4], "`Fuzz") {
			fault("no test is named")
		}
		for _, match := range requirement.FindAllStringSubmatch(cells[1], -1) {
			last := match[3]
			if last == "" {
				last = match[2]
			}
			for n := match[2][0]; n <= last[0]; n++ {
				name := match[1] + string(n)
				if before, ok := lines[name]; ok {
					fault("%s is in line %d too", name, before)
				}
				lines[name] = i + 1
			}
		}
	}
	for _, group := range requirements {
		for n := group.first; n <= group.last; n++ {
			if name := string(group.letter) + string(n); lines[name] == 0 {
				failures = append(failures, fmt.Errorf("%s: no line for %s", page, name))
			}
		}
	}
	return failures
}

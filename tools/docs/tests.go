package main

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	testName = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	ruleName = regexp.MustCompile(`^[A-Z]\d$`)
	// named is a package, a test, or the end of a table's cell.
	named = regexp.MustCompile("\\*([a-z0-9]+(?:/[a-z0-9]+)*)\\*|`((?:Test|Fuzz)\\w+)`|\\|")
)

// tests are the folders that have a test function of a name.
type tests map[string][]string

func findTests(files []string) (tests, error) {
	found := make(tests)
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for _, match := range testName.FindAllStringSubmatch(string(text), -1) {
			found[match[1]] = append(found[match[1]], path.Dir(name))
		}
	}
	return found, nil
}

// checkRules looks for a test function of each rule: TestRULE_..., or of several, TestRULE_RULE_...
func checkRules(known tests) []error {
	tested := make(map[string]bool)
	for name := range known {
		for _, part := range strings.Split(strings.TrimPrefix(name, "Test"), "_") {
			if ruleName.MatchString(part) {
				tested[part] = true
			}
		}
	}
	missing := slices.DeleteFunc(slices.Clone(rules), func(rule string) bool { return tested[rule] })
	if len(missing) == 0 {
		return nil
	}
	return []error{fmt.Errorf("rules of the architecture without a test named after them (TestRULE_...): %s", strings.Join(missing, ", "))}
}

// checkNamedTests looks for each test that a page names as *package*: `Test`. The package holds to the end of its
// cell or line; a name that ends in _ stands for all that begin with it.
func checkNamedTests(page string, known tests) []error {
	text, err := os.ReadFile(page)
	if err != nil {
		return []error{err}
	}
	var failures []error
	for i, line := range strings.Split(string(text), "\n") {
		folder := ""
		for _, match := range named.FindAllStringSubmatch(line, -1) {
			test := match[2]
			switch {
			case test == "": // a package, or the end of a cell
				folder = match[1]
			case strings.HasSuffix(test, "_"):
			case known[test] == nil:
				failures = append(failures, fmt.Errorf("%s:%d: there is no test %s", page, i+1, test))
			case folder != "" && !slices.Contains(known[test], folder):
				failures = append(failures, fmt.Errorf("%s:%d: %s is in %s, not in %s", page, i+1, test, strings.Join(known[test], ", "), folder))
			}
		}
	}
	return failures
}

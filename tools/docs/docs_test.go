package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inRepository runs check in a directory that holds the files given.
func inRepository(t *testing.T, files map[string]string, check func() []error) string {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	for _, err := range check() {
		all = append(all, err.Error())
	}
	return strings.Join(all, "\n")
}

func TestPages(t *testing.T) {
	const makefile = "test: ## x\ngo-on:\n"
	cases := map[string]struct {
		page string
		want string // in the faults; "" for none
	}{
		"good": {"# A b!\n[x](other.md#one-two) [y](#a-b) [z](https://example.org/none) `make test go-on` `make go-on X=1`\n" +
			"```\n[no](link)\nmake test\n```\n`[no](link)`", ""},
		"lost file":       {"[x](lost.md)", "lost.md, which is not there"},
		"lost heading":    {"[x](other.md#three)", "no such heading"},
		"lost own":        {"[x](#three)", "no such heading"},
		"lost target":     {"`make tset`", "`make tset`"},
		"lost in a block": {"```\n$ make test lost\n```", "`make lost`"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := inRepository(t, map[string]string{"Makefile": makefile, "docs/page.md": c.page, "docs/other.md": "## One two\n"},
				func() []error { return checkPage("docs/page.md") })
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Fatalf("faults %q, want %q", got, c.want)
			}
		})
	}
}

func TestDecisions(t *testing.T) {
	cases := map[string]struct {
		file, text, index, want string
	}{
		"good":         {"docs/adr/0001-why.md", "# Why?\n", "[why](0001-why.md)", ""},
		"gap":          {"docs/adr/0002-why.md", "# Why?\n", "[why](0002-why.md)", "expected number 0001"},
		"no question":  {"docs/adr/0001-why.md", "# Because\n", "[why](0001-why.md)", "not a question"},
		"not listed":   {"docs/adr/0001-why.md", "# Why?\n", "", "not listed"},
		"name is none": {"docs/adr/why.md", "# Why?\n", "", "expected a name"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := inRepository(t, map[string]string{c.file: c.text, "docs/adr/README.md": c.index},
				func() []error { return checkDecisions([]string{c.file, "docs/adr/README.md"}) })
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Fatalf("faults %q, want %q", got, c.want)
			}
		})
	}
}

func TestRulesWithoutTestsAreNamed(t *testing.T) {
	var source strings.Builder
	for _, rule := range rules {
		if rule != "S3" {
			source.WriteString("func Test" + rule + "_Something(t *testing.T) {}\n")
		}
	}
	got := inRepository(t, map[string]string{"a_test.go": source.String()}, func() []error {
		known, err := findTests([]string{"a_test.go"})
		if err != nil {
			return []error{err}
		}
		return checkRules(known)
	})
	if !strings.HasSuffix(got, ": S3") {
		t.Fatalf("faults %q, want S3 alone", got)
	}
}

func TestNamedTestsExist(t *testing.T) {
	cases := map[string]struct{ line, want string }{
		"good":            {"| *a/b*: `TestOne`, `FuzzTwo`; *c*: `TestThree` | `TestOne` and all of `TestS4_` |", ""},
		"lost":            {"text\n*a/b*: `TestOen`", "page.md:2: there is no test TestOen"},
		"another package": {"| *c*: `TestThree`, `TestOne` |", "TestOne is in a/b, not in c"},
	}
	files := map[string]string{
		"a/b/x_test.go": "func TestOne(t *testing.T) {}\nfunc FuzzTwo(f *testing.F) {}\n",
		"c/y_test.go":   "func TestThree(t *testing.T) {}\n",
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			files["page.md"] = c.line
			got := inRepository(t, files, func() []error {
				known, err := findTests([]string{"a/b/x_test.go", "c/y_test.go"})
				if err != nil {
					return []error{err}
				}
				return checkNamedTests("page.md", known)
			})
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Fatalf("faults %q, want %q", got, c.want)
			}
		})
	}
}

func TestRequirementsHaveALine(t *testing.T) {
	const others = "| L1 to L8 | b | m | `TestX` | o |\n| T1 to T8 | b | m | `FuzzX` | o |\n| S1 to S3, D1 to D4 | b | m | `TestX` | o |\n"
	cases := map[string]struct{ lines, want string }{
		"good":            {"| U2, U3, U4 to U9 words | b | m | *p* `TestX` | o |", ""},
		"one is missing":  {"| U2, U4 to U9 | b | m | `TestX` | o |", "no line for U3"},
		"twice":           {"| U2 to U9 | b | m | `TestX` | o |\n| U5 | b | m | `TestX` | o |", "U5 is in line 4 too"},
		"no test":         {"| U2 to U9 | b | m | `make verify` | o |", "no test is named"},
		"nothing remains": {"| U2 to U9 | b | m | `TestX` | |", "want five cells, none empty"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := inRepository(t, map[string]string{"page.md": others + c.lines + "\n"}, func() []error { return checkRequirements("page.md") })
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Fatalf("faults %q, want %q", got, c.want)
			}
		})
	}
}

package main

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"unicode"
)

var (
	codeFence = regexp.MustCompile("(?ms)^[ \t]*```.*?\n[ \t]*```[ \t]*$")
	codeSpan  = regexp.MustCompile("`[^`\n]+`")
	link      = regexp.MustCompile(`\]\(([^()\s]+)(?:\s+"[^"]*")?\)`)
	heading   = regexp.MustCompile(`(?m)^#{1,6}\s+(.+?)\s*#*$`)
	anchor    = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
	makeWords = regexp.MustCompile("(?m)(?:^|`|\\$ )make ([a-z][a-z-]*(?: [a-z][a-z-]*)*)")
	makeRule  = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
)

func checkPage(name string) []error {
	text, err := os.ReadFile(name)
	if err != nil {
		return []error{err}
	}
	failures := checkMakeTargets(name, string(text))
	for _, match := range link.FindAllStringSubmatch(prose(string(text)), -1) {
		if err := checkLink(name, match[1]); err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

// prose is a page without its code, where brackets mean something else.
func prose(text string) string {
	return codeSpan.ReplaceAllString(codeFence.ReplaceAllString(text, ""), "code")
}

func checkLink(page, target string) error {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return nil // what lies elsewhere is not ours to keep
	}
	file, fragment, _ := strings.Cut(target, "#")
	file = path.Join(path.Dir(page), file)
	if strings.HasPrefix(target, "#") {
		file = page
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("%s links to %s, which is not there", page, target)
	}
	if fragment == "" || info.IsDir() || !strings.HasSuffix(file, ".md") {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !anchors(string(text))[fragment] {
		return fmt.Errorf("%s links to %s, but %s has no such heading", page, target, file)
	}
	return nil
}

// anchors are the fragments that a renderer gives a page's headings (GitHub's rule), and explicit ones.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, match := range heading.FindAllStringSubmatch(codeFence.ReplaceAllString(text, ""), -1) {
		var slug strings.Builder
		for _, letter := range strings.ToLower(match[1]) {
			switch {
			case unicode.IsLetter(letter), unicode.IsDigit(letter), letter == '-', letter == '_':
				slug.WriteRune(letter)
			case letter == ' ':
				slug.WriteByte('-')
			}
		}
		name := slug.String()
		for i := 1; found[name]; i++ {
			name = fmt.Sprintf("%s-%d", slug.String(), i)
		}
		found[name] = true
	}
	for _, match := range anchor.FindAllStringSubmatch(text, -1) {
		found[match[1]] = true
	}
	return found
}

// checkMakeTargets looks at `make ...` in code: every word up to the first option must be a target.
func checkMakeTargets(page, text string) []error {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		return []error{err}
	}
	targets := make(map[string]bool)
	for _, match := range makeRule.FindAllStringSubmatch(string(makefile), -1) {
		targets[match[1]] = true
	}
	var failures []error
	for _, code := range append(codeFence.FindAllString(text, -1), codeSpan.FindAllString(codeFence.ReplaceAllString(text, ""), -1)...) {
		for _, match := range makeWords.FindAllStringSubmatch(code, -1) {
			for _, word := range strings.Fields(match[1]) {
				if !targets[word] {
					failures = append(failures, fmt.Errorf("%s names `make %s`, which is no target of the Makefile", page, word))
				}
			}
		}
	}
	return failures
}

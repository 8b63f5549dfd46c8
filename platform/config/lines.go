package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// problem is one thing that is wrong with a file.
type problem struct {
	line int // from 1; 0 for what is not in the file
	err  error
}

func isTypeError(err error) bool {
	var typeError *yaml.TypeError
	return errors.As(err, &typeError)
}

// typeProblems are the library's errors of types, unknown keys and keys given twice; each text begins with its line.
func typeProblems(err error) []problem {
	var typeError *yaml.TypeError
	if !errors.As(err, &typeError) {
		return nil
	}
	problems := make([]problem, len(typeError.Errors))
	for i, text := range typeError.Errors {
		problems[i].err = errors.New(text)
		if rest, ok := strings.CutPrefix(text, "line "); ok {
			number, _, _ := strings.Cut(rest, ":") // a text without a number has no line
			problems[i].line, _ = strconv.Atoi(number)
		}
	}
	return problems
}

// keyPath is the path of keys that a violation begins with, such as "ledger.replicas[0].spki".
var keyPath = regexp.MustCompile(`^(([a-z0-9_]+(?:\[\d+\])?)(?:[.]|: ))+`)

// ruleProblems gives violations of rules the line of the key that they name.
func ruleProblems(document *yaml.Node, violations []error) []problem {
	problems := make([]problem, len(violations))
	for i, err := range violations {
		problems[i] = problem{err: err}
		path := strings.ReplaceAll(strings.TrimSuffix(keyPath.FindString(err.Error()), ": "), ": ", ".")
		if line := lineOf(document, strings.Split(path, ".")); line > 0 {
			problems[i] = problem{line: line, err: fmt.Errorf("line %d: %w", line, err)}
		}
	}
	return problems
}

// lineOf is the line of the deepest key of the path that the document has; 0 when it has not the first.
func lineOf(document *yaml.Node, path []string) (line int) {
	node := document
	if node.Kind == yaml.DocumentNode && len(node.Content) == 1 {
		node = node.Content[0]
	}
	for _, key := range path {
		name, index, indexed := strings.Cut(strings.TrimSuffix(key, "]"), "[")
		at := slices.IndexFunc(keysOf(node), func(k *yaml.Node) bool { return k.Value == name })
		if at < 0 {
			return line
		}
		line, node = node.Content[2*at].Line, node.Content[2*at+1]
		if !indexed {
			continue
		}
		i, err := strconv.Atoi(index)
		if err != nil || node.Kind != yaml.SequenceNode || i >= len(node.Content) {
			return line
		}
		node = node.Content[i]
		line = node.Line
	}
	return line
}

// keysOf are the keys of a mapping, in order.
func keysOf(node *yaml.Node) []*yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	keys := make([]*yaml.Node, 0, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		keys = append(keys, node.Content[i])
	}
	return keys
}

// joinByLine joins what is wrong with types and what breaks rules, in the order of the lines. A rule that is broken on
// the line of a wrong type says nothing new: the value was never read.
func joinByLine(types, rules []problem) error {
	all := slices.Clone(types)
	for _, rule := range rules {
		if rule.line == 0 || !slices.ContainsFunc(types, func(t problem) bool { return t.line == rule.line }) {
			all = append(all, rule)
		}
	}
	slices.SortStableFunc(all, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	failures := make([]error, len(all))
	for i, p := range all {
		failures[i] = p.err
	}
	return errors.Join(failures...)
}

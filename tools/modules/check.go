package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// mayImport is the direction of imports (docs/architecture.md, Layout): for each module the local modules that its
// packages, tests included, may import. "services/*" stands for every service: none imports another.
var mayImport = map[string][]string{
	"gen":        {},
	"algorithms": {},
	"core":       {"gen", "algorithms"}, // of algorithms only the byte layout, package abi
	"sandbox":    {"gen", "core", "algorithms"},
	"platform":   {"gen", "core", "algorithms"},
	"meter":      {"gen", "core", "platform", "algorithms"},
	"services/*": {"gen", "core", "platform", "sandbox", "algorithms"},
	"cli":        {"gen", "core", "platform", "sandbox", "algorithms", "meter", "services/*"},
}

// narrowed lists, where only part of a module may be imported, that part.
var narrowed = map[[2]string][]string{
	{"core", "algorithms"}:     {"algorithms/abi"},
	{"platform", "algorithms"}: {"algorithms/abi"},
}

// forbidden are the imports that the pure module core must not reach, however indirectly: no network, no storage, no
// engine. The prefix form covers a whole tree.
var forbidden = []string{
	"net/http", "os/exec", "google.golang.org/grpc", "github.com/hashicorp/raft", "github.com/hashicorp/raft-wal",
	"go.etcd.io/bbolt", "github.com/tetratelabs/wazero",
}

func check(all, chosen []module) error {
	var failures []error
	for _, m := range chosen {
		failures = append(failures, checkDirection(all, m)...)
		failures = append(failures, checkAlone(m)...)
		if m.dir == "core" {
			failures = append(failures, checkPure(m)...)
		}
	}
	return errors.Join(failures...)
}

// checkDirection compares each import of another local module with mayImport.
func checkDirection(modules []module, m module) []error {
	allowed, known := mayImport[class(m.dir)]
	if !known {
		return []error{fmt.Errorf("%s: the direction of its imports is not decided; add it to mayImport in tools/modules", m.dir)}
	}
	packages, err := list(m)
	if err != nil {
		return []error{err}
	}
	var failures []error
	for _, p := range packages {
		for _, imported := range p.imports() {
			dependency, local := owner(modules, imported)
			if !local || dependency == m {
				continue
			}
			if !slices.Contains(allowed, class(dependency.dir)) {
				failures = append(failures, fmt.Errorf("%s imports %s: %s may import only %v", p.ImportPath, imported, m.dir, allowed))
			} else if parts, ok := narrowed[[2]string{m.dir, dependency.dir}]; ok && !slices.Contains(parts, strings.TrimPrefix(imported, prefix)) {
				failures = append(failures, fmt.Errorf("%s imports %s: of %s, %s may import only %v", p.ImportPath, imported, dependency.dir, m.dir, parts))
			}
		}
	}
	return failures
}

// class maps every service to one row of the table.
func class(dir string) string {
	if strings.HasPrefix(dir, "services/") {
		return "services/*"
	}
	return dir
}

// checkPure looks through everything that core's packages, tests apart, link in.
func checkPure(m module) []error {
	packages, err := list(m, "-deps")
	if err != nil {
		return []error{err}
	}
	var failures []error
	for _, p := range packages {
		if !strings.HasPrefix(p.ImportPath, m.path) {
			continue
		}
		for _, dependency := range p.Deps {
			for _, f := range forbidden {
				if dependency == f || strings.HasPrefix(dependency, f+"/") {
					failures = append(failures, fmt.Errorf("%s reaches %s, which core must not", p.ImportPath, dependency))
				}
			}
		}
	}
	return failures
}

// checkAlone builds the module without the workspace and asks whether its go.mod is tidy.
func checkAlone(m module) []error {
	var failures []error
	for _, args := range [][]string{{"build", "./..."}, {"mod", "tidy", "-diff"}} {
		if _, err := command(m.dir, []string{"GOWORK=off"}, "go", args...); err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

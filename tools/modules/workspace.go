package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// prefix is what all module paths of this repository begin with.
const prefix = "github.com/lacre-metrology/lacre/"

// module is one module of the workspace.
type module struct {
	dir  string // relative to the root, with slashes: "services/ledger"
	path string // module path: prefix + dir
}

func readWorkspace(name string) ([]module, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("run this in the repository's root: %w", err)
	}
	work, err := modfile.ParseWork(name, text, nil)
	if err != nil {
		return nil, err
	}
	var modules []module
	for _, use := range work.Use {
		dir := path.Clean(use.Path)
		modules = append(modules, module{dir: dir, path: prefix + dir})
	}
	return modules, nil
}

// owner is the module that a package belongs to, or false for packages from elsewhere. Of modules within each other the
// innermost wins.
func owner(modules []module, importPath string) (module, bool) {
	var best module
	for _, m := range modules {
		if (importPath == m.path || strings.HasPrefix(importPath, m.path+"/")) && len(m.path) > len(best.path) {
			best = m
		}
	}
	return best, best.path != ""
}

// listed is the part of `go list -json` that we read.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func (p listed) imports() []string {
	all := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
	slices.Sort(all)
	return slices.Compact(all)
}

// list runs go list in the workspace for all packages of one module.
func list(m module, flags ...string) ([]listed, error) {
	out, err := command(m.dir, nil, "go", append(append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, flags...), "./...")...)
	if err != nil {
		return nil, err
	}
	var packages []listed
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list in %s: %w", m.dir, err)
		}
		packages = append(packages, p)
	}
}

// directDependencies are the local modules whose packages, tests included, the module imports.
func directDependencies(modules []module, m module) (map[string]module, error) {
	packages, err := list(m, "-e")
	if err != nil {
		return nil, err
	}
	found := make(map[string]module)
	for _, p := range packages {
		for _, imported := range p.imports() {
			if dependency, ok := owner(modules, imported); ok && dependency != m {
				found[dependency.dir] = dependency
			}
		}
	}
	return found, nil
}

// closure adds what the dependencies depend on: `replace` is not transitive, so a go.mod must name them all.
func closure(direct map[string]map[string]module, of module) []module {
	found := make(map[string]module)
	pending := slices.Collect(maps.Values(direct[of.dir]))
	for len(pending) > 0 {
		next := pending[0]
		pending = pending[1:]
		if _, seen := found[next.dir]; !seen && next != of {
			found[next.dir] = next
			pending = slices.AppendSeq(pending, maps.Values(direct[next.dir]))
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b module) int { return strings.Compare(a.dir, b.dir) })
}

// command runs a program in dir and returns its standard output; its standard error becomes part of the error.
func command(dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("in %s: %s: %w\n%s%s", dir, cmd, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

package main

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/mod/modfile"
)

// localVersion stands in go.mod for a module of this repository; a release writes real versions.
const localVersion = "v0.0.0"

// tidy writes the local lines of the chosen go.mod files and tidies them.
func tidy(all, chosen []module) error {
	direct := make(map[string]map[string]module)
	for _, m := range all {
		dependencies, err := directDependencies(all, m)
		if err != nil {
			return err
		}
		direct[m.dir] = dependencies
	}
	for _, m := range chosen {
		if err := writeLocal(m, closure(direct, m)); err != nil {
			return err
		}
		if _, err := command(m.dir, []string{"GOWORK=off"}, "go", "mod", "tidy"); err != nil {
			return err
		}
	}
	return nil
}

// writeLocal replaces all require and replace lines of local modules by those of the dependencies.
func writeLocal(m module, dependencies []module) error {
	name := path.Join(m.dir, "go.mod")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	file, err := modfile.Parse(name, text, nil)
	if err != nil {
		return err
	}
	wanted := make(map[string]bool)
	for _, dependency := range dependencies {
		wanted[dependency.path] = true
	}
	for _, r := range file.Require {
		if strings.HasPrefix(r.Mod.Path, prefix) && (!wanted[r.Mod.Path] || r.Mod.Version != localVersion) {
			if err := file.DropRequire(r.Mod.Path); err != nil {
				return err
			}
		}
	}
	for _, r := range file.Replace {
		if strings.HasPrefix(r.Old.Path, prefix) {
			if err := file.DropReplace(r.Old.Path, r.Old.Version); err != nil {
				return err
			}
		}
	}
	up := strings.Repeat("../", strings.Count(m.dir, "/")+1)
	for _, dependency := range dependencies {
		// Tidy moves what is imported only indirectly to its own block.
		if err := file.AddRequire(dependency.path, localVersion); err != nil {
			return err
		}
		if err := file.AddReplace(dependency.path, "", up+dependency.dir, ""); err != nil {
			return err
		}
	}
	file.Cleanup()
	formatted, err := file.Format()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, formatted, 0o644)
}

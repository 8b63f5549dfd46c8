// Command modules keeps the workspace's modules in order.
//
//	modules list            print the modules of go.work, one per line
//	modules tidy [DIR...]   write the local require and replace lines of the go.mod files, then go mod tidy each
//	modules check [DIR...]  verify the direction of imports, core's forbidden imports, and that every go.mod stands alone
//
// Without DIR all modules are meant.
//
// It runs in the repository's root. A workspace hides two faults that an outside user would meet: an import of a module
// that go.mod does not name, and one against the direction of the architecture. `check` looks for both.
package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const usage = "usage: modules list|tidy|check [DIR...]"

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	all, err := readWorkspace("go.work")
	if err != nil {
		return err
	}
	chosen, err := choose(all, args[1:])
	if err != nil {
		return err
	}
	switch args[0] {
	case "list":
		for _, m := range chosen {
			fmt.Println(m.dir)
		}
		return nil
	case "tidy":
		return tidy(all, chosen)
	case "check":
		return check(all, chosen)
	default:
		return fmt.Errorf("unknown command %q; %s", args[0], usage)
	}
}

func choose(all []module, dirs []string) ([]module, error) {
	if len(dirs) == 0 {
		return all, nil
	}
	var chosen []module
	for _, dir := range dirs {
		i := slices.IndexFunc(all, func(m module) bool { return m.dir == path.Clean(dir) })
		if i < 0 {
			return nil, fmt.Errorf("%s is not in go.work", dir)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mod(dir string) module { return module{dir: dir, path: prefix + dir} }

func TestOwnerIsTheInnermostModule(t *testing.T) {
	all := []module{mod("services"), mod("services/ledger"), mod("core")}
	cases := map[string]string{
		prefix + "services/ledger/internal/api": "services/ledger",
		prefix + "services/ledgers":             "services",
		prefix + "core":                         "core",
		prefix + "corelib":                      "",
		"google.golang.org/grpc":                "",
	}
	for imported, want := range cases {
		if got, _ := owner(all, imported); got.dir != want {
			t.Errorf("%s belongs to %q, want %q", imported, got.dir, want)
		}
	}
}

func TestClosureFollowsDependenciesOfDependencies(t *testing.T) {
	direct := map[string]map[string]module{
		"cli":      {"platform": mod("platform")},
		"platform": {"core": mod("core"), "gen": mod("gen")},
		"core":     {"gen": mod("gen"), "cli": mod("cli")}, // a cycle must not hang it
	}
	var got []string
	for _, m := range closure(direct, mod("cli")) {
		got = append(got, m.dir)
	}
	if strings.Join(got, " ") != "core gen platform" {
		t.Fatalf("got %v", got)
	}
}

func TestWriteLocalReplacesOnlyLocalLines(t *testing.T) {
	t.Chdir(t.TempDir())
	name := filepath.Join("services", "ledger", "go.mod")
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	before := "module " + prefix + "services/ledger\n\ngo 1.26\n\nrequire (\n\t" + prefix + "sandbox v0.0.0\n\t" + prefix +
		"core v0.0.0-00010101000000-000000000000\n\texample.org/kept v1.2.3\n)\n\nreplace " + prefix + "sandbox => ../../sandbox\n"
	if err := os.WriteFile(name, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeLocal(mod("services/ledger"), []module{mod("core"), mod("gen")}); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"sandbox":                              false,
		"v0.0.0-0001":                          false,
		"example.org/kept v1.2.3":              true,
		prefix + "core v0.0.0\n":               true,
		prefix + "gen v0.0.0\n":                true,
		prefix + "core => ../../core\n":        true,
		"replace " + prefix + "gen => ../../g": true,
	} {
		if strings.Contains(string(after), text) != want {
			t.Errorf("go.mod holds %q: %v, want %v\n%s", text, !want, want, after)
		}
	}
}

// Package admintest compares a service's metrics with the page that documents
// them.
//
// Source: docs/metrics.md, whose tables have a metric's name first in each row.
package admintest

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	described = regexp.MustCompile(`fqName: "([^"]+)"`) // of prometheus.Desc.String
	row       = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)`")
)

// Documented wants the page to list exactly the registered metrics of a prefix.
func Documented(t *testing.T, registry *prometheus.Registry, prefix, page string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var listed, registered []string
	for _, m := range row.FindAllSubmatch(text, -1) {
		listed = append(listed, string(m[1]))
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descriptions)
		close(descriptions)
	}()
	for d := range descriptions {
		registered = append(registered, described.FindStringSubmatch(d.String())[1])
	}
	own := func(names []string) []string {
		names = slices.DeleteFunc(names, func(n string) bool { return len(n) < len(prefix) || n[:len(prefix)] != prefix })
		slices.Sort(names)
		return slices.Compact(names)
	}
	listed, registered = own(listed), own(registered)
	if !slices.Equal(listed, registered) {
		t.Errorf("%s lists %v\nregistered are %v", page, listed, registered)
	}
	if len(registered) == 0 {
		t.Errorf("no metric begins with %s", prefix)
	}
}

package serviceconfig

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rulesFile asks for the dashboard's queries as recording rules, which promtool parses (make monitoring): a parser of
// PromQL as a library would bring all of Prometheus.
var rulesFile = flag.String("rules", "", "file to write the dashboard's queries to, as recording rules")

// panel is what of a Grafana panel is looked at.
type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Targets     []struct{ Expr, LegendFormat string }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Links       []struct{ URL string }
	GridPos     struct{ X, Y, W, H int }
}

type dashboard struct {
	UID         string
	Panels      []panel
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct{ Name, Definition string }
	}
}

// variable is what Grafana puts into a query; its values here only have to parse.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")

// units are Grafana's names of units that the dashboard uses.
var units = []string{"none", "short", "s", "d", "ops", "bytes", "percentunit"}

// foreign are metrics of libraries and of Prometheus itself, as far as the dashboard uses them.
var foreign = []string{"grpc_server_handling_seconds", "grpc_server_handled_total", "process_cpu_seconds_total", "process_resident_memory_bytes", "ALERTS"}

// Every panel of the dashboard says what it shows, in which unit, and leads to a runbook that there is; every query asks
// for metrics that docs/metrics.md lists; nothing lies over anything else; and what an alert judges is to be seen.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	check := func(where, expr string) {
		for _, metric := range metricsOf(expr) {
			shown[metric] = true
			if !slices.Contains(foreign, metric) && !strings.Contains(string(metrics), "| `"+metric+"` |") {
				t.Errorf("%s asks for %s, which docs/metrics.md does not list", where, metric)
			}
		}
	}
	ids := make(map[int]bool)
	panels := slices.DeleteFunc(slices.Clone(d.Panels), func(p panel) bool { return p.Type == "row" })
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have id %d", p.ID)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%q lies at %+v, beside the 24 columns", p.Title, g)
		}
		for _, other := range d.Panels {
			a, b := p.GridPos, other.GridPos
			if p.ID < other.ID && a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%q lies over %q", p.Title, other.Title)
			}
		}
	}
	var rules []map[string]string
	for _, p := range panels {
		if p.Title == "" || len(p.Description) < 40 || !slices.Contains(units, p.FieldConfig.Defaults.Unit) || len(p.Targets) == 0 || len(p.Links) != 1 {
			t.Errorf("panel %d %q has the unit %q, %d queries, %d links, and the description %q; want all of these",
				p.ID, p.Title, p.FieldConfig.Defaults.Unit, len(p.Targets), len(p.Links), p.Description)
			continue
		}
		page, found := strings.CutPrefix(p.Links[0].URL, "${runbooks}/")
		if _, err := os.Stat("../../../docs/runbooks/" + page); !found || err != nil {
			t.Errorf("%q leads to %q, which is no runbook: %v", p.Title, p.Links[0].URL, err)
		}
		for i, target := range p.Targets {
			check(fmt.Sprintf("%q", p.Title), target.Expr)
			rules = append(rules, map[string]string{"record": fmt.Sprintf("panel:%d:%d", p.ID, i), "expr": variables.Replace(target.Expr)})
		}
	}
	for _, a := range d.Annotations.List {
		check("an annotation", a.Expr)
		rules = append(rules, map[string]string{"record": "annotation", "expr": variables.Replace(a.Expr)})
	}
	for _, v := range d.Templating.List {
		check("variable "+v.Name, v.Definition)
	}
	alerts, err := os.ReadFile("../../../deploy/monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(alerts)) {
		if expr, found := strings.CutPrefix(strings.TrimSpace(line), "expr: "); found {
			for _, metric := range metricsOf(expr) {
				if !shown[metric] {
					t.Errorf("an alert judges %s, and no panel shows it", metric)
				}
			}
		}
	}
	if *rulesFile == "" {
		return
	}
	file, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*rulesFile, file, 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	metricName = regexp.MustCompile(`\b(?:lacre_|grpc_|process_|go_)[a-z_]+|\bALERTS\b`)
	labels     = regexp.MustCompile(`\b(?:by|without|on|ignoring) \([a-z_, ]*\)|[a-z_]+=~?"`) // of which some look like metrics
)

// metricsOf are the metrics that a query asks for, a histogram under its own name.
func metricsOf(expr string) []string {
	var found []string
	for _, name := range metricName.FindAllString(labels.ReplaceAllString(expr, " "), -1) {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			name = strings.TrimSuffix(name, suffix)
		}
		found = append(found, name)
	}
	return found
}

package serviceconfig

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every alert asks for metrics that docs/metrics.md lists, and names a runbook that there is and that names it.
func TestAlertsNameMetricsAndRunbooks(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := os.ReadFile("../../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Expr        string            `yaml:"expr"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`\blacre_[a-z_]+`)
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			for _, metric := range name.FindAllString(rule.Expr, -1) {
				if !strings.Contains(string(metrics), "| `"+strings.TrimSuffix(metric, "_bucket")+"` |") {
					t.Errorf("%s asks for %s, which docs/metrics.md does not list", rule.Alert, metric)
				}
			}
			page, err := os.ReadFile("../../../docs/runbooks/" + rule.Annotations["runbook"])
			if err != nil || !strings.Contains(string(page), "`"+rule.Alert+"`") {
				t.Errorf("the runbook %q does not name alert %s: %v", rule.Annotations["runbook"], rule.Alert, err)
			}
		}
	}
	if rules == 0 {
		t.Error("no rules")
	}
}

package ingest

import (
	"testing"

	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/admin/admintest"
)

func TestMetricsAreDocumented(t *testing.T) {
	registry := admin.NewRegistry()
	observe(registry)
	registry.MustRegister(new(Service).gauges())
	admintest.Documented(t, registry, "lacre_ingest_", "../../docs/metrics.md")
}

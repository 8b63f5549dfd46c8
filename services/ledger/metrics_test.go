package ledger

import (
	"testing"

	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/admin/admintest"
)

func TestMetricsAreDocumented(t *testing.T) {
	s := &Service{metrics: admin.NewRegistry()}
	newMeters(s.metrics)
	s.metrics.MustRegister(s.gauges())
	admintest.Documented(t, s.metrics, "lacre_ledger_", "../../docs/metrics.md")
	admintest.Documented(t, s.metrics, "lacre_build_", "../../docs/metrics.md")
}

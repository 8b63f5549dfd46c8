package ledger

import (
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/admin/admintest"
)

func TestMetricsAreDocumented(t *testing.T) {
	s := &Service{metrics: admin.NewRegistry()}
	newMeters(s.metrics)
	s.metrics.MustRegister(s.gauges(), admin.Certificate(time.Now))
	admintest.Documented(t, s.metrics, "lacre_ledger_", "../../docs/metrics.md")
	admintest.Documented(t, s.metrics, "lacre_build_", "../../docs/metrics.md")
	admintest.Documented(t, s.metrics, "lacre_tls_", "../../docs/metrics.md")
}

package admin

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lacre-metrology/lacre/platform/version"
)

// NewRegistry is a registry with what every process shows: the Go runtime, the process, the build.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "lacre_build_info", Help: "Always 1; the labels say which build runs.",
	}, []string{"version", "go_version"})
	build.WithLabelValues(version.String(), runtime.Version()).Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

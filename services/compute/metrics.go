package compute

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/sandbox"
	"github.com/lacre-metrology/lacre/services/compute/internal/endorse"
)

// observe counts runs of modules. The counter of a code is found under a shared
// lock: some 100 ns beside the tens of microseconds of a run.
func observe(registry *prometheus.Registry) func(endorse.Run) {
	runs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lacre_compute_runs_total", Help: "Runs of modules that gave a result, by its code.",
	}, []string{"code"})
	fuel := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "lacre_compute_fuel_total", Help: "Fuel used by these runs, in units of fuel.",
	})
	registry.MustRegister(runs, fuel)
	return func(r endorse.Run) {
		runs.WithLabelValues(strconv.FormatUint(uint64(r.Code), 10)).Inc()
		fuel.Add(float64(r.FuelUsed))
	}
}

// gauges are read from the modules.
func (s *Service) gauges() *admin.Gauges {
	g := new(admin.Gauges)
	g.Gauge("lacre_compute_modules", "Modules that this endorser holds.", nil, func(emit func(float64, ...string)) {
		emit(float64(len(s.modules.List())))
	})
	g.Counter("lacre_compute_cross_checks_total", "Runs repeated on the interpreter.", nil, func(emit func(float64, ...string)) {
		emit(float64(s.stats().CrossChecks))
	})
	g.Counter("lacre_compute_divergences_total", "Repeated runs that differed from the first.", nil, func(emit func(float64, ...string)) {
		emit(float64(s.stats().Divergences))
	})
	return g
}

// stats adds up what the programs counted since the start.
func (s *Service) stats() (sum sandbox.Stats) {
	for _, id := range s.modules.List() {
		if program := s.modules.Program(id); program != nil {
			of := program.Stats()
			sum.CrossChecks += of.CrossChecks
			sum.Divergences += of.Divergences
		}
	}
	return sum
}

package admin

import "github.com/prometheus/client_golang/prometheus"

// Gauges are read when somebody gathers, and cost nothing in between: a Collector
// of values that a service holds anyway.
type Gauges struct {
	descs []*prometheus.Desc
	kinds []prometheus.ValueType
	reads []func(emit func(value float64, labels ...string))
}

// Gauge adds a value that goes up and down. read is called by any goroutine and
// must not wait long; it emits a value for each combination of label values.
func (g *Gauges) Gauge(name, help string, labels []string, read func(emit func(value float64, labels ...string))) {
	g.add(prometheus.GaugeValue, name, help, labels, read)
}

// Counter adds a value that only goes up; its name ends in _total.
func (g *Gauges) Counter(name, help string, labels []string, read func(emit func(value float64, labels ...string))) {
	g.add(prometheus.CounterValue, name, help, labels, read)
}

func (g *Gauges) add(kind prometheus.ValueType, name, help string, labels []string, read func(emit func(value float64, labels ...string))) {
	g.descs = append(g.descs, prometheus.NewDesc(name, help, labels, nil))
	g.kinds = append(g.kinds, kind)
	g.reads = append(g.reads, read)
}

// Describe implements prometheus.Collector.
func (g *Gauges) Describe(out chan<- *prometheus.Desc) {
	for _, d := range g.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (g *Gauges) Collect(out chan<- prometheus.Metric) {
	for i, read := range g.reads {
		read(func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(g.descs[i], g.kinds[i], value, labels...)
		})
	}
}

package ingest

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/services/ingest/internal/evidence"
	"github.com/lacre-metrology/lacre/services/ingest/internal/gateway"
)

// observe tells how long answers take.
func observe(registry *prometheus.Registry) func(took time.Duration) {
	answers := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "lacre_ingest_answer_duration_seconds", Help: "Time from taking a sample until it is answered, with a receipt or an error.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
	})
	registry.MustRegister(answers)
	return func(took time.Duration) { answers.Observe(took.Seconds()) }
}

// gauges are read from the gateway.
func (s *Service) gauges() *admin.Gauges {
	g := new(admin.Gauges)
	type add func(name, help string, labels []string, read func(emit func(float64, ...string)))
	one := func(to add, name, help string, value func(gateway.Stats) float64) {
		to(name, help, nil, func(emit func(float64, ...string)) { emit(value(s.gateway.Stats())) })
	}
	one(g.Counter, "lacre_ingest_samples_total", "Samples taken.", func(s gateway.Stats) float64 { return float64(s.Taken) })
	one(g.Counter, "lacre_ingest_certified_samples_total", "Samples answered with a receipt.", func(s gateway.Stats) float64 { return float64(s.Certified) })
	one(g.Counter, "lacre_ingest_batches_total", "Rounds of batches, repeated ones too.", func(s gateway.Stats) float64 { return float64(s.Batches) })
	one(g.Counter, "lacre_ingest_disagreements_total", "Samples on which endorsers differed.", func(s gateway.Stats) float64 { return float64(s.Disagreements) })
	one(g.Gauge, "lacre_ingest_pending_samples", "Samples taken and not answered.", func(s gateway.Stats) float64 { return float64(s.Taken - s.Answered) })
	one(g.Gauge, "lacre_ingest_queued_samples", "Samples that wait for a batch.", func(s gateway.Stats) float64 { return float64(s.Queued) })
	one(g.Gauge, "lacre_ingest_flying_batches", "Batches on their way.", func(s gateway.Stats) float64 { return float64(s.Flying) })
	one(g.Gauge, "lacre_ingest_held_bytes", "Bytes of samples that wait or are on their way.", func(s gateway.Stats) float64 { return float64(s.HeldBytes) })
	collected := func(value func(evidence.Collected) uint64) func(emit func(float64, ...string)) {
		return func(emit func(float64, ...string)) {
			if s.keeper != nil {
				emit(float64(value(s.keeper.Collected())))
			}
		}
	}
	g.Counter("lacre_ingest_evidence_collected_total", "Pieces of evidence removed because no record names them.", nil, collected(func(c evidence.Collected) uint64 { return c.Pieces }))
	g.Counter("lacre_ingest_evidence_collected_bytes_total", "Bytes of those pieces.", nil, collected(func(c evidence.Collected) uint64 { return c.Bytes }))
	return g
}

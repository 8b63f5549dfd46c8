package admin

import "time"

// Certificate shows when a node's TLS certificate expires.
func Certificate(notAfter func() time.Time) *Gauges {
	g := new(Gauges)
	g.Gauge("lacre_tls_certificate_not_after_seconds", "When the TLS certificate expires, in seconds since the epoch.", nil, func(emit func(float64, ...string)) {
		emit(float64(notAfter().Unix()))
	})
	return g
}

package admin

import (
	"bytes"
	"net/http"

	"github.com/prometheus/common/expfmt"
)

// maxGatherings bounds the gatherings at a time: one may walk directories.
const maxGatherings = 4

// metrics answers /metrics in the format that the caller asks for. It is written
// here because the client library's own handler brings a compression library for
// what never leaves this machine.
func (s *Server) metrics() http.HandlerFunc {
	room := make(chan struct{}, maxGatherings)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		default:
			http.Error(w, "too many gatherings at a time", http.StatusServiceUnavailable)
			return
		}
		families, err := s.options.Registry.Gather()
		if err != nil { // the rest is still worth having
			s.options.Logger.WarnContext(r.Context(), "some metrics cannot be gathered", "error", err)
		}
		format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultAcceptedFormats()...)
		var body bytes.Buffer
		encoder := expfmt.NewEncoder(&body, format)
		for _, family := range families {
			if err := encoder.Encode(family); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		if closer, ok := encoder.(expfmt.Closer); ok {
			if err := closer.Close(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		w.Header().Set("Content-Type", string(format))
		_, _ = w.Write(body.Bytes()) // the caller went away; there is nobody to tell
	}
}

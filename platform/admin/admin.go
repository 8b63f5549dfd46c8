// Package admin is the HTTP port for the operator of one node: metrics, profiles, health and version.
//
// Source: Prometheus exposition formats; runtime/pprof; RFC 9110, section 15 (status codes); the Kubernetes API health
// end points, whose names /livez and /readyz it takes.
//
//	/metrics         Prometheus; the names are in docs/metrics.md
//	/debug/pprof/    CPU, heap, goroutine and other profiles, and execution traces
//	/livez           200 while the process answers
//	/readyz          200 while every gRPC service of the node is serving, otherwise 503; the body names each
//	/version         JSON: service, node, version, Go version, versions of formats
//	other paths      what the service brings: a replica gives its backup
//
// Invariants:
//   - it reads and never changes: every handler answers GET and HEAD only;
//   - it is plain HTTP without authentication, so it listens on loopback unless the configuration says public, and a
//     loopback port answers only requests that were addressed to loopback (a page in a browser cannot rebind a name);
//   - no secret is behind it: keys are never in metrics, and profiles hold no memory's content;
//   - stopping does not wait for a profile that somebody takes.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lacre-metrology/lacre/platform/version"
)

// Config is what an operator decides. The zero value means no port.
type Config struct {
	Listen string `yaml:"listen" doc:"host:port of metrics, profiles and health over plain HTTP, on loopback; empty means none"`
	Public bool   `yaml:"public" doc:"true allows an address that others reach; nothing authenticates them, so put a filter before it"`
}

// Validate reports every wrong field.
func (c Config) Validate() error {
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if !c.Public && !loopback(host) {
		return fmt.Errorf("listen: %q is not a loopback address; profiles and metrics are open to whoever reaches the port, so name 127.0.0.1 or set public: true", c.Listen)
	}
	return nil
}

// loopback tells whether a host is this machine alone; names other than localhost are not looked up.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

const (
	readTimeout    = 5 * time.Second
	writeTimeout   = 30 * time.Second // net/http/pprof adds the seconds that a profile takes
	maxProfileTime = 2 * time.Minute
	idleTimeout    = time.Minute
	maxHeaderBytes = 16 << 10
	stopTimeout    = 2 * time.Second
)

// Options is what the program brings.
type Options struct {
	Service  string                  // "ledger", "compute", ...
	NodeID   string                  // as registered
	Formats  map[string]int          // versions of formats that this build writes and reads, by name
	Registry *prometheus.Registry    // required
	Ready    func() map[string]bool  // services by name; nil means always ready
	Handlers map[string]http.Handler // the service's own, by path; each reads and never changes
	Logger   *slog.Logger            // nil means slog.Default()
}

// Version is what /version answers.
type Version struct {
	Service string         `json:"service"`
	Node    string         `json:"node"`
	Version string         `json:"version"`
	Go      string         `json:"go"`
	Formats map[string]int `json:"formats,omitempty"`
}

// Server is the port. Make it with New, then Run it.
type Server struct {
	options  Options
	public   bool
	listener net.Listener // nil when the configuration names no address
	http     *http.Server
}

// New listens at once, so that Addr is known before Run. Call Close if Run is never called.
func New(config Config, options Options) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if options.Registry == nil {
		return nil, errors.New("admin: no metrics registry")
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	s := &Server{options: options, public: config.Public}
	s.http = &http.Server{
		Handler: s.guard(s.routes()), ReadTimeout: readTimeout, ReadHeaderTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(options.Logger.Handler(), slog.LevelWarn),
	}
	if config.Listen == "" {
		return s, nil
	}
	var err error
	if s.listener, err = net.Listen("tcp", config.Listen); err != nil { //nolint:noctx // binding a local address does not block.
		return nil, fmt.Errorf("admin: %w", err)
	}
	return s, nil
}

// Addr is where the port listens; nil when there is none.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Close releases the port of a server that was never run.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves until ctx is cancelled, then ends the requests in flight, profiles included, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	s.http.BaseContext = func(net.Listener) context.Context { return ctx } // a profile ends with the node
	s.options.Logger.InfoContext(ctx, "admin port", "address", s.Addr().String())
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.http.Shutdown(stopping); err != nil {
		return s.http.Close()
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", s.metrics())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("/readyz", s.ready)
	mux.HandleFunc("/version", s.version)
	for path, handler := range s.options.Handlers {
		mux.Handle(path, handler)
	}
	return mux
}

// guard refuses what changes something, what takes too long and, on a loopback port, what was addressed elsewhere.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, r.Method+" is not served here, only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		if host := hostOf(r.Host); !s.public && !loopback(host) {
			http.Error(w, fmt.Sprintf("host %q is not a loopback address", host), http.StatusMisdirectedRequest)
			return
		}
		if text := r.URL.Query().Get("seconds"); text != "" {
			if seconds, err := strconv.ParseFloat(text, 64); err != nil || !(seconds > 0 && seconds <= maxProfileTime.Seconds()) {
				http.Error(w, fmt.Sprintf("seconds=%s is not above 0 and at most %.0f", text, maxProfileTime.Seconds()), http.StatusBadRequest)
				return
			}
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// hostOf takes the port off a Host header.
func hostOf(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return header
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	status, services := http.StatusOK, map[string]bool{}
	if s.options.Ready != nil {
		services = s.options.Ready()
	}
	for _, serving := range services {
		if !serving {
			status = http.StatusServiceUnavailable
		}
	}
	answer(w, status, map[string]any{"ready": status == http.StatusOK, "services": services})
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, Version{Service: s.options.Service, Node: s.options.NodeID, Version: version.String(), Go: runtime.Version(), Formats: s.options.Formats})
}

func answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the caller went away; there is nobody to tell
}

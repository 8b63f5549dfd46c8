// Package tiles serves the certified log as static resources over HTTP, so that
// other people's clients can read, mirror, witness and check it.
//
// Source: C2SP tlog-tiles (https://c2sp.org/tlog-tiles), C2SP tlog-checkpoint,
// RFC 6962 section 2.1, RFC 9110 and 9111 for methods and caching;
// architecture, rules B1 and C3.
//
//	/checkpoint                      the newest certificate: log signature and q cosignatures
//	/tile/<L>/<N>[.p/<W>]            hashes of one tile
//	/tile/entries/<N>[.p/<W>]        its leaves, each behind its length in two bytes
//
// Invariants:
//   - Nothing at or above the certified size is served (C3).
//   - A path names one resource and has one form; every other path is 404, as is
//     one with a query.
//   - Before a tile leaves, its hashes lead to the certified root, and before a
//     bundle leaves, each of its leaves has the hash in such a tile. What does
//     not is damage of this replica's disk and ends all its service.
//   - A tile's bytes never change, so it may be cached for ever; a refusal may
//     not be cached at all, since the tile may exist a moment later.
//   - Reading only: GET and HEAD, nobody is asked who he is, and nothing that a
//     request brings is kept. Connections, requests at once, header bytes and the
//     bytes that wait for slow readers are bounded.
//
// A partial tile is served at every width up to the certified one, also when it
// has become full: the specification asks for the widths of published sizes and
// lets a log forget them; all of them are prefixes of the same hashes here.
package tiles

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Bounds of the server. A read is done in milliseconds; what takes longer is
// the reader's connection.
const (
	maxConnections  = 512
	maxHeaderBytes  = 8 << 10
	maxStreams      = 32 // at once on a connection of HTTP/2
	headerTimeout   = 5 * time.Second
	requestTimeout  = 10 * time.Second
	responseTimeout = 60 * time.Second // 15 MB, the largest bundle, at 2 Mbit/s
	idleTimeout     = 60 * time.Second
	stopTimeout     = time.Second
)

// Config is what the tiles are made of.
type Config struct {
	Store *storage.Store
	// Newest is the newest certificate, as verifiers take it; an error while
	// there is none.
	Newest func() (*tlog.Certificate, error)
	// Guard runs a read, unless damage was found before; damage that the read
	// finds ends the replica.
	Guard func(ctx context.Context, read func(context.Context) error) error
	// TLS is nil for plain HTTP: what is served authenticates itself.
	TLS *tls.Config
	Log *slog.Logger
}

// Server serves tiles. Make it with Listen, then Run it once.
type Server struct {
	config   Config
	listener net.Listener
	http     *http.Server
}

// Listen binds an address, host:port; port 0 takes a free one.
func Listen(address string, c Config) (*Server, error) {
	listener, err := net.Listen("tcp", address) //nolint:noctx // binding a local address does not block.
	if err != nil {
		return nil, fmt.Errorf("tiles: %w", err)
	}
	return &Server{config: c, listener: netutil.LimitListener(listener, maxConnections), http: &http.Server{
		Handler: Handler(c), TLSConfig: c.TLS, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: responseTimeout, IdleTimeout: idleTimeout,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug), // a stranger's broken request is not this node's trouble
	}}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close lets go of the address of a server that never ran.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() {
		if s.config.TLS != nil {
			served <- s.http.ServeTLS(s.listener, "", "") // the certificate is in the configuration
			return
		}
		served <- s.http.Serve(s.listener)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("tiles: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.http.Shutdown(stopping); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(err, s.http.Close())
	}
	_ = s.http.Close() // who still reads after the grace loses a connection, nothing else
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("tiles: %w", err)
	}
	return ctx.Err()
}

package raft

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 64 // under way at once; more wait in the kernel's queue
	// A peer uses about six connections. Dead ones may linger until keep-alive
	// finds out, hence the margin.
	maxInboundPerPeer = 32
	maxAcceptDelay    = time.Second
	// redialInterval is how often a replica that cannot be connected to is tried
	// again within one message's time-out. The library waits twice as long after
	// each message that fails, up to 10 s, so a replica that was down for two
	// seconds would get nothing for two more; and if it completes the quorum,
	// nobody would. One message that takes longer counts as one failure at most.
	redialInterval = 50 * time.Millisecond
)

// stream makes connections between registered replicas and nobody else (rule
// R5): a connection leaves dial, or is given to accepted, only after a TLS 1.3
// handshake in which the other end proved to hold a key for which PeerID names
// a replica, on dialling the one that was wanted.
type stream struct {
	self     string
	listener net.Listener
	server   *tls.Config
	config   Config
	log      *slog.Logger
	accepted func(peer string, conn net.Conn) // takes the connection over

	handshakes chan struct{} // a token for each handshake under way
	serving    sync.WaitGroup
	ctx        context.Context // ends with close
	cancel     context.CancelFunc

	mu    sync.Mutex
	conns map[*peerConn]struct{} // nil after close
}

// peerConn is an authenticated connection.
type peerConn struct {
	*tls.Conn
	peer    string
	inbound bool
	stream  *stream
	ended   atomic.Bool // closed from here
}

// Read ends with io.EOF once the connection was closed from here: that is its
// end, which the library would report as a command that it cannot decode.
func (c *peerConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && c.ended.Load() && errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Close forgets and closes the connection.
func (c *peerConn) Close() error {
	c.ended.Store(true)
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.NetConn().Close() // no close_notify: it could block on a dead peer
}

func newStream(config Config, accepted func(peer string, conn net.Conn)) *stream {
	server := config.TLS.ServerConfig.Clone()
	server.MinVersion = tls.VersionTLS13
	ctx, cancel := context.WithCancel(context.Background())
	return &stream{
		self:       config.NodeID,
		listener:   config.Listener,
		server:     server,
		config:     config,
		log:        config.Logger,
		accepted:   accepted,
		handshakes: make(chan struct{}, maxHandshakes),
		ctx:        ctx,
		cancel:     cancel,
		conns:      make(map[*peerConn]struct{}),
	}
}

// serve accepts connections until close.
func (s *stream) serve() {
	defer s.serving.Done()
	delay := time.Duration(0)
	for {
		select {
		case s.handshakes <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		conn, err := s.listener.Accept()
		if err != nil {
			<-s.handshakes
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: do not spin.
			delay = min(max(2*delay, 5*time.Millisecond), maxAcceptDelay)
			s.log.Warn("raft: cannot accept connections", "error", err, "delay", delay)
			select {
			case <-time.After(delay):
			case <-s.ctx.Done():
				return
			}
			continue
		}
		delay = 0
		s.serving.Add(1)
		go func() {
			defer s.serving.Done()
			authenticated, err := s.admit(conn)
			<-s.handshakes
			if err != nil {
				s.log.Warn("raft: connection refused", "remote", conn.RemoteAddr().String(), "error", err)
				_ = conn.Close()
				return
			}
			s.accepted(authenticated.peer, authenticated)
		}()
	}
}

func (s *stream) admit(conn net.Conn) (*peerConn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	secured := tls.Server(conn, s.server)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	peer, err := s.identify(secured.ConnectionState())
	if err != nil {
		return nil, err
	}
	return s.track(secured, peer, true)
}

// dial connects to the replica with the given id.
func (s *stream) dial(peer string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	address, err := s.config.Resolve(peer)
	if err != nil {
		return nil, fmt.Errorf("resolve replica %q: %w", peer, err)
	}
	conn, err := s.connect(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("dial replica %q at %s: %w", peer, address, err)
	}
	authenticated, err := s.secure(ctx, conn, peer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial replica %q at %s: %w", peer, address, err), conn.Close())
	}
	return authenticated, nil
}

// connect tries until somebody listens or ctx ends.
func (s *stream) connect(ctx context.Context, address string) (net.Conn, error) {
	for {
		conn, err := s.config.Dial(ctx, address)
		if err == nil {
			return conn, nil
		}
		select {
		case <-time.After(redialInterval):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (s *stream) secure(ctx context.Context, conn net.Conn, want string) (*peerConn, error) {
	config := s.config.TLS.ClientConfig(want)
	if config == nil {
		return nil, errors.New("no client TLS configuration for it")
	}
	config = config.Clone()
	config.MinVersion = tls.VersionTLS13
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	peer, err := s.identify(secured.ConnectionState())
	if err != nil {
		return nil, err
	}
	if peer != want {
		return nil, fmt.Errorf("the key at the other end is of replica %q, want %q", peer, want)
	}
	return s.track(secured, peer, false)
}

// identify is the one place that says who is at the other end.
func (s *stream) identify(state tls.ConnectionState) (string, error) {
	if state.Version != tls.VersionTLS13 {
		return "", fmt.Errorf("TLS version %x, want %x", state.Version, tls.VersionTLS13)
	}
	if len(state.PeerCertificates) == 0 {
		return "", errors.New("the peer showed no certificate")
	}
	peer, ok := s.config.TLS.PeerID(state)
	switch {
	case !ok || peer == "":
		return "", errors.New("the peer's key is not of a registered replica")
	case peer == s.self:
		return "", fmt.Errorf("the peer's key is this replica's own, %q", peer)
	}
	return peer, nil
}

func (s *stream) track(conn *tls.Conn, peer string, inbound bool) (*peerConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return nil, net.ErrClosed
	}
	count := 0
	for c := range s.conns {
		if c.peer == peer && c.inbound {
			count++
		}
	}
	if inbound && count >= maxInboundPerPeer {
		return nil, fmt.Errorf("replica %q has %d connections to here, the limit is %d", peer, count, maxInboundPerPeer)
	}
	tracked := &peerConn{Conn: conn, peer: peer, inbound: inbound, stream: s}
	s.conns[tracked] = struct{}{}
	return tracked, nil
}

// recheck closes connections whose key is not of the same replica any more.
func (s *stream) recheck() {
	for _, c := range s.standing() {
		if peer, err := s.identify(c.ConnectionState()); err != nil || peer != c.peer {
			s.log.Warn("raft: connection closed", "peer", c.peer, "error", err)
			_ = c.Close()
		}
	}
}

func (s *stream) standing() []*peerConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*peerConn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// close ends serve and every connection, and waits for serve.
func (s *stream) close() {
	s.cancel()
	_ = s.listener.Close()
	conns := s.standing()
	s.mu.Lock()
	s.conns = nil
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	s.serving.Wait()
}

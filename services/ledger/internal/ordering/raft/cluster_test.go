package raft

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// patience bounds every wait; reaching it fails the test.
const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// testLogger is silent unless RAFT_TEST_LOG is set.
func testLogger(id string) *slog.Logger {
	out := io.Discard
	if os.Getenv("RAFT_TEST_LOG") != "" {
		out = os.Stderr
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id)
}

// registry knows the replicas' keys, as the ledger would.
type registry struct {
	mu    sync.Mutex
	nodes map[string]string // public key -> node id
}

func (r *registry) peerID(state tls.ConnectionState) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.nodes[string(state.PeerCertificates[0].PublicKey.(ed25519.PublicKey))]
	return id, ok
}

func (r *registry) revoke(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, node := range r.nodes {
		if node == id {
			delete(r.nodes, key)
		}
	}
}

// certificate makes a key and registers it for id, unless id is "".
func (r *registry) certificate(t testing.TB, id string) tls.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	if id != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.nodes[string(public)] = id
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

func (r *registry) tls(certificate tls.Certificate) PeerTLS {
	return PeerTLS{
		ServerConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert},
		ClientConfig: func(string) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true} // PeerID judges the key
		},
		PeerID: r.peerID,
	}
}

// network resolves node ids and can be cut in two.
type network struct {
	mu        sync.Mutex
	addresses map[string]string
	island    map[string]bool // nodes on the other side
	silent    string          // a node that reaches nobody, and is reached
	conns     map[[2]string][]net.Conn
}

func (n *network) resolve(id string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.addresses[id]; ok {
		return a, nil
	}
	return "", fmt.Errorf("no address of %q", id)
}

func (n *network) dialler(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		to := ""
		for id, a := range n.addresses {
			if a == address {
				to = id
			}
		}
		if n.island[from] != n.island[to] || n.silent == from {
			return nil, errors.Join(fmt.Errorf("%s and %s are apart", from, to), conn.Close())
		}
		n.conns[[2]string{from, to}] = append(n.conns[[2]string{from, to}], conn)
		return conn, nil
	}
}

// isolate puts the nodes on an island of their own; none heals the network.
func (n *network) isolate(nodes ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.island = make(map[string]bool)
	for _, id := range nodes {
		n.island[id] = true
	}
	for pair, conns := range n.conns {
		if n.island[pair[0]] != n.island[pair[1]] {
			for _, conn := range conns {
				_ = conn.Close()
			}
			delete(n.conns, pair)
		}
	}
}

// cluster is a set of nodes in this process, over real TLS and raft-wal.
type cluster struct {
	t        testing.TB
	registry *registry
	network  *network
	nodes    map[string]*node
	tune     func(*Config)
	alone    bool // one voter: nobody can be late
}

type node struct {
	id          string
	dir         string
	certificate tls.Certificate
	state       *memory // survives restarts
	engine      *Engine
	seams       seams
	fatal       chan error
	stop        context.CancelFunc
	ended       chan error // the result of Run
}

func newCluster(t testing.TB, tune func(*Config), ids ...string) *cluster {
	c := &cluster{
		t:        t,
		registry: &registry{nodes: make(map[string]string)},
		network:  &network{addresses: make(map[string]string), conns: make(map[[2]string][]net.Conn)},
		nodes:    make(map[string]*node),
		tune:     tune,
		alone:    len(ids) == 1,
	}
	var members []ordering.Member
	for _, id := range ids {
		members = append(members, ordering.Member{ID: id})
	}
	for _, id := range ids {
		n := c.prepare(id)
		if err := Bootstrap(n.dir, members, testLogger(id)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// prepare makes a node that is not started.
func (c *cluster) prepare(id string) *node {
	n := &node{
		id:          id,
		dir:         filepath.Join(c.t.TempDir(), id),
		certificate: c.registry.certificate(c.t, id),
		state:       newMemory(c, id),
		fatal:       make(chan error, 1),
	}
	c.nodes[id] = n
	return n
}

func (c *cluster) config(n *node) Config {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.network.mu.Lock()
	c.network.addresses[n.id] = listener.Addr().String()
	c.network.mu.Unlock()
	config := Config{
		NodeID:   n.id,
		Dir:      n.dir,
		Listener: listener,
		TLS:      c.registry.tls(n.certificate),
		Applier:  n.state,
		Resolve:  c.network.resolve,
		Dial:     c.network.dialler(n.id),
		Logger:   testLogger(n.id),
		Timing:   Loopback(),
		Fatal: func(err error) {
			select {
			case n.fatal <- err:
			default:
			}
		},
	}
	if c.alone {
		config.Timing = Timing{100 * time.Millisecond, 100 * time.Millisecond, 80 * time.Millisecond, 2 * time.Millisecond, 5 * time.Second}
	}
	if c.tune != nil {
		c.tune(&config)
	}
	return config
}

func (c *cluster) start(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		n := c.nodes[id]
		engine, err := open(testContext(c.t), c.config(n), n.seams)
		if err != nil {
			c.t.Fatalf("start %s: %v", id, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		n.engine, n.stop, n.ended = engine, cancel, ended
		go func() { ended <- engine.Run(ctx) }()
		c.t.Cleanup(func() { cancel(); _ = engine.Close() })
	}
}

// kill stops a node without a hand-over.
func (c *cluster) kill(id string) {
	c.t.Helper()
	if err := c.nodes[id].engine.Close(); err != nil {
		c.t.Fatalf("kill %s: %v", id, err)
	}
}

// end waits for a node's Run.
func (n *node) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-n.ended:
		return err
	case <-time.After(patience):
		t.Fatalf("%s still runs", n.id)
		return nil
	}
}

// leader waits until one of the given nodes leads and the others follow it.
func (c *cluster) leader(ids ...string) *node {
	c.t.Helper()
	merged, done := make(chan struct{}, 1), make(chan struct{})
	defer close(done)
	for _, id := range ids {
		engine := c.nodes[id].engine
		go func() {
			changes, stop := engine.LeaderChanges()
			defer stop()
			for { // once at the start: something may have changed before
				select {
				case merged <- struct{}{}:
				default:
				}
				select {
				case <-changes:
				case <-done:
					return
				}
			}
		}()
	}
	ctx := testContext(c.t)
	for {
		agreed := ""
		for i, id := range ids {
			leader, _ := c.nodes[id].engine.Leader()
			if i > 0 && leader != agreed {
				agreed = ""
				break
			}
			agreed = leader
		}
		for _, id := range ids {
			if id == agreed && c.nodes[id].engine.IsLeader() {
				return c.nodes[id]
			}
		}
		select {
		case <-merged:
		case <-ctx.Done():
			c.t.Fatalf("no leader among %v", ids)
		}
	}
}

// propose proposes through whoever leads among ids, until it is applied there.
func (c *cluster) propose(data string, ids ...string) ordering.Applied {
	c.t.Helper()
	ctx := testContext(c.t)
	for {
		applied, err := c.leader(ids...).engine.Propose(ctx, []byte(data)).Wait(ctx)
		if err == nil {
			return applied
		}
		if ctx.Err() != nil {
			c.t.Fatalf("propose %.20q: %v", data, err)
		}
	}
}

// same waits until the nodes have applied up to index and compares them.
func (c *cluster) same(index uint64, ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		c.nodes[id].state.wait(c.t, index)
	}
	reference := c.nodes[ids[0]].state.upTo(index)
	for _, id := range ids[1:] {
		other := c.nodes[id].state.upTo(index)
		if len(reference) != len(other) {
			c.t.Fatalf("up to %d, %s has %d entries, %s has %d", index, ids[0], len(reference), id, len(other))
		}
		for i := range reference {
			if reference[i].Index != other[i].Index || !bytes.Equal(reference[i].Data, other[i].Data) {
				c.t.Fatalf("entry %d: %s has %d %.20q, %s has %d %.20q", i,
					ids[0], reference[i].Index, reference[i].Data, id, other[i].Index, other[i].Data)
			}
		}
	}
}

// stranger is a transport alone, with a node's key: a replica that may lie.
func (c *cluster) stranger(id string) *transport {
	c.t.Helper()
	n := c.nodes[id]
	config, err := c.config(n).withDefaults()
	if err != nil {
		c.t.Fatal(err)
	}
	tr := newTransport(config, func(string, hraft.RPC) error { return errors.New("no") })
	c.t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func header(id string) hraft.RPCHeader {
	return hraft.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte(id)}
}

package ledger

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/loopback"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
)

// patience bounds what a test waits for; nothing is asserted about how long it took.
const patience = 60 * time.Second

// cluster is a network of real replicas on loopback, each with its own
// directory, and a mirror: the same ledger in memory, which replays every block
// and knows how to make statements and measurements for it.
type cluster struct {
	t       *testing.T
	mirror  *statetest.Network
	genesis string
	nodes   map[string]*node
	gateway *identity.Node
	began   time.Time
	ahead   atomic.Int64 // nanoseconds that the cluster's clock was put forward
}

type node struct {
	cluster *cluster
	config  Config
	skew    time.Duration // of its clock
	tune    func(*raft.Config)
	// solitude is in the place of solitudeBound; 0 leaves it.
	solitude time.Duration
	alone    bool // what Serve hands to the next start
	log      *slog.Logger
	service  *Service // of the newest start
	stop     context.CancelFunc
	ended    chan error
}

// newCluster founds a network of four replicas; waiting ones have keys and
// addresses, but are of no configuration yet.
func newCluster(t *testing.T, options statetest.Options, waiting ...statetest.Replica) *cluster {
	t.Helper()
	c := &cluster{t: t, mirror: statetest.New(t, options), nodes: map[string]*node{}, began: time.Now()}
	dir := t.TempDir()
	c.genesis = filepath.Join(dir, "genesis")
	c.gateway = c.identity(c.mirror.Gateway.ID)
	c.found()
	replicas := append(slices.Clone(c.mirror.Replicas), waiting...)
	addresses := c.addresses(2 * len(replicas))
	for i, r := range replicas {
		n := &node{cluster: c, log: logger(), config: Config{
			NodeID: r.ID, DataDir: filepath.Join(dir, r.ID, "data"), Genesis: c.genesis,
			Server: rpcserver.Config{Listen: addresses[2*i]}, RaftListen: addresses[2*i+1], Loopback: true,
			Tiles: Tiles{Listen: "127.0.0.1:0"},
		}}
		n.config.TLSKey = c.key(dir, r.ID, "tls", tlsKey(r.ID))
		n.config.SigningKey = c.key(dir, r.ID, "signing", r.Key)
		n.config.CosignerKey = c.key(dir, r.ID, "cosigner", r.Cosigner)
		n.config.LogKey = c.key(dir, r.ID, "log", r.Log)
		for j, p := range replicas {
			if j != i {
				n.config.Peers = append(n.config.Peers, Peer{NodeID: p.ID, Address: addresses[2*j], RaftAddress: addresses[2*j+1]})
			}
		}
		c.nodes[r.ID] = n
		if err := initialise(n.config, n.clock, n.log); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { c.halt(c.ids()...) })
	return c
}

func logger() *slog.Logger {
	if os.Getenv("LACRE_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

func tlsKey(id string) ed25519.PrivateKey { return statetest.Key("tls/" + id) }

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) identity(id string) *identity.Node {
	n, err := identity.NewNode(tlsKey(id))
	c.must(err)
	return n
}

func (c *cluster) key(dir, id, name string, key ed25519.PrivateKey) string {
	path := filepath.Join(dir, id, name+".pem")
	c.must(os.MkdirAll(filepath.Dir(path), 0o700))
	c.must(identity.WriteKey(path, key))
	return path
}

// addresses are free loopback ones: a node keeps its own over restarts.
func (c *cluster) addresses(count int) []string {
	list, err := loopback.Addresses(count)
	c.must(err)
	return list
}

// found writes the genesis file: package statetest's, with real TLS keys.
func (c *cluster) found() {
	n := c.mirror
	records := n.GenesisRecords()[:1]
	n.Store = statetest.NewStore()
	nodes := append([]statetest.Node{n.Gateway}, n.Endorsers...)
	for _, r := range n.Replicas {
		nodes = append(nodes, r.Node)
	}
	for _, node := range nodes {
		records = append(records, c.registration(node))
	}
	at := statetest.GenesisUnix * statetest.Second
	c.must(os.WriteFile(c.genesis, wire.MustEncode(&recordv1.Genesis{Records: records, BlockTimeUnixNano: at}), 0o600))
	block, err := state.Genesis(records, at, state.Options{})
	c.must(err)
	n.Apply(block)
	c.tick()
}

func (c *cluster) registration(node statetest.Node) []byte {
	m := c.mirror.Registration(node, 1, digest.Zero)
	spki := c.identity(node.ID).SPKI()
	m.TlsSpki = spki[:]
	if len(c.mirror.Store.Blocks) == 0 { // the founding's member files prove the keys
		return c.mirror.Sign(m, statetest.Root(node.Organisation))
	}
	return c.mirror.Sign(m, statetest.Root(node.Organisation), node.Key)
}

// now is the cluster's time: it begins shortly after the genesis block, so that
// no approval of the test network ever expires, and passes as time does.
func (c *cluster) now() time.Time {
	return time.Unix(statetest.GenesisUnix+1000, 0).Add(time.Since(c.began)).Add(time.Duration(c.ahead.Load()))
}

func (c *cluster) tick() { c.mirror.NowUnix = c.now().Unix() }

// advance puts the clock forward, and waits until the replicas have said so to
// each other: block time follows their time stamps (rule C4).
func (c *cluster) advance(by time.Duration, ids ...string) {
	c.t.Helper()
	want := c.now().Add(by).Unix()
	c.ahead.Add(int64(by))
	for _, id := range ids {
		c.until(id+" knows the time", func() bool {
			return certify.Time(c.nodes[id].service.collector.Fresh().Text) >= uint64(want)
		})
	}
	c.tick()
}

func (n *node) clock() time.Time { return n.cluster.now().Add(n.skew) }

func (c *cluster) ids() []string {
	var ids []string
	for id := range c.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// four are the replicas of the first configuration.
var four = []string{"replica-00", "replica-01", "replica-02", "replica-03"}

// start opens and runs replicas, without waiting for anything.
func (c *cluster) start(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		n := c.nodes[id]
		service, err := open(n.config, n.clock, n.log)
		if err != nil {
			c.t.Fatalf("start %s: %v", id, err)
		}
		ctx, stop := context.WithCancel(context.Background())
		service.tune, service.alone = n.tune, n.alone
		if n.solitude > 0 {
			service.solitude = n.solitude
		}
		n.service, n.stop, n.ended = service, stop, make(chan error, 1)
		go func() { n.ended <- service.Run(ctx) }()
	}
}

// halt stops replicas as a signal would, all at once.
func (c *cluster) halt(ids ...string) {
	c.t.Helper()
	for _, id := range ids {
		if n := c.nodes[id]; n.stop != nil {
			n.stop()
		}
	}
	for _, id := range ids {
		if n := c.nodes[id]; n.stop != nil {
			if err := <-n.ended; err != nil {
				c.t.Errorf("%s ends with %v", id, err)
			}
			n.stop = nil
		}
	}
}

// kill ends a replica's ordering without handing over, as a crash would.
func (c *cluster) kill(id string) {
	c.t.Helper()
	n := c.nodes[id]
	if err := n.service.order.engine.Load().Close(); err != nil {
		c.t.Error(err)
	}
	c.halt(id)
}

func (c *cluster) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

// until waits for a condition that nothing announces.
func (c *cluster) until(what string, holds func() bool) {
	c.t.Helper()
	ctx := c.context()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			c.t.Fatalf("waited in vain until %s", what)
		}
	}
}

// leader waits until some replica leads.
func (c *cluster) leader(ids ...string) string {
	c.t.Helper()
	var leader string
	c.until("one leads", func() bool {
		for _, id := range ids {
			if c.nodes[id].service.order.IsLeader() {
				leader = id
				return true
			}
		}
		return false
	})
	return leader
}

// follower is a running replica that does not lead.
func (c *cluster) follower(ids ...string) string {
	c.t.Helper()
	leader := c.leader(ids...)
	for _, id := range ids {
		if id != leader {
			return id
		}
	}
	c.t.Fatal("there is no other replica")
	return ""
}

// client calls a replica as the registered gateway, or as the public.
func (c *cluster) client(id string, as *identity.Node) ledgerv1.LedgerServiceClient {
	c.t.Helper()
	connection, err := rpcclient.Dial(c.nodes[id].config.Server.Listen, rpcclient.Options{
		Node: as, Server: identity.Pin(c.identity(id).SPKI()), MaxMessageBytes: maxMessageBytes, Logger: logger(),
	})
	c.must(err)
	c.t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return ledgerv1.NewLedgerServiceClient(connection)
}

func (c *cluster) public(id string) ledgerv1.LedgerServiceClient { return c.client(id, nil) }

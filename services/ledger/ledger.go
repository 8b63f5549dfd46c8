// Package ledger is one replica of the ledger: it orders, validates, stores and
// cosigns records, and answers from what is certified.
//
// Source: architecture, "The path of one measurement" step 4, rules C1 to C7,
// R0 to R5; the paper, section VI-C (the orderer and the peers).
//
// Invariants:
//   - A replica begins only by Init, from a genesis file; New never creates one.
//   - Nothing is ordered before rule C7 is answered.
//   - Stopping goes from the outside in: intake, ordering, peers, storage.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/lifecycle"
	"github.com/lacre-metrology/lacre/platform/registry"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/platform/tracing"
	"github.com/lacre-metrology/lacre/services/ledger/internal/api"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/cold"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering/raft"
	"github.com/lacre-metrology/lacre/services/ledger/internal/peers"
	"github.com/lacre-metrology/lacre/services/ledger/internal/propose"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
	"github.com/lacre-metrology/lacre/services/ledger/internal/tiles"
)

// Config is one replica's configuration. Who may do what is not in it: that is
// on the ledger.
type Config struct {
	NodeID         string           `yaml:"node_id" doc:"this replica's id, as registered on the ledger"`
	DataDir        string           `yaml:"data_dir" doc:"directory of the ledger and the ordering log"`
	Genesis        string           `yaml:"genesis" doc:"file that begins the network"`
	TLSKey         string           `yaml:"tls_key" doc:"file of the TLS key (PKCS#8 PEM, mode 0600)"`
	TLSCertificate string           `yaml:"tls_certificate" doc:"file of a certificate chain of that key (PEM), for other people's TLS tools; empty: the node signs one itself"`
	SigningKey     string           `yaml:"signing_key" doc:"file of the key that signs events"`
	CosignerKey    string           `yaml:"cosigner_key" doc:"file of the key that cosigns checkpoints"`
	LogKey         string           `yaml:"log_key" doc:"file of the key that signs checkpoints as the log"`
	Server         rpcserver.Config `yaml:"server" doc:"the gRPC server"`
	RaftListen     string           `yaml:"raft_listen" doc:"host:port of the ordering engine's own transport"`
	Tiles          Tiles            `yaml:"tiles" doc:"the certified log for everybody, over HTTP (C2SP tlog-tiles)"`
	Loopback       bool             `yaml:"loopback" doc:"true for replicas on one machine: short election time-outs"`
	Peers          []Peer           `yaml:"peers" doc:"where the other replicas are"`
	SegmentBytes   int64            `yaml:"segment_bytes" doc:"size at which a file of records and raw vectors is full, and is packed behind; 0: 64 MiB"`
	Cold           ColdConfig       `yaml:"cold" doc:"where raw vectors of old segments are kept"`
	Expiry         ExpiryConfig     `yaml:"expiry" doc:"what becomes of raw vectors that expired by a decision on the ledger"`
	Admin          admin.Config     `yaml:"admin" doc:"metrics, profiles, health and version over HTTP, for the operator"`
	Tracing        tracing.Config   `yaml:"tracing" doc:"traces of measurements, to an OpenTelemetry collector"`
}

// Peer is where another replica is. Its keys are on the ledger.
type Peer struct {
	NodeID      string `yaml:"node_id" doc:"its id, as registered on the ledger"`
	Address     string `yaml:"address" doc:"host:port of its gRPC server"`
	RaftAddress string `yaml:"raft_address" doc:"host:port of its ordering engine"`
	SPKI        string `yaml:"spki" doc:"SHA-256 of its TLS key's SubjectPublicKeyInfo, in hexadecimal: taken for it until the ledger read here knows the node; empty for a node of the genesis file"`
}

// Validate reports every wrong field.
func (c *Config) Validate() error {
	var failures []error
	if err := record.CheckID(c.NodeID); err != nil {
		failures = append(failures, fmt.Errorf("node_id: %w", err))
	}
	for _, f := range []struct{ key, value string }{
		{"data_dir", c.DataDir}, {"genesis", c.Genesis}, {"tls_key", c.TLSKey}, {"signing_key", c.SigningKey},
		{"cosigner_key", c.CosignerKey}, {"log_key", c.LogKey}, {"raft_listen", c.RaftListen},
	} {
		if f.value == "" {
			failures = append(failures, fmt.Errorf("%s: is missing", f.key))
		}
	}
	if n := c.SegmentBytes; n != 0 && (n < minSegmentBytes || n > maxSegmentBytes) {
		failures = append(failures, fmt.Errorf("segment_bytes: is %d, want 0 or %d to %d", n, minSegmentBytes, maxSegmentBytes))
	}
	failures = append(failures, c.Cold.validate(), c.validateExpiry(), c.Tiles.Validate(), validatePeers(c.Peers))
	return errors.Join(failures...)
}

func (c *Config) storeDir() string { return filepath.Join(c.DataDir, "store") }
func (c *Config) raftDir() string  { return filepath.Join(c.DataDir, "raft") }

// cacheEntries holds the signature checks of some thousand measurements.
const cacheEntries = 1 << 16

// Service is a replica. Make it with New, then Run it once, or Close it.
type Service struct {
	config    Config
	clock     func() time.Time // stamps cosignatures and judges readiness, nothing else
	log       *slog.Logger
	networkID digest.Digest
	store     *storage.Store
	cold      *cold.Bucket // nil without one
	archive   *certify.Archive
	collector *certify.Collector
	signer    *certify.Signer
	machine   *fsm.Machine
	measured  *meters
	cutter    *propose.Cutter
	peers     *peers.Peers
	registry  identity.Registry
	node      *identity.Node
	server    *rpcserver.Server
	api       *api.Server
	tiles     *tiles.Server // nil without a public HTTP side
	raft      net.Listener
	admin     *admin.Server
	metrics   *prometheus.Registry
	traces    *tracing.Traces // nil when they are off
	opened    []func() error  // what Close closes, the last first
	order     lateOrder
	idle      refresher
	clocks    clockWatch
	book      atomic.Pointer[[]Peer] // where the peers are; SetPeers replaces it
	fatal     chan error             // the first damage that a read found

	solitude time.Duration // solitudeBound but in tests
	alone    bool          // it was passed over, and fetches once before it takes part

	tune func(*raft.Config) // tests make an ordering log short here; nil otherwise
}

// New opens the replica's store and its ports; Run serves.
func New(c Config, log *slog.Logger) (*Service, error) { return open(c, fault.Clock(time.Now), log) }

func open(c Config, clock func() time.Time, log *slog.Logger) (_ *Service, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Service{config: c, clock: clock, log: log.With("node", c.NodeID), metrics: admin.NewRegistry(), fatal: make(chan error, 1), solitude: solitudeBound}
	defer func() {
		err = dataLoss(err)
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if _, err := os.Stat(c.storeDir()); err != nil {
		return nil, fmt.Errorf("the replica is not initialised, run 'lacre init' first: %w", err)
	}
	options := storage.Options{Holder: c.NodeID, SegmentBytes: c.SegmentBytes}
	if err := s.openCold(&options); err != nil {
		return nil, err
	}
	if s.store, err = storage.Open(c.storeDir(), options); err != nil {
		return nil, err
	}
	s.opened = append(s.opened, s.store.Close)
	if n := s.store.ColdSegments(); n > 0 && c.Cold.Store == "" {
		return nil, coldUnnamed(n)
	}
	if s.node, err = identity.LoadCertified(c.TLSKey, c.TLSCertificate); err != nil {
		return nil, err
	}
	if s.traces, err = tracing.New(c.Tracing, tracing.Options{Service: "ledger", NodeID: c.NodeID, Metrics: s.metrics, Logger: s.log}); err != nil {
		return nil, err
	}
	s.opened = append(s.opened, s.traces.Close)
	origin, err := s.openLedger()
	if err != nil {
		return nil, err
	}
	s.registry = registry.Of(func() (state.View, uint64, digest.Digest) {
		head, _ := s.store.Head()
		return s.store, s.collector.Newest().Block.Size, head.Admin
	}, s.log)
	s.book.Store(&c.Peers)
	if s.peers, err = peers.New(s.peerList(c.Peers), s.node, maxMessageBytes, s.traces, s.log); err != nil {
		return nil, err
	}
	s.opened = append(s.opened, s.peers.Close)
	if err := s.resume(); err != nil {
		return nil, err
	}
	if err := s.openServer(origin); err != nil {
		return nil, err
	}
	s.opened = append(s.opened, s.server.Close)
	if err := s.openTiles(); err != nil {
		return nil, err
	}
	if s.tiles != nil {
		s.opened = append(s.opened, s.tiles.Close)
	}
	if s.raft, err = net.Listen("tcp", c.RaftListen); err != nil { //nolint:noctx // binding a local address does not block.
		return nil, fmt.Errorf("ordering transport: %w", err)
	}
	s.opened = append(s.opened, s.raft.Close)
	if err := s.openAdmin(); err != nil {
		return nil, err
	}
	s.opened = append(s.opened, s.admin.Close)
	return s, nil
}

// maxMessageBytes is a submission of many measurements with their raw vectors.
const maxMessageBytes = 64 << 20

// openLedger continues the ledger that the store holds.
func (s *Service) openLedger() (origin string, err error) {
	config, err := state.GetConfig(s.store)
	if err != nil {
		return "", err
	}
	if config == nil {
		return "", errors.New("the store has no genesis block: its initialisation was cut short; remove the data directory and run 'lacre init' again")
	}
	if err := state.CheckVersion(s.store); err != nil {
		return "", err
	}
	s.networkID, origin = config.NetworkID, config.Origin()
	certified, err := newestCertified(s.store)
	if err != nil {
		return "", err
	}
	if s.signer, err = newSigner(&s.config, origin, s.clock, s.store.Lock()); err != nil {
		return "", err
	}
	s.clocks.own = s.signer.Name()
	s.archive = certify.NewArchive(s.store)
	cache := signature.NewCache(cacheEntries)
	s.collector = certify.NewCollector(s.signer.Name(), certified, &ownLedger{store: s.store, nodeID: s.config.NodeID}, cache, s.archive.Keep, certify.Alarms{
		Diverged: s.diverged, DoubleSigned: s.doubleSigned, Outvoted: s.damaged,
	})
	s.measured = newMeters(s.metrics)
	s.machine, err = fsm.New(fsm.Config{
		Store: s.store, Cache: cache, Collector: s.collector, Signer: s.signer,
		Publish: s.publish, Fetch: s.fetch, Committed: s.measured.committed, Hang: s.hang, Dir: s.config.DataDir, Log: s.log,
	})
	if err != nil {
		return "", err
	}
	s.cutter = propose.NewCutter(&s.order, s.collector, func() propose.Head {
		head := s.machine.Head()
		return propose.Head{Height: head.Block.Height, MaxUncertified: head.MaxUncertified, Config: head.Config}
	}, s.log)
	return origin, nil
}

// resume tells the collector of the blocks that are applied and not certified,
// and of this replica's own newest cosignature, in its exact bytes.
func (s *Service) resume() error {
	own, err := s.machine.OwnCosignature()
	if err != nil {
		return err
	}
	for height := s.collector.Newest().Block.Height; height <= s.machine.Head().Block.Height; height++ {
		block, _, err := s.store.Block(height)
		if err != nil {
			return err
		}
		var mine *certify.Signed
		if own != nil && own.Height == height {
			mine = own
		}
		if err := s.collector.Applied(block, mine); err != nil {
			return err
		}
	}
	if own != nil {
		s.publish(*own)
	}
	return nil
}

// newestCertified is the newest block with a certificate on disk; the genesis
// block, which the network's id certifies, before there is one.
func newestCertified(store *storage.Store) (certify.Certified, error) {
	c, ok, err := store.NewestCertificate()
	if err != nil {
		return certify.Certified{}, err
	}
	height := uint64(0)
	if ok {
		height = c.Height
	}
	block, _, err := store.Block(height)
	return certify.Certified{Block: block, Text: c.Note}, err
}

func (s *Service) openServer(origin string) error {
	signing, err := identity.ReadKey(s.config.SigningKey)
	if err != nil {
		return err
	}
	allow := rpcserver.Allow{}
	allow.AllowService(&ledgerv1.LedgerService_ServiceDesc, identity.RolePublic)
	allow[ledgerv1.LedgerService_Submit_FullMethodName] = []identity.Role{identity.RoleGateway, identity.RoleApproval, identity.RoleEndorser, identity.RoleReplica}
	allow.AllowService(&replicav1.ReplicaService_ServiceDesc, identity.RoleReplica)
	config := s.config.Server
	if config.MaxMessageBytes == 0 {
		config.MaxMessageBytes = maxMessageBytes
	}
	if s.server, err = rpcserver.New(config, rpcserver.Options{Node: s.node, Registry: s.registry, Allow: allow, Logger: s.log, Metrics: s.metrics, Traces: s.traces}); err != nil {
		return err
	}
	var replica *api.Replica
	s.api, replica = api.New(api.Config{
		NodeID: s.config.NodeID, NetworkID: s.networkID, Origin: origin, Signer: signing,
		Store: s.store, Certificates: s.archive, Collector: s.collector, Machine: s.machine,
		Cutter: s.cutter, Order: &s.order, Peers: s.peers, Cache: s.machine.Cache(), Log: s.log,
		Ordered:   func(took time.Duration) { s.measured.order.Observe(took.Seconds()) },
		Certified: func(took time.Duration) { s.measured.certify.Observe(took.Seconds()) },
		Fatal:     s.damaged,
		Traces:    s.traces,
	})
	api.Register(s.server, s.api, replica)
	s.server.SetServing(ledgerv1.LedgerService_ServiceDesc.ServiceName, false)
	return nil
}

// Addr is where the gRPC server listens.
func (s *Service) Addr() net.Addr { return s.server.Addr() }

// Run serves until ctx ends, then stops in order. A *reason.Error of DATA_LOSS
// must keep the process from being restarted blindly.
func (s *Service) Run(ctx context.Context) (err error) {
	defer func() { err = dataLoss(errors.Join(err, s.peers.Close(), s.store.Close(), s.closeCold())) }()
	run := lifecycle.Runner{Logger: s.log}
	// Stopped from the last to the first.
	run.Add("admin", s.admin)
	run.Add("traces", s.traces) // what stops before it is still told
	run.AddFunc("tls files", func(ctx context.Context) error { return s.node.Run(ctx, s.log) })
	run.AddFunc("integrity", s.integrity)
	run.AddFunc("packing", s.pack)
	run.AddFunc("certificates", s.archive.Run)
	run.AddFunc("peers", s.peers.Run)
	run.AddFunc("grpc", s.server.Run)
	if s.tiles != nil {
		run.AddFunc("tiles", s.tiles.Run)
	}
	run.AddFunc("cosignatures", s.refresh)
	run.AddFunc("ordering", s.runOrdering)
	run.AddFunc("cutter", s.cutter.Run)
	run.AddFunc("readiness", s.watch)
	run.AddFunc("intake", s.intake)
	return run.Run(ctx)
}

// damaged ends the replica; the first damage counts.
func (s *Service) damaged(err error) {
	select {
	case s.fatal <- err:
	default: // it ends already
	}
}

// integrity ends the replica when a read found damage, or when a quorum has
// certified another history than the one on this disk.
func (s *Service) integrity(ctx context.Context) error {
	select {
	case err := <-s.fatal:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drainTimeout bounds how long a stopping replica waits for the certificates of
// what it took in.
const drainTimeout = 2 * time.Second

// intake is open until ctx ends. What was taken in still gets its certificate:
// everything else runs on meanwhile.
func (s *Service) intake(ctx context.Context) error {
	<-ctx.Done()
	s.server.SetServing(ledgerv1.LedgerService_ServiceDesc.ServiceName, false)
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	s.api.Stop(draining)
	return ctx.Err()
}

// dataLoss gives damage that storage found its reason.
func dataLoss(err error) error {
	var lost *storage.DataLossError
	if errors.As(err, &lost) && !errors.Is(err, reason.New(reason.DataLoss, "")) {
		return errors.Join(reason.New(reason.DataLoss, "%v", lost), err)
	}
	return err
}

// publish hands a durable cosignature on and remembers it for refreshing.
func (s *Service) publish(signed certify.Signed) {
	s.idle.signed(signed)
	s.broadcast(signed)
}

package raft

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// Config is what an Engine needs. The fields down to Applier and Fatal are
// required; the rest has defaults that suit a few replicas on a network of one
// country and proposals of some megabytes.
type Config struct {
	NodeID   string           // this replica's node id, as in its registration
	Dir      string           // the engine's own directory; created when missing
	Listener net.Listener     // plain TCP; the engine puts TLS on it, owns it and closes it
	TLS      PeerTLS          // how peers are known
	Applier  ordering.Applier // the replicated state

	// Resolve gives host:port of a replica from this node's local configuration.
	// Raft itself knows node ids only, so an address can change with a restart
	// and no leader can send anybody elsewhere.
	Resolve func(nodeID string) (address string, err error)

	// Fatal ends the process, at once and without tidying up: it is called when a
	// write to the log hangs (rule R3), and whatever tidies up would hang too.
	Fatal func(error)

	// Dial opens the TCP connection to a resolved address; nil means net.Dialer.
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Logger *slog.Logger // nil means slog.Default()

	Timing Timing // each zero field means that of LAN()

	// LogWriteDeadline bounds one write to the log (rule R3). Zero means 10 s.
	LogWriteDeadline time.Duration

	// MaxAppendEntries bounds the entries in one message to a follower, in one
	// group commit and in one ApplyBatch. Zero means 8: with entries of 4 MB a
	// message has 32 MB, which must pass within Timing.RPC.
	MaxAppendEntries int

	// MaxRPCsInFlight bounds the messages under way to one follower, beside one
	// more that tells a commit; 1 turns pipelining off. Zero means 2.
	MaxRPCsInFlight int

	// TrailingLogs is how many entries stay in the log below the last snapshot.
	// A replica that is further behind gets a pointer and fetches blocks, and
	// must finish before the entries after that pointer are gone as well, so be
	// generous. Disk use is about (TrailingLogs + 2*SnapshotThreshold) entries.
	// Zero means 4096; NoTrailingLogs means none.
	TrailingLogs uint64

	// SnapshotThreshold is how many entries must follow the last snapshot before
	// another is made. Zero means 1024.
	SnapshotThreshold uint64

	// SnapshotInterval is how often the threshold is looked at. Zero means 30 s.
	SnapshotInterval time.Duration
}

// NoTrailingLogs is the TrailingLogs that keeps no entry below a snapshot.
const NoTrailingLogs = ^uint64(0)

// PeerTLS is how connections between replicas are authenticated (rule R5). All
// of it is required. TLS 1.3 is enforced whatever the configurations say.
type PeerTLS struct {
	// ServerConfig must demand a certificate of the client.
	ServerConfig *tls.Config

	// ClientConfig is for a connection to the given replica.
	ClientConfig func(peerID string) *tls.Config

	// PeerID is the node id of the replica that is registered for the key at the
	// other end of a connection, or false when none is. It must be cheap, and
	// it is asked again for standing connections by Engine.Recheck.
	PeerID func(tls.ConnectionState) (id string, ok bool)
}

// Timing holds the engine's time-outs. Raft needs Commit << LeaderLease <=
// Heartbeat <= Election. Heartbeats share the followers' main goroutine with
// log writes (rule R1), so LeaderLease must exceed the longest usual write of a
// full message, or leaders step down under load.
type Timing struct {
	Heartbeat   time.Duration // silence after which a follower stands for election, or up to three times as long; heartbeats go out at a tenth of it
	Election    time.Duration // how long a candidate waits for votes
	LeaderLease time.Duration // a leader that has not heard from a quorum for so long steps down
	Commit      time.Duration // after once to twice this time a leader sends what is left, and looks for commits that nobody announced (pipeline)
	RPC         time.Duration // I/O deadline of one message, dialling included
}

// LAN is the default timing. The library looks for a silent leader at intervals of
// one to two Heartbeats, and a follower that has not missed the leader grants no
// vote. Of four replicas without their leader all three are needed, so that the
// slowest decides: 2.2 Heartbeats in the median, 2.9 at the 99th percentile, 3 at
// most. The first write is to come within 3 s; with the library's own second it
// could not.
func LAN() Timing {
	return Timing{
		Heartbeat:   700 * time.Millisecond,
		Election:    700 * time.Millisecond,
		LeaderLease: 600 * time.Millisecond,
		Commit:      5 * time.Millisecond,
		RPC:         10 * time.Second,
	}
}

// Loopback is a timing for replicas on one machine: fail-over takes 0.7 to 1.5 s.
func Loopback() Timing {
	return Timing{
		Heartbeat:   500 * time.Millisecond,
		Election:    500 * time.Millisecond,
		LeaderLease: 400 * time.Millisecond,
		Commit:      2 * time.Millisecond,
		RPC:         5 * time.Second,
	}
}

// withDefaults fills the zero values in and reports everything that is wrong.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	required := func(present bool, name string) {
		if !present {
			errs = append(errs, fmt.Errorf("raft: Config.%s is required", name))
		}
	}
	required(c.NodeID != "", "NodeID")
	required(c.Dir != "", "Dir")
	required(c.Listener != nil, "Listener")
	required(c.Applier != nil, "Applier")
	required(c.Resolve != nil, "Resolve")
	required(c.Fatal != nil, "Fatal")
	required(c.TLS.ServerConfig != nil, "TLS.ServerConfig")
	required(c.TLS.ClientConfig != nil, "TLS.ClientConfig")
	required(c.TLS.PeerID != nil, "TLS.PeerID")
	if s := c.TLS.ServerConfig; s != nil && s.ClientAuth != tls.RequireAnyClientCert && s.ClientAuth != tls.RequireAndVerifyClientCert {
		errs = append(errs, fmt.Errorf("raft: Config.TLS.ServerConfig.ClientAuth is %v, it must require a certificate", s.ClientAuth))
	}

	if c.Dial == nil {
		c.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	lan := LAN()
	orElse(&c.Timing.Heartbeat, lan.Heartbeat)
	orElse(&c.Timing.Election, max(lan.Election, c.Timing.Heartbeat))
	orElse(&c.Timing.LeaderLease, min(lan.LeaderLease, c.Timing.Heartbeat))
	orElse(&c.Timing.Commit, lan.Commit)
	orElse(&c.Timing.RPC, lan.RPC)
	orElse(&c.LogWriteDeadline, 10*time.Second)
	orElse(&c.MaxAppendEntries, 8)
	orElse(&c.MaxRPCsInFlight, 2)
	orElse(&c.TrailingLogs, 4096)
	if c.TrailingLogs == NoTrailingLogs {
		c.TrailingLogs = 0
	}
	orElse(&c.SnapshotThreshold, 1024)
	orElse(&c.SnapshotInterval, 30*time.Second)

	if c.NodeID != "" {
		if err := hraft.ValidateConfig(c.engine()); err != nil {
			errs = append(errs, fmt.Errorf("raft: %w", err))
		}
	}
	return c, errors.Join(errs...)
}

// engine is the configuration of the library. Nothing is restored by it at the
// start, because recover has done so by then.
func (c Config) engine() *hraft.Config {
	config := hraft.DefaultConfig()
	config.LocalID = hraft.ServerID(c.NodeID)
	config.HeartbeatTimeout = c.Timing.Heartbeat
	config.ElectionTimeout = c.Timing.Election
	config.LeaderLeaseTimeout = c.Timing.LeaderLease
	config.CommitTimeout = c.Timing.Commit
	config.MaxAppendEntries = c.MaxAppendEntries
	config.BatchApplyCh = true
	config.TrailingLogs = c.TrailingLogs
	config.SnapshotThreshold = c.SnapshotThreshold
	config.SnapshotInterval = c.SnapshotInterval
	config.ShutdownOnRemove = false // Run decides when this process ends
	config.NoSnapshotRestoreOnStart = true
	config.NoLegacyTelemetry = true
	config.Logger = newLogger(c.Logger)
	return config
}

func orElse[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}

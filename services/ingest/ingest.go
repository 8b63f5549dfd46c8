// Package ingest is the gateway that meters send to, run by whoever owns them.
//
// Source: architecture, "The path of one measurement" step 2, rule N2.
//
// Invariants:
//   - Nobody trusts it: receipts are verified by meters, samples by endorsers
//     and replicas.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	evidencev1 "github.com/lacre-metrology/lacre/gen/lacre/evidence/v1"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/lifecycle"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/platform/tracing"
	"github.com/lacre-metrology/lacre/services/ingest/internal/api"
	"github.com/lacre-metrology/lacre/services/ingest/internal/evidence"
	"github.com/lacre-metrology/lacre/services/ingest/internal/gateway"
)

// Config is one gateway's configuration.
type Config struct {
	NodeID         string           `yaml:"node_id" doc:"this gateway's id, as registered on the ledger"`
	TLSKey         string           `yaml:"tls_key" doc:"file of the TLS key (PKCS#8 PEM, mode 0600)"`
	TLSCertificate string           `yaml:"tls_certificate" doc:"file of a certificate chain of that key (PEM), for other people's TLS tools; empty: the node signs one itself"`
	SigningKey     string           `yaml:"signing_key" doc:"file of the key that signs events"`
	Server         rpcserver.Config `yaml:"server" doc:"the gRPC server"`
	Ledger         follower.Config  `yaml:"ledger" doc:"the ledger to follow and submit to"`
	Endorsers      []Endorser       `yaml:"endorsers" doc:"the contracted endorsers"`
	Evidence       EvidenceConfig   `yaml:"evidence" doc:"where sealed evidence is kept"`
	Admin          admin.Config     `yaml:"admin" doc:"metrics, profiles, health and version over HTTP, for the operator"`
	Tracing        tracing.Config   `yaml:"tracing" doc:"traces of measurements, to an OpenTelemetry collector"`
}

// Endorser is where a contracted endorser is, and its TLS key.
type Endorser struct {
	NodeID  string `yaml:"node_id" doc:"its id, as registered on the ledger"`
	Address string `yaml:"address" doc:"host:port of its gRPC server"`
	SPKI    string `yaml:"spki" doc:"SHA-256 of its TLS key's SubjectPublicKeyInfo, in hexadecimal"`
}

// EvidenceConfig says where sealed evidence is kept.
type EvidenceConfig struct {
	Store    string `yaml:"store" doc:"a directory, or the URL of a bucket such as s3://NAME?region=R (credentials as the AWS SDK finds them); empty: none is kept"`
	MaxBytes int64  `yaml:"max_bytes" doc:"largest sealed piece; 0 means 64 MiB"`
	// CollectAfter is raised to twice the network's lateness bound if it is below.
	CollectAfter time.Duration `yaml:"collect_after" doc:"how long a piece that no record names is kept; 0 means 2160h (90 days), less than twice the network's lateness bound means that, and below 0 keeps all"`
}

// Validate reports every wrong field.
func (c *Config) Validate() error {
	var failures []error
	if err := record.CheckID(c.NodeID); err != nil {
		failures = append(failures, fmt.Errorf("node_id: %w", err))
	}
	for _, f := range []struct{ key, value string }{{"tls_key", c.TLSKey}, {"signing_key", c.SigningKey}} {
		if f.value == "" {
			failures = append(failures, fmt.Errorf("%s: is missing", f.key))
		}
	}
	if n := len(c.Endorsers); n == 0 || n > gateway.MaxEndorsers {
		failures = append(failures, fmt.Errorf("endorsers: %d, want 1 to %d", n, gateway.MaxEndorsers))
	}
	seen := make(map[string]bool)
	for i, e := range c.Endorsers {
		if seen[e.NodeID] {
			failures = append(failures, fmt.Errorf("endorsers[%d].node_id: %q is listed twice", i, e.NodeID))
		}
		seen[e.NodeID] = true
		if _, err := digest.Parse(e.SPKI); err != nil {
			failures = append(failures, fmt.Errorf("endorsers[%d].spki: %w", i, err))
		}
	}
	if c.Evidence.MaxBytes < 0 {
		failures = append(failures, fmt.Errorf("evidence.max_bytes: %d, must not be negative", c.Evidence.MaxBytes))
	}
	return errors.Join(failures...)
}

// Service is a gateway. Make it with New, then Run it once, or Close it.
type Service struct {
	log         *slog.Logger
	node        *identity.Node
	follower    *follower.Follower
	server      *rpcserver.Server
	admin       *admin.Server
	traces      *tracing.Traces // nil when they are off
	connections []*grpc.ClientConn
	events      *follower.Reporter
	gateway     *gateway.Gateway
	evidence    *evidence.Store  // nil without a store
	keeper      *evidence.Keeper // nil without a store

	collectAfter time.Duration // as configured
}

const (
	maxMessageBytes  = 8 << 20 // a batch of samples with their raw vectors, to endorsers
	windowBytes      = 1 << 20 // of a meter's samples on their way unread: the largest, and room for small ones
	maxSampleMessage = 1 << 20 // one sample with its raw vector, from meters
)

// New opens the ports and prepares connections; Run serves.
func New(c Config, log *slog.Logger) (_ *Service, err error) {
	if err := errors.Join(c.Validate(), c.Ledger.Validate()); err != nil {
		return nil, err
	}
	s := &Service{log: log.With("node", c.NodeID), collectAfter: c.Evidence.CollectAfter}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	node, err := identity.LoadCertified(c.TLSKey, c.TLSCertificate)
	if err != nil {
		return nil, err
	}
	s.node = node
	signing, err := identity.ReadKey(c.SigningKey)
	if err != nil {
		return nil, err
	}
	metrics := admin.NewRegistry()
	if s.traces, err = tracing.New(c.Tracing, tracing.Options{Service: "ingest", NodeID: c.NodeID, Metrics: metrics, Logger: s.log}); err != nil {
		return nil, err
	}
	if s.follower, err = follower.New(c.Ledger, node, s.log, follower.WithTraces(s.traces)); err != nil {
		return nil, err
	}
	var endorsers []gateway.Endorser
	for _, e := range c.Endorsers {
		spki, err := digest.Parse(e.SPKI)
		if err != nil {
			return nil, err
		}
		connection, err := rpcclient.Dial(e.Address, rpcclient.Options{Node: node, Server: identity.Pin(identity.SPKI(spki)), MaxMessageBytes: maxMessageBytes, Logger: s.log, Traces: s.traces})
		if err != nil {
			return nil, err
		}
		s.connections = append(s.connections, connection)
		endorsers = append(endorsers, &endorser{config: e, client: computev1.NewComputeServiceClient(connection)})
	}
	metrics.MustRegister(admin.Certificate(node.NotAfter))
	metrics.MustRegister(s.follower.Gauges())
	metrics.MustRegister(s.gauges())
	config := c.Server
	if config.MaxMessageBytes == 0 {
		config.MaxMessageBytes = maxSampleMessage
	}
	allow := rpcserver.Allow{}
	allow.AllowService(&ingestv1.IngestService_ServiceDesc, identity.RoleMeter, identity.RoleGateway)
	allow[ingestv1.IngestService_GetHead_FullMethodName] = []identity.Role{identity.RolePublic}
	if c.Evidence.Store != "" {
		allow[evidencev1.EvidenceService_Put_FullMethodName] = []identity.Role{identity.RoleMeter, identity.RoleGateway}
		allow[evidencev1.EvidenceService_Get_FullMethodName] = []identity.Role{identity.RoleAuthority}
		allow[evidencev1.EvidenceService_Stat_FullMethodName] = []identity.Role{identity.RolePublic}
	}
	if s.server, err = rpcserver.New(config, rpcserver.Options{Node: node, Registry: s.follower.Registry(), Allow: allow, Logger: s.log, Metrics: metrics, Traces: s.traces, WindowBytes: windowBytes}); err != nil {
		return nil, err
	}
	s.events = follower.NewReporter(s.follower, signing, s.log)
	s.gateway = gateway.New(s.follower.NetworkID(), c.NodeID, s.follower, s.events, endorsers, s.log)
	s.gateway.Traces, s.gateway.Took = s.traces, observe(metrics)
	ingestv1.RegisterIngestServiceServer(s.server, api.New(s.gateway))
	if c.Evidence.Store != "" {
		if s.evidence, err = evidence.OpenStore(context.Background(), c.Evidence.Store); err != nil {
			return nil, err
		}
		s.keeper = evidence.NewKeeper(c.NodeID, s.evidence, s.follower, s.events, c.Evidence.MaxBytes, s.log)
		evidencev1.RegisterEvidenceServiceServer(s.server, api.NewEvidence(s.keeper))
	}
	s.server.SetServing(ingestv1.IngestService_ServiceDesc.ServiceName, false)
	s.admin, err = admin.New(c.Admin, admin.Options{Service: "ingest", NodeID: c.NodeID, Registry: metrics, Ready: s.server.Ready, Logger: s.log})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// endorser is a contracted endorser behind its connection.
type endorser struct {
	config Endorser
	client computev1.ComputeServiceClient
}

func (e *endorser) NodeID() string { return e.config.NodeID }
func (e *endorser) Endorse(ctx context.Context, request *computev1.EndorseRequest) (*computev1.EndorseResponse, error) {
	return e.client.Endorse(ctx, request)
}

// Addr is where the gRPC server listens.
func (s *Service) Addr() net.Addr { return s.server.Addr() }

// AdminAddr is where the admin port listens; nil when there is none.
func (s *Service) AdminAddr() net.Addr { return s.admin.Addr() }

// Close releases what New opened, of a service that is never run.
func (s *Service) Close() error {
	var failures []error
	if s.admin != nil {
		failures = append(failures, s.admin.Close())
	}
	if s.server != nil {
		failures = append(failures, s.server.Close())
	}
	return errors.Join(append(failures, s.traces.Close(), s.close())...)
}

// close ends the connections to others.
func (s *Service) close() error {
	var failures []error
	for _, c := range s.connections {
		failures = append(failures, c.Close())
	}
	if s.evidence != nil {
		failures = append(failures, s.evidence.Close())
	}
	if s.follower != nil {
		failures = append(failures, s.follower.Close())
	}
	return errors.Join(failures...)
}

// Run serves until ctx ends. Then the gateway takes no more samples and answers
// those on their way, the server ends, and events are recorded.
func (s *Service) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	run := lifecycle.Runner{Logger: s.log}
	run.Add("admin", s.admin)   // the first to start is the last to stop
	run.Add("traces", s.traces) // what stops before it is still told
	run.AddFunc("tls files", func(ctx context.Context) error { return s.node.Run(ctx, s.log) })
	run.AddFunc("follower", s.follower.Run)
	run.AddFunc("events", s.events.Run)
	if s.keeper != nil {
		run.AddFunc("evidence", s.keeper.Run)
		if s.collectAfter >= 0 {
			run.AddFunc("collector", func(ctx context.Context) error { return s.keeper.RunCollector(ctx, s.collectAfter) })
		}
	}
	run.AddFunc("readiness", func(ctx context.Context) error {
		if err := s.follower.CatchUp(ctx); err != nil {
			return err
		}
		s.server.SetServing(ingestv1.IngestService_ServiceDesc.ServiceName, true)
		return nil
	})
	run.AddFunc("grpc", s.server.Run)
	run.AddFunc("gateway", s.gateway.Run) // the last to start is the first to stop
	return run.Run(ctx)
}

// Package compute is an endorser: it recomputes results in the sandbox and
// signs them for one organisation.
//
// Source: architecture, "The path of one measurement" step 3; the paper,
// section VI-C.
//
// Invariants:
//   - It trusts only the certified ledger, which it follows by itself.
//   - It is ready when it follows the certified height.
package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/lifecycle"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/platform/tracing"
	"github.com/lacre-metrology/lacre/sandbox"
	"github.com/lacre-metrology/lacre/services/compute/internal/api"
	"github.com/lacre-metrology/lacre/services/compute/internal/endorse"
	"github.com/lacre-metrology/lacre/services/compute/internal/modules"
)

// Config is one endorser's configuration.
type Config struct {
	NodeID         string           `yaml:"node_id" doc:"this endorser's id, as registered on the ledger"`
	TLSKey         string           `yaml:"tls_key" doc:"file of the TLS key (PKCS#8 PEM, mode 0600)"`
	TLSCertificate string           `yaml:"tls_certificate" doc:"file of a certificate chain of that key (PEM), for other people's TLS tools; empty: the node signs one itself"`
	SigningKey     string           `yaml:"signing_key" doc:"file of the key that signs endorsements and events"`
	Modules        string           `yaml:"modules" doc:"directory of the installed modules"`
	RepeatShare    float64          `yaml:"repeat_share" doc:"most of this machine's CPU that repeating results on the interpreter may take, above 0 to 1; 0 means 0.05. Endorsers that share a machine share it"`
	Server         rpcserver.Config `yaml:"server" doc:"the gRPC server"`
	Ledger         follower.Config  `yaml:"ledger" doc:"the ledger to follow"`
	Admin          admin.Config     `yaml:"admin" doc:"metrics, profiles, health and version over HTTP, for the operator"`
	Tracing        tracing.Config   `yaml:"tracing" doc:"traces of measurements, to an OpenTelemetry collector"`
}

// Validate reports every wrong field.
func (c *Config) Validate() error {
	var failures []error
	if err := record.CheckID(c.NodeID); err != nil {
		failures = append(failures, fmt.Errorf("node_id: %w", err))
	}
	for _, f := range []struct{ key, value string }{{"tls_key", c.TLSKey}, {"signing_key", c.SigningKey}, {"modules", c.Modules}} {
		if f.value == "" {
			failures = append(failures, fmt.Errorf("%s: is missing", f.key))
		}
	}
	if c.RepeatShare < 0 || c.RepeatShare > 1 {
		failures = append(failures, fmt.Errorf("repeat_share: is %v, want 0 to 1", c.RepeatShare))
	}
	return errors.Join(failures...)
}

// Service is an endorser. Make it with New, then Run it once, or Close it.
type Service struct {
	log      *slog.Logger
	node     *identity.Node
	follower *follower.Follower
	engine   *sandbox.Engine
	server   *rpcserver.Server
	admin    *admin.Server
	traces   *tracing.Traces // nil when they are off
	events   *follower.Reporter
	modules  *modules.Modules
	endorser *endorse.Endorser
}

const (
	// maxMessageBytes is a batch of samples with their raw vectors: gateways
	// begin another batch long before.
	maxMessageBytes = 8 << 20
	// maxStreams bounds the batches of one gateway, and with maxMessageBytes its
	// hold on memory.
	maxStreams = 32
)

// New loads the modules and opens the ports; Run serves.
func New(ctx context.Context, c Config, log *slog.Logger) (_ *Service, err error) {
	if err := errors.Join(c.Validate(), c.Ledger.Validate()); err != nil {
		return nil, err
	}
	s := &Service{log: log.With("node", c.NodeID)}
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
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.traces, err = tracing.New(c.Tracing, tracing.Options{Service: "compute", NodeID: c.NodeID, Metrics: metrics, Logger: s.log}); err != nil {
		return nil, err
	}
	if s.follower, err = follower.New(c.Ledger, node, s.log, follower.WithTraces(s.traces)); err != nil {
		return nil, err
	}
	s.events = follower.NewReporter(s.follower, signing, s.log)
	if s.engine, err = sandbox.NewEngine(ctx, sandbox.Config{CrossCheckShare: c.RepeatShare, OnDivergence: s.diverged}); err != nil {
		return nil, err
	}
	if s.modules, err = modules.Open(ctx, c.Modules, s.engine, s.log); err != nil {
		return nil, err
	}
	s.endorser = &endorse.Endorser{NetworkID: s.follower.NetworkID(), NodeID: c.NodeID, Signer: signing, Programs: s.modules, Log: s.log, Traces: s.traces}
	metrics.MustRegister(admin.Certificate(node.NotAfter))
	metrics.MustRegister(s.follower.Gauges())
	metrics.MustRegister(s.gauges())
	s.endorser.Ran = observe(metrics)

	allow := rpcserver.Allow{
		computev1.ComputeService_Endorse_FullMethodName: {identity.RoleGateway},
		// Whoever contracted the endorser hands in modules; what is run is decided
		// by the approval on the ledger, not by who brought it.
		computev1.ComputeService_InstallAlgorithm_FullMethodName: {identity.RoleGateway, identity.RoleApproval},
		computev1.ComputeService_GetAlgorithm_FullMethodName:     {identity.RolePublic}, // the approval's disclosure decides
		computev1.ComputeService_ListAlgorithms_FullMethodName:   {identity.RolePublic},
	}
	config := c.Server
	if config.MaxMessageBytes == 0 {
		config.MaxMessageBytes = maxMessageBytes
	}
	if config.MaxStreams == 0 {
		config.MaxStreams = maxStreams
	}
	if s.server, err = rpcserver.New(config, rpcserver.Options{Node: node, Registry: s.follower.Registry(), Allow: allow, Logger: s.log, Metrics: metrics, Traces: s.traces}); err != nil {
		return nil, err
	}
	computev1.RegisterComputeServiceServer(s.server, api.New(s.follower, s.events, s.endorser, s.modules, s.log))
	s.server.SetServing(computev1.ComputeService_ServiceDesc.ServiceName, false)
	s.admin, err = admin.New(c.Admin, admin.Options{Service: "compute", NodeID: c.NodeID, Registry: metrics, Ready: s.server.Ready, Logger: s.log})
	if err != nil {
		return nil, err
	}
	return s, nil
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
	return errors.Join(append(failures, s.traces.Close(), s.close(context.Background()))...)
}

// close ends the engine and the connections to the ledger.
func (s *Service) close(ctx context.Context) error {
	var failed error
	if s.engine != nil {
		failed = s.engine.Close(context.WithoutCancel(ctx))
	}
	if s.follower != nil {
		failed = errors.Join(failed, s.follower.Close())
	}
	return failed
}

// Run serves until ctx ends. Batches in flight are finished first, and events
// that are still to be recorded.
func (s *Service) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	run := lifecycle.Runner{Logger: s.log}
	run.Add("admin", s.admin)   // the first to start is the last to stop
	run.Add("traces", s.traces) // what stops before it is still told
	run.AddFunc("tls files", func(ctx context.Context) error { return s.node.Run(ctx, s.log) })
	run.AddFunc("follower", s.follower.Run)
	run.AddFunc("events", s.events.Run)
	run.AddFunc("readiness", s.ready)
	run.AddFunc("grpc", s.server.Run)
	return run.Run(ctx)
}

// ready tells health checks as soon as the certified height is followed.
func (s *Service) ready(ctx context.Context) error {
	if err := s.follower.CatchUp(ctx); err != nil {
		return err
	}
	s.server.SetServing(computev1.ComputeService_ServiceDesc.ServiceName, true)
	return nil
}

// diverged records that compiler and interpreter differed, once for each module:
// it is on the interpreter from now on.
func (s *Service) diverged(d sandbox.Divergence) {
	if err := s.modules.Distrust(d.Module); err != nil {
		s.log.Error("a module must stay on the interpreter, and the next start will not know", "algorithm", digest.Digest(d.Module), "error", err)
	}
	err := s.events.Report(&recordv1.EventReport{
		NetworkId: s.endorser.NetworkID.Bytes(), Reporter: s.endorser.NodeID, Kind: recordv1.EventKind_EVENT_KIND_ENGINE_DIVERGENCE,
		Subject: record.SubjectAlgorithm(d.Module),
		Detail:  fmt.Sprintf("compiler gave %.200s, interpreter %.200s", d.Compiled, d.Interpreted),
	})
	if err != nil {
		s.log.Error("a divergence of the engines is not recorded", "algorithm", digest.Digest(d.Module), "error", err)
	}
}

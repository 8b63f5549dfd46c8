// Package approval is the notified body's front door: it takes statements that
// were signed offline and answers from certified state.
//
// Source: architecture, "The path of one measurement" step 5; the paper, section
// VI-D.
package approval

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/lacre-metrology/lacre/core/record"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/lifecycle"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/approval/internal/api"
)

// Config is the front door's configuration.
type Config struct {
	NodeID         string           `yaml:"node_id" doc:"this node's id, as registered on the ledger"`
	TLSKey         string           `yaml:"tls_key" doc:"file of the TLS key (PKCS#8 PEM, mode 0600)"`
	TLSCertificate string           `yaml:"tls_certificate" doc:"file of a certificate chain of that key (PEM), for other people's TLS tools; empty: the node signs one itself"`
	Server         rpcserver.Config `yaml:"server" doc:"the gRPC server"`
	Ledger         follower.Config  `yaml:"ledger" doc:"the ledger to follow and submit to"`
	Admin          admin.Config     `yaml:"admin" doc:"metrics, profiles, health and version over HTTP, for the operator"`
}

// Validate reports every wrong field.
func (c *Config) Validate() error {
	var failures []error
	if err := record.CheckID(c.NodeID); err != nil {
		failures = append(failures, fmt.Errorf("node_id: %w", err))
	}
	if c.TLSKey == "" {
		failures = append(failures, errors.New("tls_key: is missing"))
	}
	return errors.Join(failures...)
}

// Service is the front door. Make it with New, then Run it once, or Close it.
type Service struct {
	log      *slog.Logger
	node     *identity.Node
	follower *follower.Follower
	server   *rpcserver.Server
	admin    *admin.Server
}

// maxMessageBytes is a statement, or a page of what is registered.
const maxMessageBytes = 4 << 20

// New opens the ports; Run serves.
func New(c Config, log *slog.Logger) (_ *Service, err error) {
	if err := errors.Join(c.Validate(), c.Ledger.Validate()); err != nil {
		return nil, err
	}
	s := &Service{log: log.With("node", c.NodeID)}
	node, err := identity.LoadCertified(c.TLSKey, c.TLSCertificate)
	if err != nil {
		return nil, err
	}
	s.node = node
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.follower, err = follower.New(c.Ledger, node, s.log); err != nil {
		return nil, err
	}
	metrics := admin.NewRegistry()
	metrics.MustRegister(admin.Certificate(node.NotAfter))
	metrics.MustRegister(s.follower.Gauges())
	allow := rpcserver.Allow{}
	// Statements carry their own authority, their signatures; so anybody may hand
	// one in. Flooding is bounded by the server's limits on streams and sizes.
	allow.AllowService(&approvalv1.ApprovalService_ServiceDesc, identity.RolePublic)
	config := c.Server
	if config.MaxMessageBytes == 0 {
		config.MaxMessageBytes = maxMessageBytes
	}
	if s.server, err = rpcserver.New(config, rpcserver.Options{Node: node, Registry: s.follower.Registry(), Allow: allow, Logger: s.log, Metrics: metrics}); err != nil {
		return nil, err
	}
	approvalv1.RegisterApprovalServiceServer(s.server, api.New(s.follower))
	s.server.SetServing(approvalv1.ApprovalService_ServiceDesc.ServiceName, false)
	s.admin, err = admin.New(c.Admin, admin.Options{Service: "approval", NodeID: c.NodeID, Registry: metrics, Ready: s.server.Ready, Logger: s.log})
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
	return errors.Join(append(failures, s.close())...)
}

// close ends the connections to the ledger.
func (s *Service) close() error {
	if s.follower == nil {
		return nil
	}
	return s.follower.Close()
}

// Run serves until ctx ends.
func (s *Service) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	run := lifecycle.Runner{Logger: s.log}
	run.Add("admin", s.admin) // the first to start is the last to stop
	run.AddFunc("tls files", func(ctx context.Context) error { return s.node.Run(ctx, s.log) })
	run.AddFunc("follower", s.follower.Run)
	run.AddFunc("readiness", func(ctx context.Context) error {
		if err := s.follower.CatchUp(ctx); err != nil {
			return err
		}
		s.server.SetServing(approvalv1.ApprovalService_ServiceDesc.ServiceName, true)
		return nil
	})
	run.AddFunc("grpc", s.server.Run)
	return run.Run(ctx)
}

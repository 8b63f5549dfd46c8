package devnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/digest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/lifecycle"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// Run runs every node of the network from its configuration file, replicas
// first, until ctx ends. The directory is locked meanwhile.
func (n *Network) Run(ctx context.Context, log *slog.Logger) (err error) {
	lock, err := durable.LockDir(n.Dir, "lacre dev")
	if err != nil {
		return err
	}
	defer func() {
		if e := lock.Unlock(); err == nil {
			err = e
		}
	}()
	run := lifecycle.Runner{Logger: log, Grace: 30 * time.Second}
	var opened []io.Closer
	for _, role := range []recordv1.Role{recordv1.Role_ROLE_REPLICA, recordv1.Role_ROLE_ENDORSER, recordv1.Role_ROLE_APPROVAL, recordv1.Role_ROLE_GATEWAY} {
		for _, node := range n.ByRole(role) {
			service, err := n.open(ctx, node, log)
			if err != nil {
				err = fmt.Errorf("node %s: %w", node.ID, err)
				for _, o := range slices.Backward(opened) {
					err = errors.Join(err, o.Close())
				}
				return err
			}
			opened = append(opened, service)
			run.Add(node.ID, service)
		}
	}
	return run.Run(ctx)
}

// service is a node's, opened: it is run, or closed if it never will be.
type service interface {
	lifecycle.Part
	io.Closer
}

func (n *Network) open(ctx context.Context, node Node, log *slog.Logger) (service, error) {
	path := founding.ConfigPath(n.Dir, node.ID)
	switch node.Role {
	case recordv1.Role_ROLE_REPLICA:
		var c ledger.Config
		if err := config.Load(path, &c); err != nil {
			return nil, err
		}
		return ledger.New(c, log)
	case recordv1.Role_ROLE_ENDORSER:
		var c compute.Config
		if err := config.Load(path, &c); err != nil {
			return nil, err
		}
		return compute.New(ctx, c, log)
	case recordv1.Role_ROLE_GATEWAY:
		var c ingest.Config
		if err := config.Load(path, &c); err != nil {
			return nil, err
		}
		return ingest.New(c, log)
	case recordv1.Role_ROLE_APPROVAL:
		var c approval.Config
		if err := config.Load(path, &c); err != nil {
			return nil, err
		}
		return approval.New(c, log)
	}
	return nil, fmt.Errorf("role %v has no service", node.Role)
}

// serviceNames are what health checks ask for, by role.
var serviceNames = map[recordv1.Role]string{
	recordv1.Role_ROLE_REPLICA:  "lacre.ledger.v1.LedgerService",
	recordv1.Role_ROLE_ENDORSER: "lacre.compute.v1.ComputeService",
	recordv1.Role_ROLE_GATEWAY:  "lacre.ingest.v1.IngestService",
	recordv1.Role_ROLE_APPROVAL: "lacre.approval.v1.ApprovalService",
}

// WaitReady returns when every node, or every one that is named, says that it is
// ready.
func (n *Network) WaitReady(ctx context.Context, ids ...string) error {
	nodes := n.Nodes
	if len(ids) > 0 {
		nodes = nil
	}
	for _, id := range ids {
		node, err := n.Node(id)
		if err != nil {
			return err
		}
		nodes = append(nodes, node)
	}
	for _, node := range nodes {
		if err := n.waitReady(ctx, node); err != nil {
			return fmt.Errorf("node %s at %s is not ready: %w", node.ID, node.Address, err)
		}
	}
	return nil
}

func (n *Network) waitReady(ctx context.Context, node Node) error {
	connection, err := n.Dial(node.ID, nil)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // a health check has nothing to lose.
	client := healthv1.NewHealthClient(connection)
	last := errors.New("it has not answered")
	for {
		response, err := client.Check(ctx, &healthv1.HealthCheckRequest{Service: serviceNames[node.Role]})
		if err == nil && response.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return nil
		}
		switch {
		case err == nil:
			last = fmt.Errorf("it last answered %v", response.GetStatus())
		case ctx.Err() == nil: // otherwise the error is only that nobody waits any longer
			last = err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		}
	}
}

// Dial connects to a node, with its TLS key pinned; as is the caller's identity
// or nil for the public.
func (n *Network) Dial(id string, as *identity.Node) (*grpc.ClientConn, error) {
	node, err := n.Node(id)
	if err != nil {
		return nil, err
	}
	spki, err := digest.Parse(node.SPKI)
	if err != nil {
		return nil, err
	}
	return rpcclient.Dial(node.Address, rpcclient.Options{Node: as, Server: identity.Pin(identity.SPKI(spki)), Logger: slog.New(slog.DiscardHandler)})
}

// NodeIdentity is the TLS identity of a node: for tools that act as it.
func (n *Network) NodeIdentity(id string) (*identity.Node, error) {
	return identity.Load(filepath.Join(n.NodeDir(id), "tls.pem"))
}

// OwnIdentity is the TLS identity of the first node of a role whose keys lie in
// the directory: an organisation's holds its own nodes' alone.
func (n *Network) OwnIdentity(role recordv1.Role) (*identity.Node, error) {
	for _, node := range n.ByRole(role) {
		own, err := n.NodeIdentity(node.ID)
		if !errors.Is(err, fs.ErrNotExist) {
			return own, err
		}
	}
	return nil, fmt.Errorf("%s holds the keys of no node with role %v", n.Dir, role)
}

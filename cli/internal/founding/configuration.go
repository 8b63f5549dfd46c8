package founding

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/sandbox"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// config is a node's configuration: *ledger.Config or that of another service.
// dir is absolute, so that the node can be started from anywhere. A node that
// joins later begins with a ledger that knows the nodes of the genesis file alone,
// so pinned gives it the keys of its peers.
func (b *Book) config(dir string, n Node, operator admin.Config, pinned bool) (any, error) {
	at := func(name string) string { return filepath.Join(NodeDir(dir, n.ID), name) }
	server := rpcserver.Config{Listen: listenAt(n.Address)}
	follow := follower.Config{NetworkID: b.NetworkID, State: at("ledger.state")}
	replicas := b.ByRole(recordv1.Role_ROLE_REPLICA)
	for _, r := range replicas {
		follow.Replicas = append(follow.Replicas, follower.Endpoint{Address: r.Address, SPKI: r.SPKI})
	}
	switch n.Role {
	case recordv1.Role_ROLE_REPLICA:
		c := &ledger.Config{
			NodeID: n.ID, DataDir: at("data"), Genesis: filepath.Join(dir, GenesisFile),
			TLSKey: at("tls.pem"), TLSCertificate: at("tls.crt"), SigningKey: at("signing.pem"),
			CosignerKey: at("cosigner.pem"), LogKey: at("log.pem"),
			Server: server, RaftListen: listenAt(n.RaftAddress), Loopback: true, Admin: operator,
		}
		for _, p := range replicas {
			c.Loopback = c.Loopback && onLoopback(p.Address) && onLoopback(p.RaftAddress)
			if p.ID == n.ID {
				c.Tiles.Listen = p.TilesAddress
				continue
			}
			peer := ledger.Peer{NodeID: p.ID, Address: p.Address, RaftAddress: p.RaftAddress}
			if pinned {
				peer.SPKI = p.SPKI
			}
			c.Peers = append(c.Peers, peer)
		}
		return c, nil
	case recordv1.Role_ROLE_ENDORSER:
		c := &compute.Config{
			NodeID: n.ID, TLSKey: at("tls.pem"), TLSCertificate: at("tls.crt"), SigningKey: at("signing.pem"),
			Modules: at("modules"), Server: server, Ledger: follow, Admin: operator,
		}
		if all := b.ByRole(recordv1.Role_ROLE_ENDORSER); !slices.ContainsFunc(all, func(e Node) bool { return !onLoopback(e.Address) }) {
			c.RepeatShare = sandbox.CrossCheckShare / float64(len(all)) // they share one machine
		}
		return c, nil
	case recordv1.Role_ROLE_GATEWAY:
		c := &ingest.Config{
			NodeID: n.ID, TLSKey: at("tls.pem"), TLSCertificate: at("tls.crt"), SigningKey: at("signing.pem"),
			Server: server, Ledger: follow, Evidence: ingest.EvidenceConfig{Store: at("evidence")}, Admin: operator,
		}
		for _, e := range b.ByRole(recordv1.Role_ROLE_ENDORSER) {
			c.Endorsers = append(c.Endorsers, ingest.Endorser{NodeID: e.ID, Address: e.Address, SPKI: e.SPKI})
		}
		return c, nil
	case recordv1.Role_ROLE_APPROVAL:
		return &approval.Config{NodeID: n.ID, TLSKey: at("tls.pem"), TLSCertificate: at("tls.crt"), Server: server, Ledger: follow, Admin: operator}, nil
	}
	return nil, fmt.Errorf("node %s: role %v has no service", n.ID, n.Role)
}

// Admin says where the nodes' admin ports are: host:port by node id. A node that
// it does not name has its port on loopback, adminOffset above its gRPC port;
// "" means none. They are the operator's own business and in no member file.
type Admin map[string]string

// check wants every named node to be one of the member's.
func (a Admin) check(m *Member) error {
	var own, strange []string
	for _, n := range m.Nodes {
		own = append(own, n.ID)
	}
	for id := range a {
		if !slices.Contains(own, id) {
			strange = append(strange, fmt.Sprintf("%.80q", id))
		}
	}
	if len(strange) == 0 {
		return nil
	}
	slices.Sort(strange)
	return fmt.Errorf("admin ports of %s: %s runs %s", strings.Join(strange, ", "), m.Organisation, strings.Join(own, ", "))
}

// adminOffset is the distance of a node's admin port from its gRPC port.
const adminOffset = 2

func (a Admin) of(n Node) (admin.Config, error) {
	if listen, ok := a[n.ID]; ok {
		return admin.Config{Listen: listen}, nil
	}
	_, port, err := net.SplitHostPort(n.Address)
	if err != nil {
		return admin.Config{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number+adminOffset > 65535 {
		return admin.Config{}, fmt.Errorf("node %s: no admin port above %s; name one", n.ID, n.Address)
	}
	return admin.Config{Listen: fmt.Sprintf("127.0.0.1:%d", number+adminOffset)}, nil
}

// listenAt is where a node listens that others reach at an address: there on
// loopback, otherwise at that port of every interface, because the name that
// others use may be a router's.
func listenAt(address string) string {
	if onLoopback(address) {
		return address
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return ":" + port
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

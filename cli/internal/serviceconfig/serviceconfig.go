// Package serviceconfig knows the configuration files of all services: it writes
// the examples, and checks a file together with the files that it names.
//
// Source: house rules, "Configuration"; package platform/config.
//
// Invariants:
//   - An example is written from the service's own Config, so it cannot name a
//     key that the service does not know.
//   - A file is decoded by the service's own Config and rules; what is added
//     here is only what they do not look at: the files.
//   - Nothing is changed, and no private key leaves the check.
package serviceconfig

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/lacre-metrology/lacre/platform/admin"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// Names are the services.
var Names = []string{"ledger", "compute", "ingest", "approval"}

// Port is one port of a service.
type Port struct {
	Service  string `json:"service"`
	Number   int    `json:"port"` // the proposal; each is configured
	Key      string `json:"key"`  // of the configuration
	Protocol string `json:"protocol"`
	Reach    string `json:"reached_by"`
}

// Ports are the ports of all services. Numbers are proposals, which the examples
// and lacre init use; the port of tiles has none that is used unasked.
var Ports = []Port{
	{"ledger", 7401, "server.listen", "gRPC over TLS 1.3", "every node, and whoever reads or audits"},
	{"ledger", 7402, "raft_listen", "Raft over mutual TLS 1.3", "the other replicas alone"},
	{"ledger", 7403, "admin.listen", "HTTP", "the operator, on this machine"},
	{"ledger", 7404, "tiles.listen", "HTTP or HTTPS", "everybody; off unless configured"},
	{"compute", 7411, "server.listen", "gRPC over TLS 1.3", "gateways, and whoever installs modules"},
	{"compute", 7413, "admin.listen", "HTTP", "the operator, on this machine"},
	{"ingest", 7421, "server.listen", "gRPC over TLS 1.3", "meters"},
	{"ingest", 7423, "admin.listen", "HTTP", "the operator, on this machine"},
	{"approval", 7431, "server.listen", "gRPC over TLS 1.3", "notified bodies, manufacturers, and whoever asks"},
	{"approval", 7433, "admin.listen", "HTTP", "the operator, on this machine"},
}

// DefaultPort is the number of a port; it panics on one that Ports has not.
func DefaultPort(service, key string) int {
	for _, p := range Ports {
		if p.Service == service && p.Key == key {
			return p.Number
		}
	}
	panic("serviceconfig: no port " + service + " " + key)
}

const (
	// unknown stands for a digest that the operator fills in: no key has it, so
	// a forgotten one connects to nobody.
	unknown = "0000000000000000000000000000000000000000000000000000000000000000"

	etc, lib = "/etc/lacre/", "/var/lib/lacre/"
)

// empty is a service's Config without content, to decode into.
func empty(service string) any {
	switch service {
	case "ledger":
		return new(ledger.Config)
	case "compute":
		return new(compute.Config)
	case "ingest":
		return new(ingest.Config)
	case "approval":
		return new(approval.Config)
	}
	return nil
}

// UnknownError says that no service has that name.
type UnknownError struct{ Service string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no service is called %q; there are %s", e.Service, strings.Join(Names, ", "))
}

// Example is the commented example of a service's configuration file. The error
// is an *UnknownError, or that of a Config which cannot be written.
func Example(service string) ([]byte, error) {
	if !slices.Contains(Names, service) {
		return nil, &UnknownError{service}
	}
	text, err := config.Example(example(service))
	if err != nil {
		return nil, err
	}
	return append([]byte("# Example configuration of lacre-"+service+", written by `lacre config example "+service+"`: edit a copy, not this file.\n"+
		"# Digests of zeros are for you to fill in. Every key is a file of mode 0600 that its service alone can read.\n\n"), text...), nil
}

func example(service string) any {
	port := func(key string) string { return fmt.Sprintf(":%d", DefaultPort(service, key)) }
	key := func(name string) string { return etc + service + "/" + name + ".pem" }
	ledgerPort, raftPort := DefaultPort("ledger", "server.listen"), DefaultPort("ledger", "raft_listen")
	follow := follower.Config{NetworkID: unknown, State: lib + service + "/ledger.state"}
	for _, o := range []string{"a", "b", "c", "d"} {
		follow.Replicas = append(follow.Replicas, follower.Endpoint{Address: fmt.Sprintf("replica-%s.example:%d", o, ledgerPort), SPKI: unknown})
	}
	server := rpcserver.Config{Listen: port("server.listen")}
	operator := admin.Config{Listen: "127.0.0.1" + port("admin.listen")}
	switch service {
	case "ledger":
		c := &ledger.Config{
			NodeID: "replica-a", DataDir: lib + "ledger", Genesis: etc + "genesis",
			TLSKey: key("tls"), SigningKey: key("signing"), CosignerKey: key("cosigner"), LogKey: key("log"),
			Server: server, RaftListen: port("raft_listen"), Admin: operator,
		}
		for _, o := range []string{"b", "c", "d"} {
			host := "replica-" + o + ".example"
			c.Peers = append(c.Peers, ledger.Peer{NodeID: "replica-" + o, Address: fmt.Sprintf("%s:%d", host, ledgerPort), RaftAddress: fmt.Sprintf("%s:%d", host, raftPort)})
		}
		return c
	case "compute":
		return &compute.Config{
			NodeID: "endorser-b", TLSKey: key("tls"), SigningKey: key("signing"),
			Modules: lib + "compute/modules", Server: server, Ledger: follow, Admin: operator,
		}
	case "ingest":
		c := &ingest.Config{
			NodeID: "gateway-a", TLSKey: key("tls"), SigningKey: key("signing"), Server: server, Ledger: follow,
			Evidence: ingest.EvidenceConfig{Store: lib + "ingest/evidence"}, Admin: operator,
		}
		for _, o := range []string{"b", "c", "d"} {
			c.Endorsers = append(c.Endorsers, ingest.Endorser{
				NodeID: "endorser-" + o, Address: fmt.Sprintf("endorser-%s.example:%d", o, DefaultPort("compute", "server.listen")), SPKI: unknown,
			})
		}
		return c
	default:
		return &approval.Config{NodeID: "approval-a", TLSKey: key("tls"), Server: server, Ledger: follow, Admin: operator}
	}
}

// Detect says whose configuration a file is, by the keys that one service alone
// has. It is an error when none or several fit.
func Detect(text []byte) (string, error) {
	var keys map[string]yaml.Node
	if err := yaml.Unmarshal(text, &keys); err != nil {
		return "", err
	}
	var fit []string
	for service, own := range map[string][]string{
		"ledger": {"data_dir", "genesis", "cosigner_key", "log_key", "raft_listen", "peers"}, "compute": {"modules"}, "ingest": {"endorsers"},
	} {
		if slices.ContainsFunc(own, func(key string) bool { _, ok := keys[key]; return ok }) {
			fit = append(fit, service)
		}
	}
	_, follows := keys["ledger"]
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0 && follows:
		return "approval", nil
	}
	slices.Sort(fit)
	return "", fmt.Errorf("cannot tell whose configuration it is (it has keys of %d services %v): name the service", len(fit), fit)
}

//go:build ignore

// Command examples writes the example configurations in deploy/config from the
// services' own Config types, or checks that they are what it would write and
// that the services accept them. Run it in the repository's root:
//
//	go run deploy/examples.go          # check; changes nothing
//	go run deploy/examples.go -write
//
// It is a file of no module, because a service never imports another and this
// looks at all of them.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/approval"
	"github.com/lacre-metrology/lacre/services/compute"
	"github.com/lacre-metrology/lacre/services/ingest"
	"github.com/lacre-metrology/lacre/services/ledger"
)

const (
	dir = "deploy/config"

	// unknown stands for a digest that the operator fills in: no key has it, so
	// a forgotten one connects to nobody.
	unknown = "0000000000000000000000000000000000000000000000000000000000000000"

	etc, lib = "/etc/lacre/", "/var/lib/lacre/"
)

// example is one file: the configuration that it shows, and an empty one of the
// same type to load it into.
type example struct {
	name   string
	config any
	empty  any
}

func examples() []example {
	follow := follower.Config{NetworkID: unknown}
	for _, o := range []string{"a", "b", "c", "d"} {
		follow.Replicas = append(follow.Replicas, follower.Endpoint{Address: "replica-" + o + ".example:7401", SPKI: unknown})
	}
	replica := &ledger.Config{
		NodeID: "replica-a", DataDir: lib + "ledger", Genesis: etc + "genesis",
		TLSKey: etc + "ledger/tls.pem", SigningKey: etc + "ledger/signing.pem",
		CosignerKey: etc + "ledger/cosigner.pem", LogKey: etc + "ledger/log.pem",
		Server: rpcserver.Config{Listen: ":7401"}, RaftListen: ":7402",
	}
	for _, o := range []string{"b", "c", "d"} {
		replica.Peers = append(replica.Peers, ledger.Peer{
			NodeID: "replica-" + o, Address: "replica-" + o + ".example:7401", RaftAddress: "replica-" + o + ".example:7402",
		})
	}
	gateway := &ingest.Config{
		NodeID: "gateway-a", TLSKey: etc + "ingest/tls.pem", SigningKey: etc + "ingest/signing.pem",
		Server: rpcserver.Config{Listen: ":7421"}, Ledger: follow,
	}
	for _, o := range []string{"b", "c", "d"} {
		gateway.Endorsers = append(gateway.Endorsers, ingest.Endorser{
			NodeID: "endorser-" + o, Address: "endorser-" + o + ".example:7411", SPKI: unknown,
		})
	}
	return []example{
		{"ledger.yaml", replica, new(ledger.Config)},
		{"compute.yaml", &compute.Config{
			NodeID: "endorser-b", TLSKey: etc + "compute/tls.pem", SigningKey: etc + "compute/signing.pem",
			Modules: lib + "compute/modules", Server: rpcserver.Config{Listen: ":7411"}, Ledger: follow,
		}, new(compute.Config)},
		{"ingest.yaml", gateway, new(ingest.Config)},
		{"approval.yaml", &approval.Config{
			NodeID: "approval-a", TLSKey: etc + "approval/tls.pem",
			Server: rpcserver.Config{Listen: ":7431"}, Ledger: follow,
		}, new(approval.Config)},
	}
}

func main() {
	write := flag.Bool("write", false, "write the files instead of checking them")
	flag.Parse()
	var failures []error
	list := examples()
	for _, e := range list {
		if err := e.run(*write); err != nil {
			failures = append(failures, err)
		}
	}
	if err := errors.Join(failures...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d example configurations, accepted by their services\n", dir, len(list))
}

func (e example) run(write bool) error {
	path := filepath.Join(dir, e.name)
	service := strings.TrimSuffix(e.name, ".yaml")
	text, err := config.Example(e.config)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	text = append([]byte("# Example configuration of lacre-"+service+", written by deploy/examples.go: edit a copy, not this file.\n"+
		"# Digests of zeros are for you to fill in. Every key is a file of mode 0600 that its service alone can read.\n\n"), text...)
	if write {
		return os.WriteFile(path, text, 0o644)
	}
	committed, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(committed, text) {
		return fmt.Errorf("%s is not what the service's Config gives; run: go run deploy/examples.go -write", path)
	}
	return config.Load(path, e.empty)
}

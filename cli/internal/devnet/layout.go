// Package devnet lays out and runs a whole network on this machine: four
// organisations with a replica each, three of them endorsing, a gateway and the
// approval service. The nodes share one process for convenience; each is made
// from its own configuration file, and nothing passes between them except over
// gRPC and TLS sockets on loopback.
//
//	DIR/network.json      who and where everybody is, without secrets
//	DIR/genesis           the genesis file
//	DIR/trust             the verifier's trust bundle
//	DIR/*.member, ca/     what each organisation says of itself, and its CA
//	DIR/keys/*.pem        root keys of the organisations, the notified body's and
//	                      the manufacturer's: offline in a real network
//	DIR/nodes/ID/         keys, configuration and data of a node
//	DIR/meters/ID/        key and outbox of a meter
package devnet

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
)

// The parties of a development network. None of them is a real organisation.
const (
	NetworkName  = "dev.lacre"
	NotifiedBody = "notified-body"
	Manufacturer = "example-manufacturer"
	Gateway      = "gateway"
	Approval     = "approval"
	Authority    = "authority"          // the organisation that reads evidence
	EvidenceKey  = "authority.evidence" // in KeyPath: its X25519 key
)

// Node is one node of the network, as network.json shows it.
type Node = founding.Node

// Network is the content of network.json, and where it lies.
type Network struct {
	founding.Book
	Dir string `json:"-"`
}

// KeyPath is the file of an offline key: an organisation's, the notified
// body's or the manufacturer's.
func (n *Network) KeyPath(owner string) string {
	return filepath.Join(n.Dir, "keys", owner+".pem")
}

// NodeDir holds a node's keys, configuration and data.
func (n *Network) NodeDir(id string) string { return founding.NodeDir(n.Dir, id) }

// MeterDir holds a meter's key and outbox.
func (n *Network) MeterDir(id string) string { return filepath.Join(n.Dir, "meters", id) }

// TrustPath is the file of the trust bundle.
func (n *Network) TrustPath() string { return filepath.Join(n.Dir, founding.TrustFile) }

// Load reads the network in dir, a development network's or that of an
// organisation which joined one; fs.ErrNotExist when there is none.
func Load(dir string) (*Network, error) {
	b, err := founding.ReadBook(dir)
	if err != nil {
		return nil, err
	}
	return &Network{Book: *b, Dir: dir}, nil
}

// LoadOrCreate continues the network in dir, or makes one.
func LoadOrCreate(dir string, now time.Time) (n *Network, created bool, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, false, err
	}
	n, err = Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		n, err = Create(dir, DefaultShape(), now)
		return n, true, err
	}
	return n, false, err
}

// Package founding makes a network of separate organisations: each makes its own
// keys, all sign the same configuration offline, and each takes what was
// assembled and sets up its own nodes.
//
// Source: architecture, rules C6 (who signs a configuration, the arithmetic of
// its quorum), N1 (a role comes from the ledger, never from a CA), S4; house
// rules, "Genesis only by an explicit lacre init"; DSSE v1.0.0.
//
//	member file   what one organisation says of itself: a DSSE envelope over
//	              canonical JSON, signed by its root key and by every key in it
//	draft         the members and what the network shall be, unsigned: every
//	              statement of the genesis follows from its bytes
//	signature     the draft's configuration and the organisation's own
//	              registrations, as DSSE envelopes by its root key
//	genesis       the statements with everybody's signatures
//
// Invariants:
//   - Private keys are written once, mode 0600, and never read by anything that
//     opens a connection; nothing here opens one.
//   - Nothing is overwritten. What was half done is refused with a remedy.
//   - Who signs sees what follows from the draft's bytes, and signs just that.
//   - What a network is, is decided by core/state; this package adds that every
//     organisation signed, and that no key has two uses.
package founding

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// The files of a network's directory, and of an organisation's that joined it.
const (
	GenesisFile = "genesis"
	TrustFile   = "trust"
	BookFile    = "network.json"
	DraftFile   = "draft"
	caDir       = "ca"
)

// Node is one node of a network, as network.json shows it.
type Node struct {
	ID           string        `json:"id"`
	Organisation string        `json:"organisation"`
	Role         recordv1.Role `json:"role"`
	Address      string        `json:"address"`
	RaftAddress  string        `json:"raft_address,omitempty"`
	TilesAddress string        `json:"tiles_address,omitempty"` // of a replica that serves the log over HTTP; its operator's own business
	SPKI         string        `json:"spki"`
}

// Book is the content of network.json: who and where everybody is, without
// secrets.
type Book struct {
	Name      string `json:"name"`
	NetworkID string `json:"network_id"`
	Nodes     []Node `json:"nodes"` // ascending by id
}

// ByRole lists the nodes with a role, in order.
func (b *Book) ByRole(role recordv1.Role) []Node {
	var nodes []Node
	for _, node := range b.Nodes {
		if node.Role == role {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// Node finds a node by id.
func (b *Book) Node(id string) (Node, error) {
	for _, node := range b.Nodes {
		if node.ID == id {
			return node, nil
		}
	}
	return Node{}, fmt.Errorf("network %.80q has no node %q", b.Name, id)
}

// ReadBook reads the address book in dir; fs.ErrNotExist when there is none.
func ReadBook(dir string) (*Book, error) {
	path := filepath.Join(dir, BookFile)
	text, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := new(Book)
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

func (b *Book) encode() ([]byte, error) {
	text, err := json.MarshalIndent(b, "", "  ")
	return append(text, '\n'), err
}

// Where the parts of an organisation's directory are.
func rootKeyPath(dir, organisation string) string {
	return filepath.Join(dir, "keys", organisation+".pem")
}
func caKeyPath(dir, organisation string) string {
	return filepath.Join(dir, caDir, organisation+".pem")
}
func caPath(dir, organisation string) string { return filepath.Join(dir, caDir, organisation+".crt") }

// MemberPath is the member file of an organisation.
func MemberPath(dir, organisation string) string {
	return filepath.Join(dir, organisation+memberSuffix)
}

const memberSuffix = ".member"

// NodeDir holds a node's keys, configuration and data.
func NodeDir(dir, id string) string { return filepath.Join(dir, "nodes", id) }

// ConfigPath is a node's configuration.
func ConfigPath(dir, id string) string { return filepath.Join(NodeDir(dir, id), "config.yaml") }

// file is one file to be written.
type file struct {
	path    string
	content []byte
	mode    fs.FileMode
}

// maxFileBytes bounds every file that somebody else made: a replica reads no
// larger genesis.
const maxFileBytes = 16 << 20

// ReadFile reads a file of at most 16 MiB.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // opened for reading.
	text, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(text) > maxFileBytes {
		err = fmt.Errorf("%s: more than %d bytes", path, maxFileBytes)
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

// create writes files that must not exist, and the directories above them.
func create(files ...file) error {
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return err
		}
		if err := durable.CreateFile(f.path, f.content, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// standing lists what a directory holds; nothing when it is absent.
func standing(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

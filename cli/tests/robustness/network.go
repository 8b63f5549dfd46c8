package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/trust"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// left out of the development network: two endorsers are enough to satisfy the
// approval's policy, and one that dies is then missed.
const leftOut = "endorser-university"

// network is the nodes of a run as processes of the real programs, and the links
// between them.
type network struct {
	*devnet.Network
	bin, dir  string // of the programs; of the run
	networkID digest.Digest
	trust     *trust.Bundle
	verifier  *meter.Verifier
	processes map[string]*process
	links     []*link
	starter   starter
	meters    []*signer
	vectors   [][]byte // encoded, and how many samples each has
	samples   []int
}

// found makes a network, in which a module is approved and the meters are
// registered, and keeps it stopped as the template that each seed begins from.
func found(ctx context.Context, bin, dir string) (_ *network, err error) {
	n := &network{bin: bin, dir: dir, processes: make(map[string]*process)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.Network, _, err = devnet.LoadOrCreate(n.live(), time.Now()); err != nil {
		return nil, err
	}
	if n.networkID, err = digest.Parse(n.NetworkID); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(n.TrustPath())
	if err != nil {
		return nil, err
	}
	if n.trust, err = trust.Parse(text); err != nil {
		return nil, err
	}
	n.verifier = meter.NewVerifier(n.trust)
	for _, node := range n.Nodes {
		if node.ID != leftOut {
			n.processes[node.ID] = &process{node: node, network: n}
		}
	}
	if err := n.interpose(); err != nil {
		return nil, err
	}
	if err := n.startAll(ctx); err != nil {
		return nil, err
	}
	if err := n.prepare(ctx); err != nil {
		return nil, err
	}
	if err := n.stopAll(); err != nil {
		return nil, err
	}
	return n, copyTree(n.live(), n.template())
}

func (n *network) live() string     { return filepath.Join(n.dir, "net") }
func (n *network) template() string { return filepath.Join(n.dir, "template") }
func (n *network) logPath(id string) string {
	return filepath.Join(n.live(), "logs", id+".log")
}

// renew puts the template in the place of whatever the last seed left.
func (n *network) renew() error {
	if err := os.RemoveAll(n.live()); err != nil {
		return err
	}
	return copyTree(n.template(), n.live())
}

// copyTree copies a directory with its holes: a log's segment is 64 MiB of which
// little is written.
func copyTree(from, to string) error {
	out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput() //nolint:gosec,noctx // two directories of our own.
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w: %s", from, to, err, out)
	}
	return nil
}

// interpose puts a link between every two nodes: each node's configuration names
// the links instead of the other nodes.
func (n *network) interpose() error {
	for _, id := range n.ids() {
		path := filepath.Join(n.NodeDir(id), "config.yaml")
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(b)
		for _, to := range n.Nodes {
			if to.ID == id {
				continue
			}
			for _, address := range []string{to.Address, to.RaftAddress} {
				if address == "" || !strings.Contains(text, address) {
					continue
				}
				l, err := newLink(id, to.ID, address)
				if err != nil {
					return err
				}
				n.links = append(n.links, l)
				text = strings.ReplaceAll(text, address, l.address())
			}
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil { //nolint:gosec // a node of our own network.
			return err
		}
	}
	return nil
}

func (n *network) ids() []string { return slices.Sorted(maps.Keys(n.processes)) }

func (n *network) replicas() []string {
	var ids []string
	for _, r := range n.ByRole(recordv1.Role_ROLE_REPLICA) {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

func (n *network) nodes() nodes {
	replicas := n.replicas()
	others := slices.DeleteFunc(n.ids(), func(id string) bool { return slices.Contains(replicas, id) })
	return nodes{replicas: replicas, others: others}
}

// startAll starts what does not run, and waits until all are ready.
func (n *network) startAll(ctx context.Context) error {
	for _, id := range n.ids() {
		if p := n.processes[id]; !p.running() {
			if err := p.start(); err != nil {
				return err
			}
		}
	}
	return n.WaitReady(ctx, n.ids()...)
}

// stopAll ends all processes as an operator does, the replicas last.
func (n *network) stopAll() error {
	of := n.nodes()
	return errors.Join(n.stop(of.others), n.stop(of.replicas))
}

func (n *network) stop(ids []string) error {
	var failures []error
	for _, id := range ids {
		n.processes[id].terminate()
	}
	for _, id := range ids {
		failures = append(failures, n.processes[id].await())
	}
	return errors.Join(failures...)
}

// close ends everything at once.
func (n *network) close() error {
	var failures []error
	for _, p := range n.processes {
		p.kill()
	}
	for _, l := range n.links {
		failures = append(failures, l.close())
	}
	n.starter.close()
	return errors.Join(failures...)
}

// dial connects to a node past the links, as the public or a meter does.
func (n *network) dial(id string) (*grpc.ClientConn, error) { return n.Dial(id, nil) }

// archive opens a stopped replica's data.
func (n *network) archive(id string) (*ledger.Archive, error) {
	return ledger.OpenArchive(filepath.Join(n.NodeDir(id), "data"))
}

// programs are what runs a node, by role.
var programs = map[recordv1.Role]string{
	recordv1.Role_ROLE_REPLICA: "lacre-ledger", recordv1.Role_ROLE_ENDORSER: "lacre-compute",
	recordv1.Role_ROLE_GATEWAY: "lacre-ingest", recordv1.Role_ROLE_APPROVAL: "lacre-approval",
}

// program is the command that runs a node.
func (n *network) program(node devnet.Node) *exec.Cmd {
	path := filepath.Join(n.bin, programs[node.Role])
	return exec.Command(path, "-config", filepath.Join(n.NodeDir(node.ID), "config.yaml")) //nolint:gosec,noctx // our own program; it is ended by id, in order.
}

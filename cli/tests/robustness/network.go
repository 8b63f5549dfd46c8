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
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
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
	belief    atomic.Pointer[belief]
	toSpare   map[string]ledger.Peer // where each replica reaches the spare
	changing  atomic.Bool            // configurations may follow the trust bundle in this seed
	processes map[string]*process
	links     []*link
	starter   starter
	outages   outages
	meters    []*signer
	vectors   [][]byte // encoded, and how many samples each has
	samples   []int
}

// found makes a network, in which a module is approved and the meters are
// registered, and keeps it stopped as the template that each seed begins from.
func found(ctx context.Context, bin, dir string) (_ *network, err error) {
	n := &network{bin: bin, dir: dir, processes: make(map[string]*process), toSpare: make(map[string]ledger.Peer)}
	o := &operator{network: n, say: func(string, ...any) {}}
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
	if err := n.readTrust(); err != nil {
		return nil, err
	}
	if err := n.planSpare(ctx, o); err != nil {
		return nil, err
	}
	for _, node := range n.Nodes {
		if node.ID != leftOut {
			n.processes[node.ID] = &process{node: node, network: n, absent: node.ID == spare}
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
	if err := n.admit(ctx, o); err != nil {
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
	if err := copyTree(n.template(), n.live()); err != nil {
		return err
	}
	for id, p := range n.processes {
		p.renew(id == spare)
	}
	n.outages.forget()
	return n.readTrust()
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
				unknown := to.ID == spare && n.isReplica(id) // until an operator writes it down
				if address == "" || !unknown && !strings.Contains(text, address) {
					continue
				}
				l, err := newLink(id, to.ID, address)
				if err != nil {
					return err
				}
				l.outages = &n.outages
				n.links = append(n.links, l)
				if unknown {
					peer := n.toSpare[id]
					peer.NodeID, peer.SPKI = spare, to.SPKI
					if address == to.Address {
						peer.Address = l.address()
					} else {
						peer.RaftAddress = l.address()
					}
					n.toSpare[id] = peer
				}
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

// replicas are those that are, or were, of the network.
func (n *network) replicas() []string {
	return slices.DeleteFunc(n.everyReplica(), func(id string) bool { return !n.processes[id].here() })
}

// everyReplica is all that there can be.
func (n *network) everyReplica() []string {
	var ids []string
	for _, r := range n.ByRole(recordv1.Role_ROLE_REPLICA) {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

func (n *network) isReplica(id string) bool {
	return n.processes[id].node.Role == recordv1.Role_ROLE_REPLICA
}

// nodes are those that a schedule chooses from: the network as it was founded.
func (n *network) nodes() nodes {
	of := nodes{replicas: slices.DeleteFunc(n.everyReplica(), func(id string) bool { return id == spare })}
	for _, id := range n.ids() {
		if !n.isReplica(id) {
			of.others = append(of.others, id)
		}
	}
	return of
}

// startAll starts what does not run, and waits until all are ready.
func (n *network) startAll(ctx context.Context) error {
	var started []string
	for _, id := range n.ids() {
		p := n.processes[id]
		if p.gone() {
			continue
		}
		if err := p.start(); err != nil {
			return err
		}
		started = append(started, id)
	}
	return n.WaitReady(ctx, started...)
}

// stopAll ends all processes as an operator does, the replicas last.
func (n *network) stopAll() error {
	return errors.Join(n.stop(n.nodes().others), n.stop(n.replicas()))
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

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/config"
	"github.com/lacre-metrology/lacre/platform/loopback"
	"github.com/lacre-metrology/lacre/services/ledger"
)

// An organisation that joins the network before the first seed; its replica waits
// for a seed that changes the membership.
const (
	newcomer = "county"
	spare    = "replica-" + newcomer
)

func (n *network) newcomerDir() string { return filepath.Join(n.live(), newcomer) }
func (n *network) spareKey(name string) string {
	return filepath.Join(founding.NodeDir(n.newcomerDir(), spare), name+".pem")
}
func (n *network) spareMember() string { return founding.MemberPath(n.newcomerDir(), newcomer) }

// planSpare makes the newcomer's keys and the configuration of its replica, offline.
func (n *network) planSpare(ctx context.Context, o *operator) error {
	ports, err := loopback.Addresses(3)
	if err != nil {
		return err
	}
	_, raftPort, err := net.SplitHostPort(ports[1])
	if err != nil {
		return err
	}
	if _, err := o.lacre(ctx, "init", n.newcomerDir(), "--organisation", newcomer, "--replica", spare+"="+ports[0]+","+raftPort); err != nil {
		return err
	}
	m, _, err := founding.ReadMember(n.spareMember())
	if err != nil {
		return err
	}
	own := m.Nodes[0]
	replicas := n.ByRole(recordv1.Role_ROLE_REPLICA)
	var c ledger.Config
	if err := config.Load(founding.ConfigPath(n.live(), replicas[0].ID), &c); err != nil {
		return err
	}
	c.NodeID, c.DataDir = spare, filepath.Join(n.NodeDir(spare), "data")
	c.TLSKey, c.TLSCertificate, c.SigningKey = n.spareKey("tls"), "", n.spareKey("signing")
	c.CosignerKey, c.LogKey = n.spareKey("cosigner"), n.spareKey("log")
	c.Server.Listen, c.RaftListen, c.Admin.Listen, c.Tiles.Listen = own.Address, own.RaftAddress, ports[2], ""
	c.Peers = nil
	for _, r := range replicas {
		c.Peers = append(c.Peers, ledger.Peer{NodeID: r.ID, Address: r.Address, RaftAddress: r.RaftAddress})
	}
	if err := os.MkdirAll(n.NodeDir(spare), 0o700); err != nil {
		return err
	}
	if err := writeConfig(founding.ConfigPath(n.live(), spare), &c); err != nil {
		return err
	}
	n.Nodes = append(n.Nodes, devnet.Node{ID: spare, Organisation: newcomer, Role: recordv1.Role_ROLE_REPLICA, Address: own.Address, RaftAddress: own.RaftAddress, SPKI: own.SPKI})
	return nil
}

func writeConfig(path string, c *ledger.Config) error {
	text, err := config.Example(c)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// admit makes the newcomer an organisation of the network.
func (n *network) admit(ctx context.Context, o *operator) error {
	if err := o.trusted(ctx, 1); err != nil {
		return err
	}
	keys := append(o.roots(), filepath.Join(n.newcomerDir(), "keys", newcomer+".pem"))
	if err := o.record(ctx, keys, "network", "change", "draft", "--network", n.live(), "--configurations", n.configurations(),
		"--add-organisation", n.spareMember()); err != nil {
		return err
	}
	return o.trusted(ctx, 2)
}

// change changes the membership: the spare joins, leaves leaves, or both.
// With killed, the joining process dies at each of joinPoints first.
func (o *operator) change(ctx context.Context, what, leaves string, killed bool) error {
	n := o.network
	joins := what != "remove"
	if joins {
		if err := o.join(ctx); err != nil {
			return err
		}
		if killed {
			if err := o.joinKilled(ctx); err != nil {
				return err
			}
		}
		if err := n.processes[spare].begin(); err != nil {
			return err
		}
	}
	for _, step := range map[string][][2]string{
		"replace": {{spare, leaves}}, "add": {{spare, ""}}, "remove": {{"", leaves}}, "add-remove": {{spare, ""}, {"", leaves}},
	}[what] {
		draft := []string{"network", "change", "draft", "--network", n.live(), "--configurations", n.configurations()}
		keys := o.roots()
		if step[0] != "" {
			draft = append(draft, "--add-replica", n.spareMember())
			keys = append(keys, n.spareKey("cosigner"), n.spareKey("log"))
		}
		if step[1] != "" {
			draft = append(draft, "--remove-replica", step[1])
			n.processes[step[1]].leave()
		}
		epochs := len(n.trusted().Epochs())
		if err := o.record(ctx, keys, draft...); err != nil {
			return err
		}
		if err := o.trusted(ctx, epochs+1); err != nil {
			return err
		}
	}
	n.outages.end(member)
	if what == "add" {
		return nil
	}
	return o.retired(ctx, leaves)
}

// join has the spare known to the others, registered, and its directory begun.
func (o *operator) join(ctx context.Context) error {
	n := o.network
	for _, id := range n.nodes().replicas {
		err := o.peers(ctx, id, func(list []ledger.Peer) []ledger.Peer { return append(list, n.toSpare[id]) })
		if err != nil {
			return err
		}
	}
	keys := []string{filepath.Join(n.newcomerDir(), "keys", newcomer+".pem"), n.spareKey("signing")}
	if err := o.record(ctx, keys, "node", "register", n.spareMember(), "--network", n.live()); err != nil {
		return err
	}
	path := founding.ConfigPath(n.live(), spare)
	if _, err := o.lacre(ctx, "ledger", "join", path, "--network-id", n.NetworkID); err != nil {
		return err
	}
	o.say("operator: %s joins", spare)
	return nil
}

// joinPoints are steps of a replica's that joins: of the blocks that it fetches,
// then of the entries that it gets.
var joinPoints = []string{
	"before write", "after write", "before sync", "after sync", "before commit", "after commit", "before certify", "after commit",
	"after certify", "before append", "after logwrite", "before logsync", "after append", "before apply", "after apply",
}

// joinKilled lets the spare die at each of joinPoints, each time as a power cut
// would end it. What it holds then never gets less, and is sound.
func (o *operator) joinKilled(ctx context.Context) error {
	p := o.network.processes[spare]
	held := uint64(0)
	for _, point := range joinPoints {
		if err := p.doom("LACRE_FAULTS=" + point + " kill"); err != nil {
			return err
		}
		err := o.until(ctx, spare+" has died "+point, func(context.Context) error {
			if p.running() {
				return errors.New("it lives")
			}
			return nil
		})
		if err != nil {
			return err
		}
		archive, err := o.network.archive(spare)
		if err != nil {
			return fmt.Errorf("after its death %s: %w", point, err)
		}
		report, err := archive.Verify(ctx, nil)
		blocks := archive.Blocks()
		switch err := errors.Join(err, archive.Close()); {
		case err != nil:
			return fmt.Errorf("after its death %s: %w", point, err)
		case len(report.Problems) > 0:
			return fmt.Errorf("after its death %s: %s", point, report.Problems[0])
		case blocks < held:
			return fmt.Errorf("it held %d blocks, after its death %s %d", held, point, blocks)
		}
		o.say("operator: %s holds %d blocks", spare, blocks)
		held = blocks
	}
	return nil
}

// peers changes the addresses in a replica's configuration and has it read them
// again; one that does not run reads them when it starts.
func (o *operator) peers(ctx context.Context, id string, edit func([]ledger.Peer) []ledger.Peer) error {
	n := o.network
	path := founding.ConfigPath(n.live(), id)
	var c ledger.Config
	if err := config.Load(path, &c); err != nil {
		return err
	}
	c.Peers = edit(c.Peers)
	if err := writeConfig(path, &c); err != nil {
		return err
	}
	connection, err := n.dial(id)
	if err != nil {
		return err
	}
	defer connection.Close() //nolint:errcheck // everything was answered.
	return o.until(ctx, "the peers of "+id+" are read again", func(ctx context.Context) error {
		p := n.processes[id]
		if !p.running() {
			return nil
		}
		// Before it serves, it would end with the signal.
		call, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		if _, err := ledgerv1.NewLedgerServiceClient(connection).GetStatus(call, &ledgerv1.GetStatusRequest{}); err != nil {
			return err
		}
		p.signal(syscall.SIGHUP)
		return nil
	})
}

// retired waits until a replica that was removed has ended by itself, and wants it
// to end again when it is started again.
func (o *operator) retired(ctx context.Context, id string) error {
	p := o.network.processes[id]
	for times := range 2 {
		err := o.until(ctx, fmt.Sprintf("%s, which was removed, has ended %d times", id, times+1), func(context.Context) error {
			got := p.retirements()
			if got > times {
				return nil
			}
			err := fmt.Errorf("it ended %d times; it runs: %v", got, p.running())
			if times > 0 || p.isLost() { // nobody else starts it, also when a fault ends it before it has found out
				err = errors.Join(err, p.startAgain())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// current are the replicas that are to be of the network when all is done.
func (n *network) current() []string {
	return slices.DeleteFunc(n.replicas(), func(id string) bool { return n.processes[id].gone() })
}

// memberChange is what strike begins and load ends.
type memberChange struct {
	what string
	done chan struct{}
	err  error
}

// finished waits until a change of membership that was begun is through.
func (c *memberChange) finished(ctx context.Context) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return errors.Join(errors.New("it is not through"), context.Cause(ctx))
	}
}

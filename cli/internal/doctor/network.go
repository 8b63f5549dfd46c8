package doctor

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
)

// catchUpFactor gives the reading of the ledger more time than a question takes.
const catchUpFactor = 10

// contact is a node that can be asked over the network.
type contact struct {
	founding.Node
	connection  *grpc.ClientConn
	status      *ledgerv1.GetStatusResponse // of a replica that answered
	certificate *tlog.Certificate           // its newest, verified; nil otherwise
	door        door
}

// network asks every node that an address is known of.
func (x *examination) network(ctx context.Context) {
	contacts := x.contacts()
	defer func() {
		for _, c := range contacts {
			if c.connection != nil {
				_ = c.connection.Close() // nothing is on its way any more
			}
		}
	}()
	var replicas []*contact
	x.look(ctx, contacts)
	for _, c := range contacts {
		if c.Role == recordv1.Role_ROLE_REPLICA {
			x.status(c)
			replicas = append(replicas, c)
		}
	}
	snapshot := x.certified(ctx, replicas, x.keepsEvidence(contacts))
	peers := x.peers(contacts, snapshot)
	x.look(ctx, peers)
	for _, c := range peers {
		x.status(c)
		contacts, replicas = append(contacts, c), append(replicas, c)
	}
	for _, c := range contacts {
		x.port(c)
	}
	policy := x.policy(snapshot)
	for _, c := range replicas {
		x.checkpoint(ctx, c, policy)
	}
	x.consistency(ctx, replicas)
	x.standing(replicas, snapshot)
	x.standings = x.replicas(replicas)
	if snapshot != nil {
		for _, n := range x.nodes {
			x.registration(n, snapshot)
		}
		x.algorithms(ctx, contacts, snapshot)
		x.evidence(ctx, contacts)
	}
	x.operators(ctx)
}

// contacts are the nodes of the address book, and those that configurations
// name, each once by its address.
func (x *examination) contacts() []*contact {
	var list []*contact
	add := func(n founding.Node) {
		if n.Address != "" && n.SPKI != "" && !slices.ContainsFunc(list, func(c *contact) bool { return c.Address == n.Address }) {
			list = append(list, &contact{Node: n})
		}
	}
	for _, n := range x.book.nodes {
		add(n)
	}
	for _, n := range x.nodes {
		add(founding.Node{ID: n.ID, Role: n.Role, Address: dialable(n.server.Listen), SPKI: n.spki()})
		for _, r := range n.ledger.Replicas {
			add(founding.Node{ID: r.Address, Role: recordv1.Role_ROLE_REPLICA, Address: r.Address, SPKI: r.SPKI})
		}
	}
	return list
}

// peers are the replicas that only a replica's own configuration names: their TLS
// keys are on the ledger.
func (x *examination) peers(known []*contact, snapshot *follower.Snapshot) []*contact {
	var list []*contact
	if snapshot == nil {
		return nil
	}
	for _, n := range x.nodes {
		for _, p := range n.peers {
			same := func(c *contact) bool { return c.Address == p.Address }
			if slices.ContainsFunc(known, same) || slices.ContainsFunc(list, same) {
				continue
			}
			entry, err := state.GetNode(snapshot, p.NodeID)
			if err != nil || entry == nil {
				x.add(n.ID, "peers", Fail, "correct peers in the configuration, or register the node", "the certified ledger registers no peer %q", p.NodeID)
				continue
			}
			list = append(list, &contact{Node: founding.Node{ID: p.NodeID, Role: recordv1.Role_ROLE_REPLICA, Address: p.Address, SPKI: hex.EncodeToString(entry.GetTlsSpki())}})
		}
	}
	return list
}

// dialable is where a node on this machine answers that listens at an address.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return listen
}

func (c *contact) connect() {
	spki, err := digest.Parse(c.SPKI)
	if err != nil {
		return
	}
	c.connection, _ = rpcclient.Dial(c.Address, rpcclient.Options{ // without a connection the port's check says why
		Server: identity.Pin(identity.SPKI(spki)), Logger: slog.New(slog.DiscardHandler),
	})
}

// status takes a replica's answer into account.
func (x *examination) status(c *contact) {
	status := c.status
	if status == nil {
		return // the port's check says why
	}
	x.answered++
	if c.ID == c.Address {
		c.ID = status.GetNodeId() // its own word, for the report's sake
	}
	if id := hex.EncodeToString(status.GetNetworkId()); x.book.networkID == "" {
		x.book.networkID = id
	} else if id != x.book.networkID {
		x.add(c.ID, "network_id", Fail, networkRemedy, "the replica at %s is of network %s, the files name %s", c.Address, id, x.book.networkID)
	}
}

// certified reads the administrative state as a follower does; nil if it cannot.
func (x *examination) certified(ctx context.Context, replicas []*contact, evidence bool) *follower.Snapshot {
	const remedy = "see the items of the replicas; at least one must serve a certified ledger of this network"
	c := follower.Config{NetworkID: x.book.networkID}
	for _, r := range replicas {
		if r.status != nil {
			c.Replicas = append(c.Replicas, follower.Endpoint{Address: r.Address, SPKI: r.SPKI})
		}
	}
	if len(c.Replicas) == 0 {
		x.add(networkNode, "ledger", Skipped, "", "no replica answered; what the ledger says is not known")
		return nil
	}
	f, err := follower.New(c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		x.add(networkNode, "ledger", Fail, remedy, "%v", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpFactor*x.Timeout)
	defer cancel()
	ended := make(chan error, 1)
	following, stop := context.WithCancel(ctx)
	go func() { ended <- f.Run(following) }()
	err = f.CatchUp(ctx)
	snapshot, none := f.Snapshot()
	if none == nil && evidence {
		x.named, x.unread = namedPieces(ctx, f, snapshot)
	}
	stop()
	_, _ = <-ended, f.Close() // it was read from, and nothing more
	if err = errors.Join(err, none); err != nil && none != nil {
		x.add(networkNode, "ledger", Fail, remedy, "no certified state: %v", err)
		return nil
	}
	x.add(networkNode, "ledger", OK, "", "certified up to block %d, followed from the genesis block", snapshot.Head().Height)
	return snapshot
}

// policy is what certificates are verified by: the network directory's trust
// bundle, else the configuration that was followed from the genesis block.
func (x *examination) policy(snapshot *follower.Snapshot) *trust.Bundle {
	const remedy = "take the trust bundle from the network's directory, and compare its digest with one that you got in another way"
	var bundle *trust.Bundle
	var err error
	switch {
	case x.book.trustFile != "":
		var text []byte
		if text, err = os.ReadFile(x.book.trustFile); err == nil {
			bundle, err = trust.Parse(text)
		}
	case snapshot != nil:
		var p *tlog.Policy
		if p, err = state.PolicyOf(snapshot.Config().Message, snapshot.Config().NetworkID); err == nil {
			bundle, err = trust.New(trust.Epoch{Policy: p})
		}
	default:
		return nil
	}
	if !x.judge(networkNode, "trust", err, remedy, "trust bundle of %s", originOf(bundle)) {
		return nil
	}
	return bundle
}

func originOf(b *trust.Bundle) string {
	if b == nil {
		return ""
	}
	return b.Origin()
}

// checkpoint takes a replica's newest certificate and verifies it.
func (x *examination) checkpoint(ctx context.Context, c *contact, bundle *trust.Bundle) {
	const remedy = "do not trust this replica's answers: keep its data directory, and run `lacre audit` against it and against another one"
	if c.status == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, x.Timeout)
	defer cancel()
	response, err := ledgerv1.NewLedgerServiceClient(c.connection).GetCheckpoint(ctx, &ledgerv1.GetCheckpointRequest{})
	if err != nil {
		x.add(c.ID, "checkpoint", Warn, "wait until a quorum of replicas runs", "no certified checkpoint: %v", err)
		return
	}
	certificate, err := tlog.ParseCertificate(response.GetCertificate())
	if err == nil && bundle != nil {
		err = bundle.Check(signature.Direct{}, certificate)
	}
	if err != nil {
		x.add(c.ID, "checkpoint", Fail, remedy, "%v", err)
		return
	}
	if bundle == nil {
		x.add(c.ID, "checkpoint", Skipped, "", "height %d, not verified: there is no trust bundle", response.GetHeight())
		return
	}
	c.certificate = certificate
	x.add(c.ID, "checkpoint", OK, "", "height %d, tree size %d, root %s", response.GetHeight(), certificate.Checkpoint.Size, certificate.Checkpoint.Root.Short())
}

// consistency wants each two replicas that follow in size to show one tree.
func (x *examination) consistency(ctx context.Context, replicas []*contact) {
	const remedy = "a quorum signed two trees, or one replica's disk is not its own past: stop both, keep their directories, follow the data-loss runbook"
	var shown []*contact
	for _, c := range replicas {
		if c.certificate != nil {
			shown = append(shown, c)
		}
	}
	slices.SortStableFunc(shown, func(a, b *contact) int {
		return cmp.Compare(a.certificate.Checkpoint.Size, b.certificate.Checkpoint.Size)
	})
	for i := 1; i < len(shown); i++ {
		a, b := shown[i-1], shown[i]
		if err := x.consistent(ctx, a, b); err != nil {
			x.add(networkNode, "consistency", Fail, remedy, "replicas %s and %s: %v", a.ID, b.ID, err)
		} else {
			x.add(networkNode, "consistency", OK, "", "%s and %s show one tree", a.ID, b.ID)
		}
	}
}

func (x *examination) consistent(ctx context.Context, a, b *contact) error {
	from, to := a.certificate.Checkpoint, b.certificate.Checkpoint
	if from.Size == to.Size {
		if from.Root != to.Root {
			return fmt.Errorf("at size %d one has root %s, the other %s", from.Size, from.Root, to.Root)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, x.Timeout)
	defer cancel()
	response, err := ledgerv1.NewLedgerServiceClient(b.connection).GetConsistencyProof(ctx, &ledgerv1.GetConsistencyProofRequest{FromSize: from.Size, ToSize: to.Size})
	if err != nil {
		return fmt.Errorf("the larger one proves nothing from size %d to %d: %w", from.Size, to.Size, err)
	}
	path := make([]digest.Digest, len(response.GetProof()))
	for i, node := range response.GetProof() {
		if path[i], err = digest.FromBytes(node); err != nil {
			return err
		}
	}
	return tlog.VerifyConsistency(from.Size, to.Size, path, from.Root, to.Root)
}

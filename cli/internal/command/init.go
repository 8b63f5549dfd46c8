package command

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/serviceconfig"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// initialise is the command line of `init`.
type initialise struct {
	organisation                          string
	replicas, endorsers, gateways, fronts []string
	evidenceKey                           string
	network, networkID                    string
	admin                                 []string
}

func newInit(a *app) *cobra.Command {
	var i initialise
	c := a.reading(&cobra.Command{
		Use:   "init DIR",
		Short: "Make an organisation's keys; later, set up its nodes for the network",
		Long: `Works in two steps, before and after the network is founded.

First, with --organisation: makes the organisation's root key, its own CA, the
keys and certificates of the nodes that it will run, and its member file, which
goes to the others. Give each node as [ID=]HOST[:PORT], a replica as
[ID=]HOST[:PORT[,RAFTPORT]]; "lacre ports" lists the default ports. The member
file says where the others reach a node; it is signed by every key in it.

The CA is for other people's TLS tools. Within the network its word grants
nothing: a node's role comes from the ledger's registration of its key alone.

Then, with --network: verifies what "lacre network assemble" made, compares it
with the keys here, writes each node's configuration, and begins its replica's
ledger. The root key is not needed; keep it elsewhere.

Nothing is ever overwritten, and nothing is sent anywhere.`,
		Example: `  lacre init institute --organisation institute --replica ledger.institute.example --endorser compute.institute.example
  lacre init operator --organisation operator --replica 10.0.0.5 --endorser 10.0.0.5 --gateway meters.operator.example:443
  lacre init institute --network network --network-id HEX`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case (i.organisation == "") == (i.network == ""):
				return usage("one of --organisation ID (make its keys) and --network NETDIR (set up its nodes) is needed")
			case i.organisation != "":
				return a.runInitialise(&i, args[0])
			default:
				return a.runJoin(&i, args[0])
			}
		},
	})
	f := c.Flags()
	f.StringVar(&i.organisation, "organisation", "", "id of the organisation: a-z, 0-9, '-' and '.'")
	f.StringArrayVar(&i.replicas, "replica", nil, "a replica of the ledger that it runs: [ID=]HOST[:PORT[,RAFTPORT]] (repeat)")
	f.StringArrayVar(&i.endorsers, "endorser", nil, "an endorser that it runs: [ID=]HOST[:PORT] (repeat)")
	f.StringArrayVar(&i.gateways, "gateway", nil, "a gateway that it runs: [ID=]HOST[:PORT] (repeat)")
	f.StringArrayVar(&i.fronts, "approval", nil, "an approval service that it runs: [ID=]HOST[:PORT] (repeat)")
	f.StringVar(&i.evidenceKey, "evidence-key", "", "X25519 public key in hexadecimal (\"lacre evidence key\") to which meters seal what this organisation may read")
	f.StringVar(&i.network, "network", "", "directory that \"lacre network assemble\" wrote")
	f.StringVar(&i.networkID, "network-id", "", "with --network: the id that it must have, as \"lacre network sign\" printed it")
	f.StringArrayVar(&i.admin, "admin", nil, "with --network: ID=HOST:PORT, where a node's admin port listens, or ID= for none (default: loopback, the gRPC port + 2)")
	return c
}

func (a *app) runInitialise(i *initialise, dir string) error {
	if i.networkID != "" || len(i.admin) > 0 {
		return usage("--network-id and --admin go with --network")
	}
	plan, err := i.plan()
	if err != nil {
		return usage("%w", err)
	}
	if err := founding.CheckEmpty(dir); err != nil {
		return err
	}
	m, err := founding.Initialise(dir, plan, time.Now())
	if err != nil {
		return err
	}
	path := founding.MemberPath(dir, m.Organisation)
	a.say("hand on %s; keep keys/%s.pem offline: it signs for the organisation", path, m.Organisation)
	a.say("next: \"lacre network draft\" by one, \"lacre network sign\" by each, \"lacre network assemble\" by one, then \"lacre init %s --network NETDIR\"", dir)
	var b strings.Builder
	fmt.Fprintf(&b, "organisation  %s\nroot key      %x\nmember file   %s\n", m.Organisation, m.RootKey.Raw(), path)
	for _, n := range m.Nodes {
		fmt.Fprintf(&b, "  %-24s %-22s SPKI %s\n", n.ID, n.Address, n.SPKI)
	}
	return a.print(struct {
		*founding.Member
		Dir        string `json:"dir"`
		MemberFile string `json:"member_file"`
	}{m, dir, path}, b.String())
}

func (a *app) runJoin(i *initialise, dir string) error {
	if len(i.replicas)+len(i.endorsers)+len(i.gateways)+len(i.fronts) > 0 || i.evidenceKey != "" {
		return usage("which nodes there are was said with --organisation, and everybody signed it")
	}
	operator := make(founding.Admin)
	for _, text := range i.admin {
		id, listen, ok := strings.Cut(text, "=")
		if !ok {
			return usage("--admin is %q, want ID=HOST:PORT", text)
		}
		operator[id] = listen
	}
	book, report, err := founding.Join(dir, i.network, i.networkID, operator)
	if err != nil {
		if report != nil {
			a.say("%s", report.Text())
		}
		return err
	}
	if i.networkID == "" {
		a.say("the network's id was not compared with anything; is it the one that you signed?")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "network  %s\n         id %s\ntrust    digest %s\ngenesis  SHA-256 %s\n", book.Name, book.NetworkID, report.TrustDigest, report.GenesisDigest)
	type set struct {
		ID      string `json:"id"`
		Program string `json:"program"`
		Config  string `json:"config"`
	}
	here := []set{}
	for _, n := range book.Nodes {
		path := founding.ConfigPath(dir, n.ID)
		if _, err := os.Stat(path); err == nil {
			here = append(here, set{n.ID, programs[n.Role], path})
			fmt.Fprintf(&b, "  %s -config %s\n", programs[n.Role], path)
		}
	}
	return a.print(struct {
		*founding.Book
		TrustDigest   string `json:"trust_digest"`
		GenesisDigest string `json:"genesis_sha256"`
		Here          []set  `json:"here"` // the nodes that were set up
	}{book, report.TrustDigest, report.GenesisDigest, here}, b.String())
}

// programs run the nodes of a role.
var programs = map[recordv1.Role]string{
	recordv1.Role_ROLE_REPLICA: "lacre-ledger", recordv1.Role_ROLE_ENDORSER: "lacre-compute",
	recordv1.Role_ROLE_GATEWAY: "lacre-ingest", recordv1.Role_ROLE_APPROVAL: "lacre-approval",
}

// plan reads what is to be run.
func (i *initialise) plan() (founding.Plan, error) {
	p := founding.Plan{Organisation: i.organisation, EvidenceKey: founding.EvidenceKey(i.evidenceKey)}
	var failures []error
	for _, kind := range []struct {
		name, service string
		role          recordv1.Role
		given         []string
	}{
		{"replica", "ledger", recordv1.Role_ROLE_REPLICA, i.replicas}, {"endorser", "compute", recordv1.Role_ROLE_ENDORSER, i.endorsers},
		{"gateway", "ingest", recordv1.Role_ROLE_GATEWAY, i.gateways}, {"approval", "approval", recordv1.Role_ROLE_APPROVAL, i.fronts},
	} {
		for at, text := range kind.given {
			n := founding.PlannedNode{ID: kind.name + "-" + i.organisation, Role: kind.role}
			if at > 0 {
				n.ID = fmt.Sprintf("%s-%d", n.ID, at+1)
			}
			if err := place(&n, text, kind.service); err != nil {
				failures = append(failures, fmt.Errorf("--%s is %q: %w", kind.name, text, err))
			}
			p.Nodes = append(p.Nodes, n)
		}
	}
	if len(p.Nodes) == 0 {
		failures = append(failures, errors.New("an organisation runs at least one node: give --replica, --endorser, --gateway or --approval"))
	}
	return p, errors.Join(failures...)
}

// place reads [ID=]HOST[:PORT[,RAFTPORT]] into a node.
func place(n *founding.PlannedNode, text, service string) error {
	if id, rest, ok := strings.Cut(text, "="); ok {
		n.ID, text = id, rest
	}
	text, raftPort, hasRaft := strings.Cut(text, ",")
	replica := n.Role == recordv1.Role_ROLE_REPLICA
	if hasRaft && !replica {
		return errors.New("only a replica has a second port")
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil { // no port, or nonsense, which the address's own check names
		host, port = strings.Trim(text, "[]"), strconv.Itoa(serviceconfig.DefaultPort(service, "server.listen"))
	}
	if strings.ContainsAny(host, "/@ ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return fmt.Errorf("%q is no host", host)
	}
	n.Address = net.JoinHostPort(host, port)
	if !replica {
		return nil
	}
	if !hasRaft {
		raftPort = strconv.Itoa(serviceconfig.DefaultPort(service, "raft_listen"))
	}
	n.RaftAddress = net.JoinHostPort(host, raftPort)
	return nil
}

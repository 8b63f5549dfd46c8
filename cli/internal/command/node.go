package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

func newNode(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "node",
		Short: "Nodes of a founded network: make keys, register, renew TLS keys, revoke",
		Long: `An organisation decides alone which nodes it runs: its root key signs, and the
node's own key proves that it is held. "register", "renew-tls" and "revoke" write a
draft; "lacre network change sign" and "submit" do the rest. A replica that is
registered takes part in the quorum only when a configuration names it.`,
	}, newNodeNew(a), newNodeRegister(a), newNodeRenewTLS(a), newNodeRevoke(a))
}

func newNodeNew(a *app) *cobra.Command {
	var replicas, endorsers, gateways, fronts, replaces []string
	var key, network, networkID string
	c := a.reading(&cobra.Command{
		Use:   "new DIR",
		Short: "Make the keys of one more node of an organisation",
		Long: `Makes keys and certificate of a node in the organisation's directory, and its member
file, nodes/ID/ID.member, signed by the root key and by every key of the node.
"lacre node register", "lacre network change draft --add-replica" and, at all other
organisations, "lacre network learn" take it.

In a directory that is of a network it makes the node's configuration too, and
writes the node into network.json. On a new machine, where only the member file and
the keys of the organisation lie, it takes the network from --network: what "lacre
network assemble" wrote, and --network-id to compare it with. A node with the
address of one that is gone for good says which one it replaces.`,
		Example: `  lacre node new institute --key institute/keys/institute.pem --endorser second=compute2.institute.example
  lacre node new county --key county/keys/county.pem --replica replica-county=ledger.county.example
  lacre node new /var/lib/lacre --key institute.pem --replica replica-institute-2=ledger.institute.example --replaces replica-institute --network network --network-id HEX`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var planned []founding.PlannedNode
			for _, kind := range []struct {
				name, service string
				role          recordv1.Role
				given         []string
			}{
				{"replica", "ledger", recordv1.Role_ROLE_REPLICA, replicas}, {"endorser", "compute", recordv1.Role_ROLE_ENDORSER, endorsers},
				{"gateway", "ingest", recordv1.Role_ROLE_GATEWAY, gateways}, {"approval", "approval", recordv1.Role_ROLE_APPROVAL, fronts},
			} {
				for _, text := range kind.given {
					n := founding.PlannedNode{Role: kind.role}
					if err := place(&n, text, kind.service); err != nil {
						return usage("--%s is %q: %w", kind.name, text, err)
					}
					if n.ID == "" {
						return usage("--%s is %q: say the node's id, as in ID=HOST", kind.name, text)
					}
					planned = append(planned, n)
				}
			}
			if len(planned) != 1 || key == "" {
				return usage("one of --replica, --endorser, --gateway and --approval is needed, and --key FILE of the root key")
			}
			root, err := identity.ReadKey(key)
			if err != nil {
				return err
			}
			m, path, err := founding.AddNode(args[0], root, planned[0], time.Now())
			if err != nil {
				return err
			}
			n := m.Nodes[0]
			configuration, err := founding.Equip(args[0], network, networkID, m, replaces)
			if errors.Is(err, fs.ErrNotExist) && network == "" {
				a.say("%s is of no network yet: with --network it would get its configuration too", args[0])
			} else if err != nil {
				return fmt.Errorf("the keys and the member file %s are made, the configuration is not: %w", path, err)
			}
			text := fmt.Sprintf("node         %s of %s at %s\nSPKI         %s\nmember file  %s\n", n.ID, m.Organisation, n.Address, n.SPKI, path)
			if configuration != "" {
				text += "config       " + configuration + "\n"
			}
			return a.print(struct {
				*founding.Member
				MemberFile string `json:"member_file"`
				Config     string `json:"config,omitempty"`
			}{m, path, configuration}, text)
		},
	})
	f := c.Flags()
	f.StringVar(&key, "key", "", "file of the organisation's root key")
	f.StringVar(&network, "network", "", "directory that \"lacre network assemble\" wrote, where DIR is of no network yet")
	f.StringVar(&networkID, "network-id", "", "with --network: the id that it must have")
	f.StringArrayVar(&replaces, "replaces", nil, "a node that is gone for good, in whose place this one comes (repeat)")
	f.StringArrayVar(&replicas, "replica", nil, "a replica: ID=HOST[:PORT[,RAFTPORT]]")
	f.StringArrayVar(&endorsers, "endorser", nil, "an endorser: ID=HOST[:PORT]")
	f.StringArrayVar(&gateways, "gateway", nil, "a gateway: ID=HOST[:PORT]")
	f.StringArrayVar(&fronts, "approval", nil, "an approval service: ID=HOST[:PORT]")
	return c
}

// nodeDraft is what the commands that draft statements on a node share.
type nodeDraft struct {
	target
	networkID, predecessor, out string
	sequence                    uint64
}

func (d *nodeDraft) flags(c *cobra.Command) {
	d.target.flags(c)
	f := c.Flags()
	f.StringVar(&d.networkID, "network-id", "", "draft offline for this network, with --sequence and --predecessor")
	f.Uint64Var(&d.sequence, "sequence", 1, "with --network-id: number of the statement on this node")
	f.StringVar(&d.predecessor, "predecessor", "", "with --network-id: digest of the statement before it")
	f.StringVar(&d.out, "out", "", "file to write; must not exist")
}

// place is where the next statement on a node attaches.
func (d *nodeDraft) place(ctx context.Context, id string) (statement.Place, error) {
	if d.out == "" {
		return statement.Place{}, usage("--out FILE is needed")
	}
	if err := record.CheckID(id); err != nil {
		return statement.Place{}, usage("%w", err)
	}
	if d.networkID != "" {
		return offlinePlace(d.networkID, d.sequence, d.predecessor)
	}
	return d.placeOf(ctx, record.SubjectNode(id))
}

// nodeRegistration drafts from a member file's entry.
func (a *app) nodeRegistration(ctx context.Context, d *nodeDraft, path, id string) error {
	m, _, err := founding.ReadMember(path)
	if err != nil {
		return err
	}
	var entries []string
	for _, n := range m.Nodes {
		entries = append(entries, n.ID)
		if n.ID != id && (id != "" || len(m.Nodes) != 1) {
			continue
		}
		at, err := d.place(ctx, n.ID)
		if err != nil {
			return err
		}
		if at.Sequence > 1 {
			return fmt.Errorf("node %s is on the ledger already, with %d statements: \"lacre node renew-tls\" exchanges its TLS key", n.ID, at.Sequence-1)
		}
		signing, err := signature.NewKey(signature.Ed25519ZIP215, n.SigningKey.Raw())
		if err != nil {
			return err
		}
		spki, err := digest.Parse(n.SPKI)
		if err != nil {
			return err
		}
		e, err := a.createDraft(d.out, &recordv1.NodeRegistration{
			Header: at.Header(record.SubjectNode(n.ID), time.Now()), NodeId: n.ID, Organisation: m.Organisation,
			Role: recordv1.Role(n.Role), Key: signing.Bytes(), TlsSpki: spki.Bytes(),
		})
		if err != nil {
			return err
		}
		a.say("the root key of %s and the node's signing key sign it: \"lacre network change sign %s --key ROOT.pem --key nodes/%s/signing.pem\"", m.Organisation, d.out, n.ID)
		return a.printChange(e, nil)
	}
	return fmt.Errorf("%s has the nodes %s: say which, and one of them", path, strings.Join(entries, ", "))
}

func newNodeRegister(a *app) *cobra.Command {
	var d nodeDraft
	c := a.reading(&cobra.Command{
		Use:   "register MEMBERFILE [ID]",
		Short: "Draft the registration of a node from its member file",
		Long: `Drafts what makes a node's keys known to the network. The ledger takes it with the
signatures of its organisation's root key and of the node's own signing key.`,
		Example: `  lacre node register county/nodes/replica-county/replica-county.member --network institute --out register.json
  lacre network change sign register.json --key county/keys/county.pem --key county/nodes/replica-county/signing.pem --out register.dsse
  lacre network change submit register.dsse --network institute`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return exactly(1)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.nodeRegistration(c.Context(), &d, args[0], strings.Join(args[1:], ""))
		},
	})
	d.flags(c)
	return c
}

func newNodeRenewTLS(a *app) *cobra.Command {
	var d nodeDraft
	var certificate string
	c := a.reading(&cobra.Command{
		Use:   "renew-tls MEMBERFILE ID",
		Short: "Draft another TLS key of a registered node",
		Long: `A node keeps its organisation, role and signing key for life; only its TLS key can be
exchanged. Give the member file that it was registered from and the new TLS key:
its file, or its certificate. The node serves with the new key only after this is
certified, so restart it then.`,
		Example: `  lacre node renew-tls institute.member endorser-institute --tls-key new-tls.pem --network institute --out renew.json`,
		Args:    exactly(2),
		RunE: func(c *cobra.Command, args []string) error {
			if certificate == "" {
				return usage("--tls-key FILE is needed: the new key")
			}
			m, _, err := founding.ReadMember(args[0])
			if err != nil {
				return err
			}
			own, err := identity.Load(certificate)
			if err != nil {
				return err
			}
			at, err := d.place(c.Context(), args[1])
			if err != nil {
				return err
			}
			for _, n := range m.Nodes {
				if n.ID != args[1] {
					continue
				}
				signing, err := signature.NewKey(signature.Ed25519ZIP215, n.SigningKey.Raw())
				if err != nil {
					return err
				}
				spki := own.SPKI()
				e, err := a.createDraft(d.out, &recordv1.NodeRegistration{
					Header: at.Header(record.SubjectNode(n.ID), time.Now()), NodeId: n.ID, Organisation: m.Organisation,
					Role: recordv1.Role(n.Role), Key: signing.Bytes(), TlsSpki: spki[:],
				})
				if err != nil {
					return err
				}
				return a.printChange(e, nil)
			}
			return fmt.Errorf("%s has no node %s", args[0], args[1])
		},
	})
	d.flags(c)
	c.Flags().StringVar(&certificate, "tls-key", "", "file of the new TLS key (PKCS#8 PEM)")
	return c
}

func newNodeRevoke(a *app) *cobra.Command {
	var d nodeDraft
	var reason string
	c := a.reading(&cobra.Command{
		Use:   "revoke ID",
		Short: "Draft the revocation of a node: for good, from its block on",
		Long: `The organisation's root key signs it. A revoked id is never registered again. A
replica that is of the quorum leaves by a configuration first; then it is revoked.`,
		Example: `  lacre node revoke endorser-institute --reason "key was copied" --network institute --out revoke.json`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := d.place(c.Context(), args[0])
			if err != nil {
				return err
			}
			if at.Sequence == 1 {
				return errors.New("node " + args[0] + " is not registered")
			}
			e, err := a.createDraft(d.out, &recordv1.NodeRevocation{Header: at.Header(record.SubjectNode(args[0]), time.Now()), NodeId: args[0], Reason: reason})
			if err != nil {
				return err
			}
			return a.printChange(e, nil)
		},
	})
	d.flags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for whoever reads the ledger")
	return c
}

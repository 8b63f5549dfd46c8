package command

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/record"
	approvalv1 "github.com/lacre-metrology/lacre/gen/lacre/approval/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
)

// order is what an organisation signs about evidence.
type order struct {
	target
	organisation, key, passphraseFile, out string
}

func (o *order) flags(c *cobra.Command) {
	o.target.flags(c)
	c.Flags().StringVar(&o.organisation, "organisation", "", "id of the organisation that has the evidence key")
	c.Flags().StringVar(&o.key, "key", "", "file of its root key")
	c.Flags().StringVar(&o.passphraseFile, "passphrase-file", "", "file with the passphrase of an encrypted root key, mode 0600 (default: it is asked for)")
	c.Flags().StringVar(&o.out, "out", "", "write the signed statement here instead of submitting it (\"lacre approval submit\" does)")
}

// give drafts the next statement on a subject, signs it with the root key and
// whoever signs along, and submits it or writes it to a file.
func (o *order) give(ctx context.Context, a *app, subject string, draft func(*recordv1.StatementHeader) proto.Message, along ...crypto.Signer) error {
	root, err := statement.OpenKey(o.key, a.passphrase(o.key, o.passphraseFile))
	if err != nil {
		return err
	}
	return o.call(ctx, recordv1.Role_ROLE_APPROVAL, func(ctx context.Context, c grpc.ClientConnInterface) error {
		client := approvalv1.NewApprovalServiceClient(c)
		place, err := statement.PlaceOf(ctx, client, subject)
		if err != nil {
			return err
		}
		signed, err := record.NewStatement(draft(place.Header(subject, now())), append([]crypto.Signer{root}, along...)...)
		if err != nil {
			return err
		}
		if o.out != "" {
			file, err := signed.Encode()
			if err != nil {
				return err
			}
			return a.writeFile(o.out, append(file, '\n'))
		}
		answer, err := statement.Submit(ctx, client, signed)
		if err != nil {
			return err
		}
		return a.print(struct {
			Subject string `json:"subject"`
			Index   uint64 `json:"index"`
		}{subject, answer.GetIndex()}, fmt.Sprintf("recorded %s as leaf %d\n", subject, answer.GetIndex()))
	})
}

func newEvidenceErase(a *app) *cobra.Command {
	var o order
	var rule, public string
	c := a.reading(&cobra.Command{
		Use:   "erase DIGEST",
		Short: "Order that a piece of evidence be erased; the order stays on the ledger",
		Long: `Signs and submits the order with the organisation's root key. Once it is
certified the store removes the piece, and neither takes nor gives it again. The
digest stays in the sample's header, so receipts and bundles verify as before.

Whoever a piece is sealed to orders its erasure: --evidence-key names that key,
which is or was the organisation's ("lacre evidence key FILE" prints it). An order
for a piece that is sealed to another key stays on the ledger and removes nothing.`,
		Example: `  lacre evidence erase HEX --organisation authority --key keys/authority.pem --evidence-key HEX --rule "retention of two years is over"`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			piece, err := digest.Parse(args[0])
			if err != nil {
				return usage("%w", err)
			}
			if rule == "" {
				return usage("--rule is needed: the legal rule that demands or allows it")
			}
			key, err := hex.DecodeString(public)
			if err != nil || len(key) != evidence.KeySize {
				return usage("--evidence-key HEX is needed: the public key to which the piece is sealed")
			}
			return o.give(c.Context(), a, record.SubjectEvidence(piece), func(h *recordv1.StatementHeader) proto.Message {
				return &recordv1.EvidenceErasure{Header: h, Evidence: piece.Bytes(), Organisation: o.organisation, Rule: rule, EvidenceKey: key}
			})
		},
	})
	o.flags(c)
	c.Flags().StringVar(&public, "evidence-key", "", "public key to which the piece is sealed, in hexadecimal")
	c.Flags().StringVar(&rule, "rule", "", "the legal rule that demands or allows it; goes on the ledger")
	return c
}

func newEvidenceReader(a *app) *cobra.Command {
	var o order
	c := a.reading(&cobra.Command{
		Use:   "reader ID",
		Short: "Register a key under which an authority reads evidence",
		Long: `Makes the keys of a node in the network directory, and registers it with the
role authority, signed by the organisation's root key and its own. It runs no service: it is
the identity under which "lacre evidence get" asks.`,
		Example: `  lacre evidence reader reader --organisation authority --key keys/authority.pem`,
		Args:    exactly(1),
		RunE: func(c *cobra.Command, args []string) error {
			id := args[0]
			if err := record.CheckID(id); err != nil {
				return usage("%w", err)
			}
			n, err := o.required()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(n.NodeDir(id), 0o700); err != nil {
				return err
			}
			tlsFile, signingFile := filepath.Join(n.NodeDir(id), "tls.pem"), filepath.Join(n.NodeDir(id), "signing.pem")
			tls, err := identity.Generate(tlsFile)
			if err != nil {
				return err
			}
			signing, err := statement.GenerateKey(signingFile, statement.Ed25519)
			if err != nil {
				return err
			}
			registration, err := statement.Node(id, o.organisation, recordv1.Role_ROLE_AUTHORITY, signing.Public(), tls.SPKI())
			if err != nil {
				return err
			}
			err = o.give(c.Context(), a, record.SubjectNode(id), func(h *recordv1.StatementHeader) proto.Message {
				registration.Header = h
				return registration
			}, signing)
			if rpcerror.IsPermanent(err) { // no node has these keys: the next try makes its own
				err = errors.Join(err, os.Remove(tlsFile), os.Remove(signingFile))
			}
			return err
		},
	})
	o.flags(c)
	return c
}

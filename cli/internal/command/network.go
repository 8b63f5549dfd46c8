package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/platform/durable"
)

func newNetwork(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "network",
		Short: "Found a network of separate organisations, and change it",
		Long: `Each organisation makes its keys and its member file ("lacre init"). One of them
drafts the network of all member files; each signs the draft where its root key
lies; one assembles the signatures. Nobody needs to trust whoever drafts or
assembles: all that is signed follows from the draft, "sign" shows it, and
"verify" checks the result. No command up to there opens a connection; "wait",
"change", "expire" and "learn" are for a founded network.`,
	}, newNetworkDraft(a), newNetworkShow(a), newNetworkSign(a), newNetworkAssemble(a), newNetworkVerify(a), newNetworkWait(a), newNetworkChange(a), newNetworkExpire(a), newNetworkLearn(a))
}

// networkDraft is the command line of `network draft`.
type networkDraft struct {
	name, out                string
	quorum                   uint32
	bodies                   []string
	lateness, future         time.Duration
	maxMissing, maxUncertain uint32
}

func newNetworkDraft(a *app) *cobra.Command {
	var d networkDraft
	limits := founding.DefaultLimits()
	c := a.reading(&cobra.Command{
		Use:   "draft MEMBER...",
		Short: "Draft a network of the organisations' member files",
		Long: `Writes the draft that every organisation will sign: the member files as they are,
and what the network shall be. A notified body takes part with its public keys
alone ("lacre key new" makes one, "lacre key show" prints the public part); of
several, say after a colon how many must sign each of its statements. After an @
stands the organisation whose approval nodes act for it, if one does: endorsers
give a module that the body's approval withholds to these nodes alone.

The quorum must satisfy rule C6: with n replicas and F = floor((n-1)/3) that may
lie, 2q-n > F and q <= n-F. The default is the smallest, 2F+1 for n = 3F+1.`,
		Example: `  lacre network draft */*.member --name roads.example --notified-body inspection=HEX --out draft
  lacre network draft */*.member --name roads.example --notified-body inspection@authority=HEX,HEX,HEX:2 --out draft`,
		Args: atLeastOne,
		RunE: func(_ *cobra.Command, args []string) error { return a.runNetworkDraft(&d, args) },
	})
	f := c.Flags()
	f.StringVar(&d.name, "name", "", "the network's name, for ever: first part of the log's origin, such as roads.example")
	f.Uint32Var(&d.quorum, "quorum", 0, "cosignatures of a certificate (default: the smallest that rule C6 admits)")
	f.StringArrayVar(&d.bodies, "notified-body", nil, "ID=PUBLICKEY of a notified body, in hexadecimal; ID=PUBLICKEY,PUBLICKEY,..:M of which M must sign; ID@ORGANISATION=.. whose approval nodes act for it (repeat)")
	f.StringVar(&d.out, "out", "", "file to write; must not exist")
	f.DurationVar(&d.lateness, "lateness", time.Duration(limits.LatenessBoundNano), "a sample captured longer ago is recorded as late")
	f.DurationVar(&d.future, "future-bound", time.Duration(limits.FutureBoundNano), "how far a capture may lie after its block; at least 10s")
	f.Uint32Var(&d.maxMissing, "max-missing-ranges", limits.MaxMissingRanges, "gaps that a meter may leave open")
	f.Uint32Var(&d.maxUncertain, "max-uncertified-blocks", limits.MaxUncertifiedBlocks, "how far the ledger runs ahead of its certificates")
	return c
}

func (a *app) runNetworkDraft(d *networkDraft, members []string) error {
	if d.name == "" || len(d.bodies) == 0 || d.out == "" {
		return usage("--name, --notified-body and --out are needed")
	}
	terms := founding.Terms{Name: d.name, Quorum: d.quorum, IssuedAtUnixNano: time.Now().UnixNano(), Limits: founding.Limits{
		LatenessBoundNano: int64(d.lateness), FutureBoundNano: int64(d.future), MaxMissingRanges: d.maxMissing, MaxUncertifiedBlocks: d.maxUncertain,
	}}
	for _, text := range d.bodies {
		body, err := founding.ParseBody(text)
		if err != nil {
			return usage("--notified-body %.40s: %w", text, err)
		}
		terms.NotifiedBodies = append(terms.NotifiedBodies, body)
	}
	files := make([][]byte, len(members))
	replicas := 0
	var failures []error
	for i, path := range members {
		m, text, err := founding.ReadMember(path)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		replicas += m.Replicas()
		files[i] = text
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	if terms.Quorum == 0 {
		terms.Quorum = founding.DefaultQuorum(replicas)
	}
	draft, err := founding.NewDraft(terms, files...)
	if err != nil {
		return err
	}
	if err := a.createFile(d.out, draft.Bytes()); err != nil {
		return err
	}
	a.say("every organisation signs it: \"lacre network sign %s --key ROOT.pem --member ORGANISATION.member --out ORGANISATION.sig\"", d.out)
	return a.printDraft(draft)
}

// printDraft shows a draft.
func (a *app) printDraft(d *founding.Draft) error {
	return a.print(struct {
		NetworkID string             `json:"network_id"`
		Terms     founding.Terms     `json:"terms"`
		Members   []*founding.Member `json:"members"`
	}{d.NetworkID().String(), d.Terms, d.Members}, d.Text())
}

// createFile writes a new file, whole or not at all, that may be read by all.
func (a *app) createFile(path string, content []byte) error {
	if err := durable.CreateFile(path, content, 0o644); err != nil {
		return err
	}
	a.say("wrote %s (%d bytes)", path, len(content))
	return nil
}

func readNetworkDraft(path string) (*founding.Draft, error) {
	text, err := founding.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d, err := founding.ParseDraft(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func newNetworkShow(a *app) *cobra.Command {
	return a.reading(&cobra.Command{
		Use:     "show DRAFT",
		Short:   "Check a draft, and show what everybody will sign",
		Example: `  lacre network show draft`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := readNetworkDraft(args[0])
			if err != nil {
				return err
			}
			return a.printDraft(d)
		},
	})
}

func newNetworkSign(a *app) *cobra.Command {
	var key, member, out string
	c := a.reading(&cobra.Command{
		Use:   "sign DRAFT",
		Short: "Sign a draft for one organisation, offline, and show what was signed",
		Long: `Checks all of the draft, shows it, and signs with the organisation's root key: the
configuration, and the registrations of its own nodes. With --member it refuses
a draft whose entry for the organisation is not that file. Note the network's
id: it is what you compare everything with later. No connection is made.`,
		Example: `  lacre network sign draft --key keys/institute.pem --member institute.member --out institute.sig`,
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if key == "" || out == "" {
				return usage("--key FILE (the root key) and --out FILE are needed")
			}
			d, err := readNetworkDraft(args[0])
			if err != nil {
				return err
			}
			root, err := statement.ReadKey(key)
			if err != nil {
				return err
			}
			var own []byte
			if member != "" {
				if own, err = founding.ReadFile(member); err != nil {
					return err
				}
			}
			organisation, signed, err := founding.Sign(d, root, own)
			if err != nil {
				return err
			}
			if err := a.createFile(out, signed); err != nil {
				return err
			}
			if member == "" {
				a.say("the draft's entry for %s was compared with nothing: --member compares it with its own member file", organisation)
			}
			a.say("signed for %s. The network's id is %s: keep it", organisation, d.NetworkID())
			return a.printDraft(d)
		},
	})
	c.Flags().StringVar(&key, "key", "", "file of the organisation's root key")
	c.Flags().StringVar(&member, "member", "", "the organisation's own member file, which the draft must have")
	c.Flags().StringVar(&out, "out", "", "file to write; must not exist")
	return c
}

func newNetworkAssemble(a *app) *cobra.Command {
	var out string
	c := a.reading(&cobra.Command{
		Use:   "assemble DRAFT SIGNATURES...",
		Short: "Make the genesis, trust bundle and address book of a signed draft",
		Long: `Verifies every organisation's signatures on the draft, names all that are missing
or wrong, and writes the network's directory: genesis, trust, network.json, the
draft, and the CAs' certificates. All of it may be read by everybody.`,
		Example: `  lacre network assemble draft *.sig --out network`,
		Args:    atLeastOne,
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usage("--out DIR is needed")
			}
			d, err := readNetworkDraft(args[0])
			if err != nil {
				return err
			}
			var signatures []founding.Signatures
			for _, path := range args[1:] {
				text, err := founding.ReadFile(path)
				if err != nil {
					return err
				}
				signatures = append(signatures, founding.Signatures{Name: path, Text: text})
			}
			f, err := founding.Assemble(d, signatures...)
			if err != nil {
				return err
			}
			if err := f.Write(out); err != nil {
				return err
			}
			a.say("hand on all of %s; pin the trust bundle's digest, and compare the genesis with the others'", out)
			v := struct {
				Name          string `json:"name"`
				NetworkID     string `json:"network_id"`
				TrustDigest   string `json:"trust_digest"`
				GenesisDigest string `json:"genesis_sha256"`
				Dir           string `json:"dir"`
			}{d.Terms.Name, d.NetworkID().String(), f.Trust.Digest().String(), f.GenesisDigest().String(), out}
			return a.print(v, fmt.Sprintf("network  %s\n         id %s\ntrust    digest %s\ngenesis  SHA-256 %s\n", v.Name, v.NetworkID, v.TrustDigest, v.GenesisDigest))
		},
	})
	c.Flags().StringVar(&out, "out", "", "directory to write; must be empty or absent")
	return c
}

func newNetworkVerify(a *app) *cobra.Command {
	var networkID string
	c := a.reading(&cobra.Command{
		Use:   "verify DIR|GENESIS",
		Short: "Check a network's genesis, and the files beside it",
		Long: `Replays the genesis through the ledger's own transition, checks that every
organisation signed and that no key has two uses, and that trust bundle, draft
and address book are what follows. Which network it is, only the id tells that
you know from elsewhere: without --network-id that check is undecidable.`,
		Example: `  lacre network verify network --network-id HEX
  lacre network verify institute/genesis --json`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if networkID != "" {
				if _, err := digest.Parse(networkID); err != nil {
					return usage("--network-id: %w", err)
				}
			}
			files, err := founding.ReadFiles(args[0])
			if err != nil {
				return err
			}
			r := founding.Verify(files, networkID)
			if err := a.print(r, r.Text()); err != nil {
				return err
			}
			switch r.Verdict {
			case receipt.Verified:
				return nil
			case receipt.Refuted:
				return exit(ExitRefuted)
			default:
				return exit(ExitUndecidable)
			}
		},
	})
	c.Flags().StringVar(&networkID, "network-id", "", "the network's id, as \"lacre network sign\" printed it")
	return c
}

func newNetworkWait(a *app) *cobra.Command {
	var timeout time.Duration
	c := a.reading(&cobra.Command{
		Use:   "wait DIR [NODE...]",
		Short: "Wait until nodes say that they are ready",
		Long: `Asks every node of network.json, or those named, until each answers its health
check as serving. It is for scripts that start nodes.`,
		Example: `  lacre network wait institute
  lacre network wait institute replica-institute --timeout 10s`,
		Args: atLeastOne,
		RunE: func(c *cobra.Command, args []string) error {
			n, err := devnet.Load(args[0])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			began := time.Now()
			if err := n.WaitReady(ctx, args[1:]...); err != nil {
				return err
			}
			v := struct {
				Ready   bool    `json:"ready"`
				Seconds float64 `json:"seconds"`
			}{true, time.Since(began).Seconds()}
			return a.print(v, "ready\n")
		},
	})
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	return c
}

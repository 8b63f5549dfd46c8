package command

import (
	"context"
	"crypto"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
)

// approvalSign is the command line of `approval sign`.
type approvalSign struct {
	signing
	judging
	digest, out string
}

func newApprovalSign(a *app) *cobra.Command {
	var s approvalSign
	c := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a draft, offline",
		Long: `Shows all that a draft says (of an approval, a meter's registration, a status),
wants its digest, and adds signatures to it as a DSSE envelope. A file that is
signed already gets one more signature, so that it travels: the notified body's
people and the manufacturer each sign where their key lies.

With the network's genesis, a key that may not sign is refused, and who is still
missing is named: by the configuration that founded the network, or that "lacre
trust update" last kept in its directory, without any connection. With --follow it
is the configuration in force, read from the certified ledger, which knows also a
meter's old key; the output says which one it was.`,
		Example: `  lacre approval sign approval.json --key notified-body.pem --genesis genesis --out half.dsse
  lacre approval sign approval.json --key notified-body.pem --network network --follow --out half.dsse
  lacre approval sign half.dsse --signer 'pkcs11-signer --slot 0' --digest HEX --out approval.dsse`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runSign(c.Context(), &s, args[0]) },
	}
	s.signing.flags(c)
	s.judging.flags(c)
	f := c.Flags()
	f.StringVar(&s.digest, "digest", "", "the statement's digest, as you know it from elsewhere (default: it is asked for)")
	f.StringVar(&s.out, "out", "", "file to write (default: stdout)")
	return c
}

func (a *app) runSign(ctx context.Context, s *approvalSign, file string) error {
	if len(s.keys)+len(s.programs) == 0 {
		return usage("--key FILE or --signer COMMAND is needed: who signs")
	}
	e, err := readDraft(file)
	if err != nil {
		return err
	}
	text, err := statement.Text(e)
	if err != nil {
		return err
	}
	judge, err := s.judge(ctx, e)
	if err != nil {
		return err
	}
	a.say("%s", strings.TrimRight(text, "\n"))
	if err := a.confirm(s.digest, e.Digest().String()); err != nil {
		return err
	}
	err = s.each(ctx, a, func(name string, signer crypto.Signer) error {
		key, err := statement.VerifierKey(signer.Public())
		if err != nil {
			return err
		}
		if err := e.Sign(signer, key.Kind()); err != nil {
			return fmt.Errorf("sign with %s: %w", name, err)
		}
		if err := e.Verify(signature.Direct{}, key); err != nil {
			return fmt.Errorf("%s gave a signature that is none: %w", name, err)
		}
		if judge == nil {
			return nil
		}
		if _, err := judge.parties(e); err != nil {
			return fmt.Errorf("%s: %w (by %s)", name, err, judge.by())
		}
		return nil
	})
	if err != nil {
		return err
	}
	signed, err := e.Encode()
	if err != nil {
		return err
	}
	a.say("statement %s has %d signatures", e.Digest(), len(e.Signatures))
	if err := a.sayMissing(judge, e); err != nil {
		return err
	}
	return a.writeFile(s.out, signed)
}

// sayMissing tells who must still sign.
func (a *app) sayMissing(judge *judge, e *envelope.Envelope) error {
	if judge == nil {
		a.say("whether these keys may sign it was not checked: give --genesis FILE of the network")
		return nil
	}
	parties, err := judge.parties(e)
	if err != nil {
		return err
	}
	a.say("judged by %s", judge.by())
	missing := 0
	for _, p := range parties {
		missing += p.Missing
		note := "complete"
		if p.Missing > 0 {
			note = fmt.Sprintf("%d missing, of %d keys that may sign", p.Missing, len(p.Keys))
		}
		a.say("  %s: %d signed, %s", p.Who, p.Signed, note)
	}
	if missing == 0 {
		family := "approval"
		switch e.PayloadType {
		case record.TypeNetworkConfig, record.TypeNodeRegistration, record.TypeNodeRevocation:
			family = "network change"
		}
		a.say("nobody is missing: \"lacre %s submit\" hands it in", family)
	}
	return nil
}

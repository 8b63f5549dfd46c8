package command

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// approvalSign is the command line of `approval sign`.
type approvalSign struct {
	signing
	digest, genesis, network, out string
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
missing is named. It speaks of the configuration that founded the network; the
ledger judges by the one in force. No connection is made.`,
		Example: `  lacre approval sign approval.json --key notified-body.pem --genesis genesis --out half.dsse
  lacre approval sign half.dsse --signer 'pkcs11-signer --slot 0' --digest HEX --out approval.dsse`,
		Args: exactly(1),
		RunE: func(c *cobra.Command, args []string) error { return a.runSign(c.Context(), &s, args[0]) },
	}
	s.flags(c)
	f := c.Flags()
	f.StringVar(&s.digest, "digest", "", "the statement's digest, as you know it from elsewhere (default: it is asked for)")
	f.StringVar(&s.genesis, "genesis", "", "file of the network's genesis, which names the keys that may sign")
	f.StringVar(&s.network, "network", "", "directory of a network whose genesis is used; default "+defaultNetworkDir+" if it is the statement's network")
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
	config, err := s.config(e)
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
		if config == nil {
			return nil
		}
		if _, err := state.Parties(config, e); err != nil {
			return fmt.Errorf("%s: %w", name, err)
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
	if err := a.sayMissing(config, e); err != nil {
		return err
	}
	return a.writeFile(s.out, signed)
}

// sayMissing tells who must still sign.
func (a *app) sayMissing(config *state.Config, e *envelope.Envelope) error {
	if config == nil {
		a.say("whether these keys may sign it was not checked: give --genesis FILE of the network")
		return nil
	}
	parties, err := state.Parties(config, e)
	if err != nil {
		return err
	}
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
		a.say("nobody is missing: \"lacre approval submit\" hands it in")
	}
	return nil
}

// config is what the genesis founds; nil without one. The default directory
// counts only if it is of the statement's network.
func (s *approvalSign) config(e *envelope.Envelope) (*state.Config, error) {
	path, explicit := s.genesis, true
	if path == "" {
		dir := s.network
		if dir == "" {
			dir, explicit = defaultNetworkDir, false
		}
		path = filepath.Join(dir, founding.GenesisFile)
	}
	text, err := founding.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !explicit {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	genesis := new(recordv1.Genesis)
	if err := record.Decode(text, len(text), genesis); err != nil {
		return nil, fmt.Errorf("%s is no genesis: %w", path, err)
	}
	config, err := state.GenesisConfig(genesis)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	_, err = state.Parties(config, e)
	switch why := reason.Of(err); {
	case why == reason.WrongNetwork && !explicit, why == reason.UnknownMeter: // a rollover's old key stands on the ledger alone
		return nil, nil
	case err != nil:
		return nil, err
	}
	return config, nil
}

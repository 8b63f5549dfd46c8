package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
)

func newApprovalSign(a *app) *cobra.Command {
	var keys []string
	var out string
	c := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a draft, offline",
		Long: `Signs a draft (of an approval, or of a meter's registration) as a DSSE envelope.
A file that is signed already gets one more signature, so that notified body and
manufacturer can each sign where their key lies. No connection is made.`,
		Example: `  lacre approval sign approval.json --key notified-body.pem --out half.dsse
  lacre approval sign half.dsse --key manufacturer.pem --out approval.dsse`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(keys) == 0 {
				return usage("--key is needed: the file of the signer's private key")
			}
			e, err := readDraft(args[0])
			if err != nil {
				return err
			}
			for _, file := range keys {
				signer, err := statement.ReadKey(file)
				if err != nil {
					return err
				}
				key, err := statement.VerifierKey(signer.Public())
				if err != nil {
					return err
				}
				if err := e.Sign(signer, key.Kind()); err != nil {
					return fmt.Errorf("sign with %s: %w", file, err)
				}
			}
			signed, err := e.Encode()
			if err != nil {
				return err
			}
			a.say("statement %s has %d signatures", e.Digest(), len(e.Signatures))
			return a.writeFile(out, signed)
		},
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "file of a signer's private key (repeat)")
	c.Flags().StringVar(&out, "out", "", "file to write (default: stdout)")
	return c
}

package command

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
)

func newKey(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "key",
		Short: "Keys that sign statements and connections",
	}, newKeyNew(a), newKeyShow(a))
}

func newKeyNew(a *app) *cobra.Command {
	var kind, passphraseFile string
	var encrypt bool
	c := a.reading(&cobra.Command{
		Use:   "new FILE",
		Short: "Make a private key in a new file, and print its public key",
		Long: `Makes a private key (PKCS#8 in PEM, mode 0600) and prints the public key. An
existing file is never overwritten. Nothing is sent anywhere. --encrypt encrypts
the file under a passphrase, asked for or from --passphrase-file, as an armoured
age file: for keys that sign statements; nodes and meters read theirs unattended.`,
		Example: `  lacre key new notified-body.age --encrypt
  lacre key new meter.pem --kind p256`,
		Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if k := statement.KeyKind(kind); k != statement.Ed25519 && k != statement.P256 {
				return usage("--kind is %q, want %q or %q", kind, statement.Ed25519, statement.P256)
			}
			if passphraseFile != "" && !encrypt {
				return usage("--passphrase-file without --encrypt")
			}
			key, err := a.generateKey(args[0], statement.KeyKind(kind), encrypt, passphraseFile)
			if err != nil {
				return err
			}
			return a.printKey(args[0], key.Public())
		},
	})
	c.Flags().StringVar(&kind, "kind", string(statement.Ed25519), "ed25519, or p256 as secure elements and TPMs offer")
	c.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt the file under a passphrase")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase, mode 0600 (default: it is asked for, twice)")
	return c
}

func (a *app) generateKey(path string, kind statement.KeyKind, encrypt bool, passphraseFile string) (crypto.Signer, error) {
	if !encrypt {
		return statement.GenerateKey(path, kind)
	}
	secret, err := a.newPassphrase(path, passphraseFile)
	if err != nil {
		return nil, err
	}
	return statement.GenerateEncryptedKey(path, kind, secret)
}

// newPassphrase reads the passphrase of a new key from a file, or asks twice.
func (a *app) newPassphrase(path, file string) (string, error) {
	secret, err := a.passphrase(path, file)()
	if err != nil {
		return "", err
	}
	if len(secret) < statement.MinPassphrase { // before it is asked for again; an empty one would mean none
		return "", fmt.Errorf("%w: a passphrase of %d bytes, want at least %d", statement.ErrPassphrase, len(secret), statement.MinPassphrase)
	}
	if file == "" {
		again, err := a.askPassphrase("the same again")
		if err != nil {
			return "", err
		}
		if again != secret {
			return "", usage("the two passphrases differ")
		}
	}
	return secret, nil
}

func newKeyShow(a *app) *cobra.Command {
	var passphraseFile, program string
	c := a.reading(&cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the public key of a private key's file, or of a key that a program holds",
		Example: `  lacre key show meter.pem
  lacre key show --signer 'pkcs11-signer.sh MODULE TOKEN 01'`,
		Args: func(c *cobra.Command, args []string) error {
			if program != "" {
				return exactly(0)(c, args)
			}
			return exactly(1)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if program != "" {
				external, err := statement.StartExternal(c.Context(), program, a.err)
				if err != nil {
					return err
				}
				return errors.Join(a.printKey(program, external.Public()), external.Close())
			}
			key, err := statement.OpenKey(args[0], a.passphrase(args[0], passphraseFile))
			if err != nil {
				return err
			}
			return a.printKey(args[0], key.Public())
		},
	})
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "file with the passphrase of an encrypted key, mode 0600 (default: it is asked for)")
	c.Flags().StringVar(&program, "signer", "", "command line of a program that holds the key, instead of FILE (docs/adr/0009)")
	return c
}

func (a *app) printKey(file string, public crypto.PublicKey) error {
	key, err := statement.VerifierKey(public)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	spki := sha256.Sum256(der)
	v := struct {
		File      string `json:"file"`
		Kind      string `json:"kind"`
		PublicKey string `json:"public_key"` // raw bytes in hexadecimal
		SPKI      string `json:"spki_sha256"`
	}{file, key.Kind().String(), hex.EncodeToString(key.Raw()), hex.EncodeToString(spki[:])}
	return a.print(v, fmt.Sprintf("file        %s\nkind        %s\npublic key  %s\nSPKI digest %s\n", v.File, v.Kind, v.PublicKey, v.SPKI))
}

package command

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
)

// signing says with what a command signs: key files, of which some may be
// encrypted, and programs that hold keys elsewhere.
type signing struct {
	keys           []string
	passphraseFile string
	programs       []string
}

func (s *signing) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&s.keys, "key", nil, "file of a signer's private key (repeat)")
	f.StringVar(&s.passphraseFile, "passphrase-file", "", "file with the passphrase of encrypted keys, mode 0600 (default: it is asked for)")
	f.StringArrayVar(&s.programs, "signer", nil, "command line of a program that holds a key elsewhere, such as in an HSM (docs/adr/0009; repeat)")
}

// each opens the signers one after another, and closes each again.
func (s *signing) each(ctx context.Context, a *app, use func(name string, signer crypto.Signer) error) error {
	if len(s.keys)+len(s.programs) == 0 {
		return usage("--key FILE or --signer COMMAND is needed: who signs")
	}
	for _, file := range s.keys {
		key, err := statement.OpenKey(file, a.passphrase(file, s.passphraseFile))
		if err != nil {
			return err
		}
		if err := use(file, key); err != nil {
			return err
		}
	}
	for _, command := range s.programs {
		external, err := statement.StartExternal(ctx, command, a.err)
		if err != nil {
			return err
		}
		if err := errors.Join(use(command, external), external.Close()); err != nil {
			return err
		}
	}
	return nil
}

// passphrase reads it from a file, or else from the terminal.
func (a *app) passphrase(key, file string) func() (string, error) {
	return func() (string, error) {
		if file != "" {
			text, err := statement.ReadSecret(file)
			return strings.TrimRight(string(text), "\r\n"), err
		}
		return a.askPassphrase("passphrase of " + key)
	}
}

// askPassphrase asks on the terminal, without an echo.
func (a *app) askPassphrase(prompt string) (string, error) {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", usage("no terminal to ask for the %s: give --passphrase-file FILE", prompt)
	}
	fmt.Fprintf(a.err, "%s: ", plain(prompt)) //nolint:errcheck // the answer is still read.
	secret, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(a.err) //nolint:errcheck // as above.
	return string(secret), err
}

// confirm wants the digest of what is signed: from the command line, or typed by
// whoever has read the text.
func (a *app) confirm(given, digest string) error {
	if given == "" {
		fmt.Fprintf(a.err, "\nIt has the digest\n  %s\nType the digest that you were given, by another way than this file, to sign: ", digest) //nolint:errcheck // the answer is still read.
		line, err := bufio.NewReader(io.LimitReader(a.in, 256)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if given = strings.TrimSpace(line); given == "" {
			return usage("nothing is signed without the statement's digest: type it, or give --digest HEX")
		}
	}
	if given != digest {
		return &exitError{code: ExitRefuted, err: fmt.Errorf("the statement has the digest %s, and %.80q was given: this is not what you meant to sign", digest, given)}
	}
	return nil
}

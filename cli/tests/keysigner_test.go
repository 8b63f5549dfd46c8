package tests

import (
	"bufio"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/signature"
)

// keysigner is a program for `--signer` (docs/adr/0009) that signs with the key
// of a file. With a second argument its signatures are wrong.
func keysigner() {
	fail := func(err error) {
		fmt.Printf("error %v\n", err)
		os.Exit(1) //nolint:forbidigo // this is the main of the process that a script starts.
	}
	key, err := statement.ReadKey(os.Args[1])
	if err != nil {
		fail(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		if word == "key" {
			der, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				fail(err)
			}
			fmt.Println("key " + base64.StdEncoding.EncodeToString(der))
			continue
		}
		what, text, _ := strings.Cut(rest, " ")
		message, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			fail(err)
		}
		sig, err := sign(key, what, message)
		if err != nil {
			fail(err)
		}
		if len(os.Args) > 2 {
			sig[10] ^= 1
		}
		fmt.Println("signature " + base64.StdEncoding.EncodeToString(sig))
	}
}

// sign gives 64 bytes for both kinds of key, as PKCS#11 does.
func sign(key crypto.Signer, what string, message []byte) ([]byte, error) {
	if what == "message" {
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	return signature.Sign(digested{key, message}, signature.P256, nil)
}

// digested signs a digest that it was given, whatever it is asked to sign.
type digested struct {
	crypto.Signer
	digest []byte
}

func (d digested) Sign(r io.Reader, _ []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.Signer.Sign(r, d.digest, opts)
}

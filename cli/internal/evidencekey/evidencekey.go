// Package evidencekey keeps the private key with which an authority opens sealed
// evidence: X25519 in PKCS#8 PEM (RFC 8410), in a file of mode 0600, encrypted
// under a passphrase or not. It belongs where the root key is, offline; no node
// needs it.
package evidencekey

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/platform/durable"
)

const pemType = "PRIVATE KEY"

// Generate makes a key; an existing file is never overwritten. With a passphrase
// the file is encrypted (an armoured age file), and never on disk otherwise.
func Generate(path, passphrase string) (*ecdh.PrivateKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	if passphrase != "" {
		if text, err = statement.Encrypt(text, passphrase); err != nil {
			return nil, err
		}
	}
	return key, durable.CreateFile(path, text, 0o600)
}

// Open reads what Generate wrote, from a file that neither group nor others may
// read; it asks for the passphrase of an encrypted one. Errors are
// statement.ErrKeyFile, statement.ErrPassphrase, or passphrase's.
func Open(path string, passphrase func() (string, error)) (*ecdh.PrivateKey, error) {
	parsed, err := statement.OpenPKCS8(path, passphrase)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdh.PrivateKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return nil, fmt.Errorf("%w: %s holds a %T, want X25519", statement.ErrKeyFile, path, parsed)
	}
	return key, nil
}

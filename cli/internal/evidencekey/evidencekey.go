// Package evidencekey keeps the private key with which an authority opens sealed
// evidence: X25519 in PKCS#8 PEM (RFC 8410), in a file of mode 0600. It belongs
// where the root key is, offline; no node needs it.
package evidencekey

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/identity"
)

const pemType = "PRIVATE KEY"

// Generate makes a key; an existing file is never overwritten.
func Generate(path string) (*ecdh.PrivateKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, durable.CreateFile(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600)
}

// Read reads what Generate wrote, from a file that neither group nor others may
// read; otherwise identity.ErrKeyFile.
func Read(path string) (*ecdh.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, required is 0600 or stricter", identity.ErrKeyFile, path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: %s is not one PEM block %q", identity.ErrKeyFile, path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", identity.ErrKeyFile, path, err)
	}
	key, ok := parsed.(*ecdh.PrivateKey)
	if !ok || key.Curve() != ecdh.X25519() {
		return nil, fmt.Errorf("%w: %s holds a %T, want X25519", identity.ErrKeyFile, path, parsed)
	}
	return key, nil
}

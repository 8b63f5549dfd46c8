package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
	ascii "filippo.io/age/armor" //nolint:misspell // the package is called so.

	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// KeyKind is what a meter may sign with.
type KeyKind string

// The kinds of meter keys (rule B3).
const (
	Ed25519 KeyKind = "ed25519"
	P256    KeyKind = "p256" // what secure elements and TPMs offer
)

// MinPassphrase is the shortest passphrase of a new key file, in bytes.
const MinPassphrase = 12

// GenerateKey makes a private key in a file that nobody else may read (PKCS#8
// PEM, mode 0600). An existing file is never overwritten.
func GenerateKey(path string, kind KeyKind) (crypto.Signer, error) {
	key, text, err := generate(kind)
	if err != nil {
		return nil, err
	}
	return key, durable.CreateFile(path, text, 0o600)
}

// GenerateEncryptedKey is GenerateKey with the PEM encrypted under a passphrase:
// an armoured age file (scrypt), which `age -d` opens too.
func GenerateEncryptedKey(path string, kind KeyKind, passphrase string) (crypto.Signer, error) {
	key, text, err := generate(kind)
	if err != nil {
		return nil, err
	}
	file, err := Encrypt(text, passphrase)
	if err != nil {
		return nil, err
	}
	return key, durable.CreateFile(path, file, 0o600)
}

// Encrypt encrypts a small secret under a passphrase: an armoured age file.
func Encrypt(text []byte, passphrase string) ([]byte, error) {
	if len(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("%w: a passphrase of %d bytes, want at least %d", ErrPassphrase, len(passphrase), MinPassphrase)
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	armoured := ascii.NewWriter(&file)
	w, err := age.Encrypt(armoured, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), armoured.Close()); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}

func generate(kind KeyKind) (key crypto.Signer, text []byte, err error) {
	switch kind {
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case P256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		err = fmt.Errorf("key kind %q is neither %q nor %q", kind, Ed25519, P256)
	}
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), err
}

const pemType = "PRIVATE KEY"

// Errors of key files.
var (
	ErrKeyFile    = errors.New("not a key file") // holds no private key as GenerateKey writes it
	ErrPassphrase = errors.New("passphrase")     // none, too short or not the one
)

// ReadKey reads a private key that is not encrypted: Ed25519 or ECDSA P-256 in
// PKCS#8 PEM, in a file that neither group nor others may read.
func ReadKey(path string) (crypto.Signer, error) {
	return OpenKey(path, func() (string, error) {
		return "", fmt.Errorf("%w: %s is encrypted, and this command takes none; \"lacre approval sign\" does", ErrPassphrase, path)
	})
}

// OpenKey is ReadKey, also of an encrypted file, for which it asks.
func OpenKey(path string, passphrase func() (string, error)) (crypto.Signer, error) {
	parsed, err := OpenPKCS8(path, passphrase)
	if err != nil {
		return nil, err
	}
	switch key := parsed.(type) {
	case ed25519.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: %s holds a %T, want Ed25519 or ECDSA P-256", ErrKeyFile, path, parsed)
}

// OpenPKCS8 reads whatever private key a file holds, as OpenKey does; the caller
// judges its kind.
func OpenPKCS8(path string, passphrase func() (string, error)) (any, error) {
	text, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(string(text), ascii.Header) {
		if text, err = decrypt(path, text, passphrase); err != nil {
			return nil, err
		}
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: %s is not one PEM block %q", ErrKeyFile, path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKeyFile, path, err)
	}
	return parsed, nil
}

// maxSecretBytes bounds a file of a key or a passphrase.
const maxSecretBytes = 16 << 10

// ReadSecret reads a small file that neither group nor others may read.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&(fs.FileMode(0o077)) != 0 {
		return nil, fmt.Errorf("%w: %s has mode %v; others may read it, so do chmod 600", ErrKeyFile, path, info.Mode().Perm())
	}
	if info.Size() > maxSecretBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", ErrKeyFile, path, info.Size(), maxSecretBytes)
	}
	return os.ReadFile(path)
}

func decrypt(path string, text []byte, passphrase func() (string, error)) ([]byte, error) {
	secret, err := passphrase()
	if err != nil {
		return nil, err
	}
	if secret == "" {
		return nil, fmt.Errorf("%w: none given for %s", ErrPassphrase, path)
	}
	identity, err := age.NewScryptIdentity(secret)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(ascii.NewReader(bytes.NewReader(text)), identity)
	if err != nil {
		return nil, fmt.Errorf("%w: %s does not open: %w", ErrPassphrase, path, err)
	}
	return io.ReadAll(io.LimitReader(r, maxSecretBytes))
}

// VerifierKey is a signer's public key as statements are verified under it.
func VerifierKey(public crypto.PublicKey) (signature.Key, error) {
	if _, ok := public.(*ecdsa.PublicKey); ok {
		return signature.KeyOf(signature.P256, public)
	}
	return signature.KeyOf(signature.Ed25519, public)
}

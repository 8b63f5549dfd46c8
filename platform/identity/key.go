package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/platform/durable"
)

// ErrUnexpectedPeer says that the other end of a connection is not who it must be.
var ErrUnexpectedPeer = errors.New("unexpected peer")

// ErrKeyFile says that a key file is unusable: not a PKCS#8 Ed25519 key in PEM, or readable by others.
var ErrKeyFile = errors.New("unusable key file")

const pemType = "PRIVATE KEY" // RFC 7468 section 10: PKCS#8

// noExpiry is the date of RFC 5280 section 4.1.2.5 for "no well-defined expiration date". Nobody here looks at it; it
// keeps other people's TLS tools content.
var noExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// Node is a node's own TLS identity: an Ed25519 key, and a certificate that it signed for itself or that its files hold. It
// never changes but by Run. It is safe for concurrent use.
type Node struct {
	shown   atomic.Pointer[shown]
	changed atomic.Pointer[chan struct{}] // closed and replaced when the key changes
	files   files                         // what Run reads again; fixed after LoadCertified
}

// shown is what a connection shows of a node. Immutable.
type shown struct {
	certificate tls.Certificate
	spki        SPKI
}

func nodeOf(s shown) *Node {
	n := new(Node)
	n.shown.Store(&s)
	changed := make(chan struct{})
	n.changed.Store(&changed)
	return n
}

// NewNode makes the identity of a key. The same key gives the same certificate, byte for byte.
func NewNode(key ed25519.PrivateKey) (*Node, error) {
	return newNode(key, time.Unix(0, 0).UTC(), noExpiry)
}

func newNode(key ed25519.PrivateKey, notBefore, notAfter time.Time) (*Node, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("node key: %d bytes, an Ed25519 private key has %d", len(key), ed25519.PrivateKeySize)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	spki := sha256.Sum256(public)
	template := &x509.Certificate{
		// Serial numbers must be positive and have at most 20 octets (RFC 5280 section 4.1.2.2).
		SerialNumber: new(big.Int).SetBytes(append([]byte{1}, spki[:15]...)),
		Subject:      pkix.Name{CommonName: "lacre node"},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{"lacre"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("node certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("node certificate: %w", err)
	}
	return nodeOf(shown{certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, spki: spki}), nil
}

// SPKI is what a NodeRegistration binds: the SHA-256 of the node's SubjectPublicKeyInfo.
func (n *Node) SPKI() SPKI { return n.shown.Load().spki }

// PublicKey is the node's TLS public key.
func (n *Node) PublicKey() ed25519.PublicKey {
	public, _ := n.shown.Load().certificate.Leaf.PublicKey.(ed25519.PublicKey)
	return bytes.Clone(public)
}

// Certificate is the node's certificate in DER, for tools that want to see one.
func (n *Node) Certificate() []byte { return bytes.Clone(n.shown.Load().certificate.Certificate[0]) }

// Generate makes a new key from the operating system's randomness, writes it to path (mode 0600, PKCS#8 in PEM, durable
// before it returns) and returns its identity. An existing file is never overwritten: errors.Is(err, fs.ErrExist).
func Generate(path string) (*Node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate node key: %w", err)
	}
	if err := WriteKey(path, key); err != nil {
		return nil, err
	}
	return NewNode(key)
}

// WriteKey writes a private key as Generate does.
func WriteKey(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write node key: %w", err)
	}
	return durable.CreateFile(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600)
}

// Load reads the identity from a key file that Generate or WriteKey wrote, or another tool in the same form. It refuses
// with ErrKeyFile a file that group or others may read or write.
func Load(path string) (*Node, error) {
	key, err := ReadKey(path)
	if err != nil {
		return nil, err
	}
	return NewNode(key)
}

// ReadKey reads the private key alone; errors as for Load.
func ReadKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read node key: %w", err)
	}
	if open := info.Mode().Perm() & (fs.ModePerm &^ 0o700); open != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, required is 0600 or stricter", ErrKeyFile, path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read node key: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKeyFile, path, err)
	}
	return key, nil
}

// parseKey accepts exactly one PEM block of a PKCS#8 Ed25519 key and nothing after it.
func parseKey(text []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("holds no PEM block")
	}
	if block.Type != pemType {
		return nil, fmt.Errorf("holds a PEM block %q, expected %q", block.Type, pemType)
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("%d bytes follow the PEM block", len(rest))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a %T, expected an Ed25519 key", parsed)
	}
	return key, nil
}

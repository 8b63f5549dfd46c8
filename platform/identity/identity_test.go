package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newTestNode(t *testing.T, seed byte) *Node {
	t.Helper()
	node, err := NewNode(testKey(seed))
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func TestGenerateThenLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tls.key")
	made, err := Generate(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v (%v), want 0600", info.Mode().Perm(), err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.SPKI() != made.SPKI() || !loaded.PublicKey().Equal(made.PublicKey()) || !bytes.Equal(loaded.Certificate(), made.Certificate()) {
		t.Fatal("the loaded identity differs from the generated one")
	}
	if _, err := Generate(path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Generate: %v, want fs.ErrExist", err)
	}
}

func TestSPKIIsTheDigestOfThePublicKeyInfo(t *testing.T) {
	node := newTestNode(t, 1)
	leaf, err := x509.ParseCertificate(node.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(leaf.RawSubjectPublicKeyInfo); node.SPKI() != want {
		t.Fatalf("SPKI %x, certificate's %x", node.SPKI(), want)
	}
	if err := leaf.CheckSignatureFrom(leaf); err == nil {
		t.Fatal("a node's certificate passes as a certificate authority's")
	}
	if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		t.Fatalf("not signed by its own key: %v", err)
	}
}

func TestLoadRefusesUnusableFiles(t *testing.T) {
	good := keyFile(t, testKey(1))
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		content []byte
		mode    fs.FileMode
		want    string
	}{
		"readable by the group": {good, 0o640, "mode 0640"},
		"readable by all":       {good, 0o604, "mode 0604"},
		"empty":                 {nil, 0o600, "no PEM block"},
		"public key":            {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}), 0o600, "PUBLIC KEY"},
		"not PKCS#8":            {pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: []byte{1}}), 0o600, "asn1"},
		"P-256":                 {keyFile(t, p256), 0o600, "ecdsa"},
		"two keys":              {append(bytes.Clone(good), good...), 0o600, "follow the PEM block"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tls.key")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(path); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want ErrKeyFile with %q", err, c.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("absent file: %v, want fs.ErrNotExist", err)
	}
}

func keyFile(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
}

// handshake connects two configurations over a real socket and returns both ends' views.
func handshake(t *testing.T, server, client *tls.Config) (atServer tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	type view struct {
		state tls.ConnectionState
		err   error
	}
	served := make(chan view, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			served <- view{err: err}
			return
		}
		connection := tls.Server(raw, server)
		defer connection.Close()
		err = connection.Handshake()
		if err == nil {
			_, err = connection.Write([]byte{1})
		}
		served <- view{connection.ConnectionState(), err}
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	connection := tls.Client(raw, client)
	defer connection.Close()
	// In TLS 1.3 a client learns of its refusal only when it reads.
	if clientErr = connection.Handshake(); clientErr == nil {
		_, clientErr = connection.Read(make([]byte, 1))
	}
	if clientErr != nil {
		connection.Close()
	}
	seen := <-served
	return seen.state, seen.err, clientErr
}

func TestN1_PeersAreJudgedByKeyInTheHandshake(t *testing.T) {
	server, replica, gateway, stranger := newTestNode(t, 1), newTestNode(t, 2), newTestNode(t, 3), newTestNode(t, 4)
	registry := NewStaticRegistry(
		Peer{ID: "r2", Organisation: "b", Role: RoleReplica, SPKI: replica.SPKI()},
		Peer{ID: "g1", Organisation: "c", Role: RoleGateway, SPKI: gateway.SPKI()},
	)
	replicasOnly := server.MutualTLS(Registered(registry, RoleReplica))
	pinned := Pin(server.SPKI())
	cases := map[string]struct {
		server, client *tls.Config
		serverRefuses  string
		clientRefuses  bool
	}{
		"registered replica":       {server: replicasOnly, client: replica.ClientTLS(pinned)},
		"registered, another role": {server: replicasOnly, client: gateway.ClientTLS(pinned), serverRefuses: "registered as gateway"},
		"unknown key":              {server: replicasOnly, client: stranger.ClientTLS(pinned), serverRefuses: "not registered"},
		"no certificate":           {server: replicasOnly, client: AnonymousTLS(pinned), serverRefuses: "certificate"},
		"any role":                 {server: server.MutualTLS(Registered(registry)), client: gateway.ClientTLS(pinned)},
		"no check configured":      {server: server.MutualTLS(nil), client: replica.ClientTLS(pinned), serverRefuses: "no check"},
		"wrong server":             {server: replicasOnly, client: replica.ClientTLS(Pin(stranger.SPKI())), clientRefuses: true},
		"server not checked":       {server: replicasOnly, client: replica.ClientTLS(nil), clientRefuses: true},
		"optional, without":        {server: server.ServerTLS(), client: AnonymousTLS(pinned)},
		"optional, unknown key":    {server: server.ServerTLS(), client: stranger.ClientTLS(pinned)},
		"TLS 1.2": {server: server.ServerTLS(), client: &tls.Config{MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true},
			serverRefuses: "version"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, serverErr, clientErr := handshake(t, c.server, c.client)
			switch {
			case c.clientRefuses:
				if !errors.Is(clientErr, ErrUnexpectedPeer) {
					t.Fatalf("client: %v, want ErrUnexpectedPeer", clientErr)
				}
			case c.serverRefuses != "":
				if serverErr == nil || clientErr == nil || !strings.Contains(serverErr.Error(), c.serverRefuses) {
					t.Fatalf("server: %v, client: %v, want a refusal with %q", serverErr, clientErr, c.serverRefuses)
				}
			default:
				if serverErr != nil || clientErr != nil {
					t.Fatalf("server: %v, client: %v", serverErr, clientErr)
				}
			}
		})
	}
}

func TestN1_ExpiredCertificatesStillConnect(t *testing.T) {
	expired := func(seed byte) *Node {
		node, err := newNode(testKey(seed), time.Unix(0, 0), time.Unix(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	server, client := expired(1), expired(2)
	// The same keys in certificates without expiry are the same peers.
	if server.SPKI() != newTestNode(t, 1).SPKI() {
		t.Fatal("identity depends on the certificate's dates")
	}
	registry := NewStaticRegistry(Peer{ID: "r2", Role: RoleReplica, SPKI: client.SPKI()})
	state, serverErr, clientErr := handshake(t, server.MutualTLS(Registered(registry)), client.ClientTLS(Pin(server.SPKI())))
	if serverErr != nil || clientErr != nil {
		t.Fatalf("server: %v, client: %v", serverErr, clientErr)
	}
	if spki, ok := PeerSPKI(state); !ok || spki != client.SPKI() || state.Version != tls.VersionTLS13 {
		t.Fatalf("server saw %x (%v) over version %x", spki, ok, state.Version)
	}
}

func TestN1_AnAuthoritysSignatureIsNoRegistration(t *testing.T) {
	server, authority, subject := newTestNode(t, 1), newTestNode(t, 2), testKey(3)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: noExpiry}
	issued, err := x509.CreateCertificate(rand.Reader, template, authority.shown.Load().certificate.Leaf, subject.Public(), authority.shown.Load().certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	client := AnonymousTLS(Pin(server.SPKI()))
	client.Certificates = []tls.Certificate{{Certificate: [][]byte{issued, authority.Certificate()}, PrivateKey: subject}}
	registry := NewStaticRegistry(Peer{ID: "authority", Role: RoleReplica, SPKI: authority.SPKI()})
	_, serverErr, _ := handshake(t, server.MutualTLS(Registered(registry)), client)
	if !errors.Is(serverErr, ErrUnexpectedPeer) {
		t.Fatalf("server: %v, want ErrUnexpectedPeer: the issuer is registered, the key is not", serverErr)
	}
}

func TestPinShowsBothSides(t *testing.T) {
	a, b := newTestNode(t, 1).SPKI(), newTestNode(t, 2).SPKI()
	err := Pin(a)(b)
	if err == nil || !strings.Contains(err.Error(), Short(a)) || !strings.Contains(err.Error(), Short(b)) {
		t.Fatalf("got %v, want both %s and %s", err, Short(a), Short(b))
	}
}

func FuzzParseKey(f *testing.F) {
	der, err := x509.MarshalPKCS8PrivateKey(testKey(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parseKey(text)
		if err != nil {
			return
		}
		if _, err := NewNode(key); err != nil {
			t.Fatalf("a key was read that makes no node: %v", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseKey(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
		if err != nil || !again.Equal(key) {
			t.Fatalf("written again it is another key: %v", err)
		}
	})
}

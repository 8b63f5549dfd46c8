package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certified makes a node's key and certificate files, and the authority.
func certified(t *testing.T, hosts ...string) (keyPath, certificatePath string, authority *Authority) {
	t.Helper()
	_, caKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	if authority, err = NewAuthority("institute", caKey, from); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyPath, certificatePath = filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.crt")
	node, err := Generate(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	text, err := authority.Issue("replica-institute", node.PublicKey(), hosts, from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certificatePath, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return keyPath, certificatePath, authority
}

// An ordinary TLS client, which knows the organisation's authority and nothing of ours, accepts the node; under another
// name, or with another authority, it does not.
func TestOrdinaryTLSToolsCheckACertifiedNode(t *testing.T) {
	keyPath, certificatePath, authority := certified(t, "ledger.example", "127.0.0.1")
	node, err := LoadCertified(keyPath, certificatePath)
	if err != nil {
		t.Fatal(err)
	}
	_, _, stranger := certified(t, "ledger.example")
	for name, c := range map[string]struct {
		authority *Authority
		host      string
		accepted  bool
	}{
		"by name":           {authority, "ledger.example", true},
		"by address":        {authority, "127.0.0.1", true},
		"another name":      {authority, "compute.example", false},
		"another authority": {stranger, "ledger.example", false},
	} {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(c.authority.PEM()) {
			t.Fatal("the authority's file holds no certificate")
		}
		_, _, err := handshake(t, node.ServerTLS(), &tls.Config{RootCAs: pool, ServerName: c.host, MinVersion: tls.VersionTLS13})
		if (err == nil) != c.accepted {
			t.Errorf("%s: %v, want accepted: %v", name, err, c.accepted)
		}
	}
}

// The certificate changes nothing for peers: they judge the key, and an authority's certificate opens no door.
func TestN1_ACertificateOfAnAuthorityGrantsNothing(t *testing.T) {
	keyPath, certificatePath, _ := certified(t, "ledger.example")
	node, err := LoadCertified(keyPath, certificatePath)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := LoadCertified(keyPath, "")
	if err != nil {
		t.Fatal(err)
	}
	if node.SPKI() != plain.SPKI() {
		t.Fatalf("the certificate changed the identity: %x, was %x", node.SPKI(), plain.SPKI())
	}
	server := newTestNode(t, 1)
	admits := NewStaticRegistry(Peer{ID: "replica-institute", Role: RoleReplica, SPKI: plain.SPKI()})
	for name, c := range map[string]struct {
		registry Registry
		accepted bool
	}{"registered": {admits, true}, "not registered": {NewStaticRegistry(), false}} {
		_, serverErr, _ := handshake(t, server.MutualTLS(Registered(c.registry)), node.ClientTLS(Pin(server.SPKI())))
		if (serverErr == nil) != c.accepted {
			t.Errorf("%s: %v, want accepted: %v", name, serverErr, c.accepted)
		}
	}
}

func TestLoadCertifiedRefusesUnusableFiles(t *testing.T) {
	keyPath, certificatePath, _ := certified(t, "ledger.example")
	_, another, _ := certified(t, "ledger.example")
	good, err := os.ReadFile(certificatePath)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCertified(keyPath, certificatePath+".absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file gave %v", err)
	}
	if _, err := LoadCertified(keyPath, another); !errors.Is(err, ErrCertificateFile) {
		t.Errorf("the certificate of another key gave %v", err)
	}
	for name, text := range map[string][]byte{
		"empty": nil, "no PEM": []byte("text"), "something after": append(append([]byte{}, good...), "text"...),
		"a key": pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: []byte{1}}), "not DER": pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: []byte{1}}),
	} {
		path := filepath.Join(t.TempDir(), "tls.crt")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadCertified(keyPath, path); !errors.Is(err, ErrCertificateFile) {
			t.Errorf("%s: %v, want ErrCertificateFile", name, err)
		}
	}
}

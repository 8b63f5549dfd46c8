package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines keeps what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// take returns what was logged since the last call.
func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// ending writes a certificate of a key that ends at a time.
func ending(t *testing.T, path string, key ed25519.PrivateKey, notAfter time.Time) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: notAfter}
	c, err := certify(template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, certificatePEM(c), 0o644); err != nil {
		t.Fatal(err)
	}
	// Within one tick of the file system's clock only the size would tell two files apart.
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(notAfter.Sub(time.Unix(0, 0))%time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// running runs a node of files in a bubble of time.
func running(t *testing.T) (node *Node, key ed25519.PrivateKey, keyPath, certificatePath string, said *lines) {
	t.Helper()
	dir := t.TempDir()
	keyPath, certificatePath, key = filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.crt"), testKey(1)
	if err := WriteKey(keyPath, key); err != nil {
		t.Fatal(err)
	}
	ending(t, certificatePath, key, time.Now().Add(31*24*time.Hour))
	node, err := LoadCertified(keyPath, certificatePath)
	if err != nil {
		t.Fatal(err)
	}
	said = new(lines)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = node.Run(ctx, slog.New(slog.NewTextHandler(said, nil)))
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return node, key, keyPath, certificatePath, said
}

func pass(d time.Duration) {
	<-time.After(d) // of the bubble
	synctest.Wait()
}

// A certificate's coming end is said 30, 7 and 1 days before it and at it, once each; a renewal is taken without a
// restart and ends the warnings.
func TestExpiryIsSaidInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, key, _, path, said := running(t)
		const day = 24 * time.Hour
		pass(time.Hour)
		if got := said.take(); got != "" {
			t.Fatalf("31 days before: %s", got)
		}
		for _, step := range []struct {
			after time.Duration
			says  string
		}{{day, "level=WARN"}, {23 * day, "level=WARN"}, {6 * day, "level=ERROR"}, {day, "has expired"}} {
			pass(step.after)
			if got := said.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, step.says) || !strings.Contains(got, "certificates.md") {
				t.Fatalf("%s before the end: %q, want one line with %q", time.Until(node.NotAfter()), got, step.says)
			}
		}
		renewed := time.Now().Add(90 * day).Truncate(time.Second).UTC()
		ending(t, path, key, renewed)
		pass(time.Minute)
		if !node.NotAfter().Equal(renewed) || !strings.Contains(said.take(), "read again") {
			t.Fatalf("after the renewal it ends at %s, want %s", node.NotAfter(), renewed)
		}
	})
}

// Files that do not fit each other change nothing; once both are there the node shows the new key, on the connections
// that it makes from then on, and says so to those that stand.
func TestANewKeyIsTakenWithoutARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node, _, keyPath, path, said := running(t)
		was, changed := node.SPKI(), node.Changed()
		next := testKey(2)
		if err := os.Remove(keyPath); err != nil {
			t.Fatal(err)
		}
		if err := WriteKey(keyPath, next); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := said.take(); node.SPKI() != was || strings.Count(got, "the old ones stay") != 1 {
			t.Fatalf("half of the files: %q", got)
		}
		select {
		case <-changed:
			t.Fatal("a change is told of that there was not")
		default:
		}
		ending(t, path, next, time.Now().Add(90*24*time.Hour))
		pass(time.Minute)
		fresh, err := NewNode(next)
		if err != nil {
			t.Fatal(err)
		}
		if node.SPKI() != fresh.SPKI() {
			t.Fatalf("the node still shows %s: %s", Short(node.SPKI()), said.take())
		}
		<-changed
		certificate, err := node.ServerTLS().GetCertificate(nil)
		if err != nil || !certificate.PrivateKey.(ed25519.PrivateKey).Equal(next) {
			t.Fatalf("a server that stands shows another key: %v", err)
		}
	})
}

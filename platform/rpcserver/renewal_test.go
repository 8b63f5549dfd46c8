package rpcserver_test

import (
	"bytes"
	"crypto/ed25519"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// A caller whose key file changes is, without a restart, who the registry knows the new key as: its connections that
// showed the old one end, and the library connects again.
func TestN1_ANewKeyIsShownByStandingConnections(t *testing.T) {
	n := serve(t, newLedger())
	path := filepath.Join(t.TempDir(), "tls.pem")
	write := func(seed byte) {
		if err := identity.WriteKey(path, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))); err != nil {
			t.Fatal(err)
		}
	}
	write(2) // the gateway's
	caller, err := identity.LoadCertified(path, "")
	if err != nil {
		t.Fatal(err)
	}
	client := ledgerv1.NewLedgerServiceClient(n.dial(caller))
	ask := func() string {
		answer, err := client.GetStatus(t.Context(), &ledgerv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetNodeId()
	}
	if got := ask(); got != "gateway g1" {
		t.Fatalf("the server sees %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(3) // the endorser's
	if err := caller.Reread(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for ask() != "endorser e1" { // until the connection that showed the old key has ended
		if t.Context().Err() != nil {
			t.Fatal("the server still sees the old key")
		}
	}
}

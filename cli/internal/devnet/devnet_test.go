package devnet

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
)

// TestNetworkContinuesAfterARestart founds a network, stops it and starts it
// again: every replica stands where it stood, and the directory admits one
// process at a time.
func TestNetworkContinuesAfterARestart(t *testing.T) {
	n, created, err := LoadOrCreate(t.TempDir(), time.Now())
	if err != nil || !created {
		t.Fatalf("created %v: %v", created, err)
	}
	before := life(t, n)
	again, created, err := LoadOrCreate(n.Dir, time.Now())
	if err != nil || created {
		t.Fatalf("created again %v: %v", created, err)
	}
	after := life(t, again)
	if len(after) != 4 {
		t.Fatalf("%d replicas answered, want 4", len(after))
	}
	for id, b := range before {
		a := after[id]
		if !bytes.Equal(a.GetNetworkId(), b.GetNetworkId()) || a.GetTreeSize() < b.GetTreeSize() || a.GetAppliedHeight() < b.GetAppliedHeight() {
			t.Errorf("replica %s had height %d and size %d, after the restart %d and %d", id, b.GetAppliedHeight(), b.GetTreeSize(), a.GetAppliedHeight(), a.GetTreeSize())
		}
	}
}

// life runs the network until it is ready, asks every replica where it stands,
// and stops it.
func life(t *testing.T, n *Network) map[string]*ledgerv1.GetStatusResponse {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("LACRE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- n.Run(running, log) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	if err := n.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	var held *durable.LockedError
	if err := n.Run(ctx, log); !errors.As(err, &held) {
		t.Errorf("a second run in %s gave %v, want a *durable.LockedError", n.Dir, err)
	}
	status := make(map[string]*ledgerv1.GetStatusResponse)
	for _, node := range n.ByRole(recordv1.Role_ROLE_REPLICA) {
		connection, err := n.Dial(node.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		status[node.ID], err = ledgerv1.NewLedgerServiceClient(connection).GetStatus(ctx, &ledgerv1.GetStatusRequest{})
		if err := errors.Join(err, connection.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return status
}

package devnet

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"
)

func TestNetworkStartsAndRestarts(t *testing.T) {
	dir := t.TempDir()
	n, created, err := LoadOrCreate(dir, time.Now())
	if err != nil || !created {
		t.Fatalf("created %v: %v", created, err)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("LACRE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		done := make(chan error, 1)
		running, stop := context.WithCancel(ctx)
		go func() { done <- n.Run(running, log) }()
		ready := n.WaitReady(ctx)
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if ready != nil {
			t.Fatal(ready)
		}
		cancel()
	}
}

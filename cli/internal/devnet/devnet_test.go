package devnet

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/lacre-metrology/lacre/cli/internal/founding"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/platform/identity"
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

// A node that cannot be opened releases what those before it hold: their ports
// and their stores.
func TestRunReleasesWhatItOpened(t *testing.T) {
	n, _, err := LoadOrCreate(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config := founding.ConfigPath(n.Dir, Gateway) // the last one to be opened
	if err := os.Rename(config, config+".away"); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	for range 2 {
		err := n.Run(t.Context(), log)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "node "+Gateway) {
			t.Fatalf("run without the gateway's configuration: %v", err)
		}
	}
	if err := os.Rename(config+".away", config); err != nil {
		t.Fatal(err)
	}
	life(t, n)
}

// stuck is a node that answers, and never becomes ready; the second question
// shows that whoever asks has heard the first answer.
type stuck struct {
	healthv1.UnimplementedHealthServer
	asked atomic.Int32
	again context.CancelFunc
}

func (s *stuck) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if s.asked.Add(1) == 2 {
		s.again()
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}, nil
}

// Who waits for a node that never becomes ready is told which one, where, and how
// it last answered.
func TestWaitReadyNamesTheNodeThatIsNot(t *testing.T) {
	key, err := identity.Generate(filepath.Join(t.TempDir(), "tls.pem"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(key.ServerTLS())))
	healthv1.RegisterHealthServer(server, &stuck{again: cancel})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	spki := key.SPKI()
	node := Node{ID: "gateway-a", Role: recordv1.Role_ROLE_GATEWAY, Address: listener.Addr().String(), SPKI: hex.EncodeToString(spki[:])}
	n := &Network{Book: founding.Book{Name: "n", Nodes: []Node{node}}}
	wait := func(ctx context.Context, cause error, says ...string) {
		err := n.WaitReady(ctx)
		if !errors.Is(err, cause) {
			t.Errorf("%v, want %v", err, cause)
		}
		for _, text := range append(says, "node gateway-a at "+node.Address) {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v lacks %q", err, text)
			}
		}
	}
	wait(ctx, context.Canceled, "it last answered NOT_SERVING")
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	expired, cancel := context.WithTimeout(t.Context(), time.Millisecond) // nobody is there any more
	defer cancel()
	wait(expired, context.DeadlineExceeded)
	if err := n.WaitReady(t.Context(), "nobody"); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("an unknown node: %v", err)
	}
}

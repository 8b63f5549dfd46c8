package rpcserver_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

// A watch would outlive any grace time; with one of a day, only a watch that the server ends lets it stop.
func TestStopEndsHealthWatches(t *testing.T) {
	n := serve(t, newLedger(), func(c *rpcserver.Config) { c.StopGrace = 24 * time.Hour })
	n.rpc.SetServing("lacre.ledger.v1.LedgerService", false)
	client := healthv1.NewHealthClient(n.dial(n.gateway))
	watches := make(map[string]healthv1.Health_WatchClient)
	for service, first := range map[string]healthv1.HealthCheckResponse_ServingStatus{
		"":                              healthv1.HealthCheckResponse_SERVING,
		"lacre.ledger.v1.LedgerService": healthv1.HealthCheckResponse_NOT_SERVING,
		"unknown":                       healthv1.HealthCheckResponse_SERVICE_UNKNOWN,
	} {
		watch, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		got, err := watch.Recv()
		if err != nil || got.GetStatus() != first {
			t.Fatalf("service %q is first %v (%v), want %v", service, got.GetStatus(), err, first)
		}
		watches[service] = watch
	}
	stopped := make(chan error, 1)
	go func() { stopped <- n.stop() }()
	said, err := watches[""].Recv()
	if err != nil || said.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("the server as a whole is last %v (%v), want NOT_SERVING", said.GetStatus(), err)
	}
	for service, watch := range watches {
		if said, err := watch.Recv(); status.Code(err) != codes.Unavailable {
			t.Errorf("the watch of %q goes on with %v (%v), want its end with Unavailable", service, said, err)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestReadyIsWhatHealthChecksAnswer(t *testing.T) {
	n := serve(t, newLedger())
	check := func(want bool) {
		t.Helper()
		ready := n.rpc.Ready()
		if whole, ok := ready[""]; !ok || !whole {
			t.Errorf("the whole is %v in %v", whole, ready)
		}
		if part, ok := ready["lacre.ledger.v1.LedgerService"]; !ok || part != want {
			t.Errorf("the ledger's service is %v in %v, want %v", part, ready, want)
		}
	}
	n.rpc.SetServing("lacre.ledger.v1.LedgerService", false)
	check(false)
	n.rpc.SetServing("lacre.ledger.v1.LedgerService", true)
	check(true)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for service, serving := range n.rpc.Ready() {
		if serving {
			t.Errorf("service %q is serving after the stop", service)
		}
	}
}

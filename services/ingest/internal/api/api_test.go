package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/ingest/internal/gateway"
)

// silent is an endorser that never answers.
type silent struct{}

func (silent) NodeID() string { return "endorser-00" }
func (silent) Endorse(ctx context.Context, _ *computev1.EndorseRequest) (*computev1.EndorseResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type noEvents struct{}

func (noEvents) Report(*recordv1.EventReport) error { return nil }

func run(t *testing.T, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// A stream does not keep a meter waiting for ever: it says PENDING, and a sample
// beyond the bound of the stream waits for its turn.
func TestStreamSaysPending(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	l := ledgertest.New(t, statetest.Options{})
	var meter *statetest.Meter
	c := follower.Config{}
	l.Do(func(n *statetest.Network) {
		n.Approve()
		meter = n.Register("meter-01")
		c.NetworkID = n.ID.String()
	})
	replica := l.Serve(t, "replica")
	c.Replicas = []follower.Endpoint{{Address: replica.Address, SPKI: replica.SPKI}}
	f, err := follower.New(c, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	run(t, f.Run)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := f.Wait(ctx, l.Height()); err != nil {
		t.Fatal(err)
	}

	g := gateway.New(f.NetworkID(), "gateway-00", f, noEvents{}, []gateway.Endorser{silent{}}, quiet)
	server := New(g)
	server.pendingAfter, server.maxInStream = 50*time.Millisecond, 2
	node, err := identity.NewNode(ledgertest.TLSKey("gateway-00"))
	if err != nil {
		t.Fatal(err)
	}
	allow := rpcserver.Allow{}
	allow.AllowService(&ingestv1.IngestService_ServiceDesc, identity.RolePublic)
	rpc, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0"}, rpcserver.Options{Node: node, Allow: allow, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ingestv1.RegisterIngestServiceServer(rpc, server)
	run(t, rpc.Run)
	run(t, g.Run) // stops before the server
	connection, err := rpcclient.Dial(rpc.Addr().String(), rpcclient.Options{Server: identity.Pin(node.SPKI()), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	stream, err := ingestv1.NewIngestServiceClient(connection).SubmitStream(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for range 5 { // more than the stream holds at a time
		var c *statetest.Capture
		l.Do(func(*statetest.Network) { c = meter.Capture() })
		want[string(c.Sample.Digest[:])] = true
		if err := stream.Send(&ingestv1.SubmitStreamRequest{Submit: &ingestv1.SubmitRequest{Header: c.Sample.Bytes, Signature: c.Signature, RawVector: c.Raw}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if id := string(r.GetSubmit().GetSample()); r.GetSubmit().GetPending() == nil || !want[id] {
			t.Errorf("got %v", r)
		} else {
			delete(want, id)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d samples without a word", len(want))
	}
}

func TestRefusalOfAnErrorWithoutReasonIsTransient(t *testing.T) {
	for _, err := range []error{errors.New("no luck"), context.DeadlineExceeded, reason.New("FROM_THE_FUTURE", "x")} {
		r := refusal([32]byte{1}, err).GetRefusal()
		if r.GetPermanent() || r.GetReason() == "" || r.GetRetryAfterMillis() == 0 {
			t.Errorf("%v: %v", err, r)
		}
	}
}

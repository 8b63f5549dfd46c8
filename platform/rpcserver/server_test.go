package rpcserver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/lacre-metrology/lacre/core/reason"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
)

const (
	maxMessageBytes = 64 << 10
	getStatus       = "/lacre.ledger.v1.LedgerService/GetStatus"
	submit          = "/lacre.ledger.v1.LedgerService/Submit"
	streamBlocks    = "/lacre.ledger.v1.LedgerService/StreamBlocks"
)

// ledger is a fake whose methods are what each test sets.
type ledger struct {
	ledgerv1.UnimplementedLedgerServiceServer
	submit func(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error)
	status func(context.Context) (*ledgerv1.GetStatusResponse, error)
	blocks func(grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error
}

func (l *ledger) Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
	return l.submit(ctx, request)
}

func (l *ledger) GetStatus(ctx context.Context, _ *ledgerv1.GetStatusRequest) (*ledgerv1.GetStatusResponse, error) {
	return l.status(ctx)
}

func (l *ledger) StreamBlocks(_ *ledgerv1.StreamBlocksRequest, stream grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error {
	return l.blocks(stream)
}

// newLedger answers everything; GetStatus says who called.
func newLedger() *ledger {
	return &ledger{
		submit: func(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
			return &ledgerv1.SubmitResponse{}, nil
		},
		status: func(ctx context.Context) (*ledgerv1.GetStatusResponse, error) {
			caller := rpcserver.PeerFrom(ctx)
			return &ledgerv1.GetStatusResponse{NodeId: string(caller.Role) + " " + caller.ID}, nil
		},
		blocks: func(stream grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error {
			return stream.Send(&ledgerv1.StreamBlocksResponse{Height: 1})
		},
	}
}

// registry is a Registry from which keys can be revoked while it is in use.
type registry struct {
	mu    sync.Mutex
	peers identity.StaticRegistry // guarded by mu
}

func (r *registry) Role(spki identity.SPKI) (identity.Peer, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers.Role(spki)
}

func (r *registry) revoke(spki identity.SPKI) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, spki)
}

// network is a served ledger and the nodes that may know it.
type network struct {
	t                                    *testing.T
	server, gateway, endorser, forgotten *identity.Node
	registry                             *registry
	rpc                                  *rpcserver.Server
	metrics                              *prometheus.Registry
	log                                  *lockedBuffer
	stop                                 func() error // stops the server and returns what Run returned
}

func serve(t *testing.T, service *ledger, adapt ...func(*rpcserver.Config)) *network {
	t.Helper()
	n := &network{t: t, server: node(t, 1), gateway: node(t, 2), endorser: node(t, 3), forgotten: node(t, 4),
		metrics: prometheus.NewRegistry(), log: &lockedBuffer{}}
	n.registry = &registry{peers: identity.NewStaticRegistry(
		identity.Peer{ID: "g1", Organisation: "acme", Role: identity.RoleGateway, SPKI: n.gateway.SPKI()},
		identity.Peer{ID: "e1", Organisation: "bolt", Role: identity.RoleEndorser, SPKI: n.endorser.SPKI()},
	)}
	config := rpcserver.Config{Listen: "127.0.0.1:0", MaxMessageBytes: maxMessageBytes}
	for _, change := range adapt {
		change(&config)
	}
	allow := rpcserver.Allow{}
	allow.AllowService(&ledgerv1.LedgerService_ServiceDesc, identity.RolePublic)
	allow[submit] = []identity.Role{identity.RoleGateway}
	allow[streamBlocks] = []identity.Role{identity.RoleGateway, identity.RoleEndorser}
	server, err := rpcserver.New(config, rpcserver.Options{Node: n.server, Registry: n.registry, Allow: allow,
		Logger: slog.New(slog.NewTextHandler(n.log, nil)), Metrics: n.metrics})
	if err != nil {
		t.Fatal(err)
	}
	ledgerv1.RegisterLedgerServiceServer(server, service)
	n.rpc = server
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return n
}

func node(t *testing.T, seed byte) *identity.Node {
	t.Helper()
	made, err := identity.NewNode(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// dial connects as a node (nil: anonymously), pinning the server's key unless another check is given.
func (n *network) dial(as *identity.Node, check ...identity.Check) *grpc.ClientConn {
	n.t.Helper()
	options := rpcclient.Options{Node: as, Server: identity.Pin(n.server.SPKI()), Logger: slog.New(slog.NewTextHandler(n.log, nil))}
	if len(check) > 0 {
		options.Server = check[0]
	}
	connection, err := rpcclient.Dial(n.rpc.Addr().String(), options)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			n.t.Error(err)
		}
	})
	return connection
}

func TestN1_RolesDecideWhoCallsWhat(t *testing.T) {
	n := serve(t, newLedger())
	callers := map[string]*identity.Node{"gateway": n.gateway, "endorser": n.endorser, "unknown key": n.forgotten, "no certificate": nil}
	identities := map[string]string{"gateway": "gateway g1", "endorser": "endorser e1", "unknown key": "public ", "no certificate": "public "}
	const yes = ""
	cases := []struct{ method, caller, refusal string }{
		{submit, "gateway", yes},
		{submit, "endorser", "e1 of bolt is registered as endorser"},
		{submit, "unknown key", "is not registered"},
		{submit, "no certificate", "no certificate"},
		{getStatus, "gateway", yes},
		{getStatus, "endorser", yes},
		{getStatus, "unknown key", yes},
		{getStatus, "no certificate", yes},
		{streamBlocks, "gateway", yes},
		{streamBlocks, "endorser", yes},
		{streamBlocks, "unknown key", "is not registered"},
		{streamBlocks, "no certificate", "no certificate"},
	}
	for _, c := range cases {
		t.Run(c.method+" by "+c.caller, func(t *testing.T) {
			client := ledgerv1.NewLedgerServiceClient(n.dial(callers[c.caller]))
			var err error
			switch c.method {
			case submit:
				_, err = client.Submit(t.Context(), &ledgerv1.SubmitRequest{})
			case getStatus:
				var answer *ledgerv1.GetStatusResponse
				answer, err = client.GetStatus(t.Context(), &ledgerv1.GetStatusRequest{})
				if got := answer.GetNodeId(); got != identities[c.caller] {
					t.Errorf("the handler saw %q, want %q", got, identities[c.caller])
				}
			case streamBlocks:
				var stream grpc.ServerStreamingClient[ledgerv1.StreamBlocksResponse]
				if stream, err = client.StreamBlocks(t.Context(), &ledgerv1.StreamBlocksRequest{}); err == nil {
					_, err = stream.Recv()
				}
			}
			if c.refusal == yes {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if reason.Of(err) != reason.PermissionDenied || status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), c.refusal) {
				t.Fatalf("got %v, want PERMISSION_DENIED with %q", err, c.refusal)
			}
		})
	}
}

func TestN1_RevocationEndsStandingConnections(t *testing.T) {
	service := newLedger()
	next := make(chan struct{})
	service.blocks = func(stream grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error {
		for height := uint64(1); ; height++ {
			if err := stream.Send(&ledgerv1.StreamBlocksResponse{Height: height}); err != nil {
				return err
			}
			select {
			case <-next:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
	}
	n := serve(t, service)
	client := ledgerv1.NewLedgerServiceClient(n.dial(n.gateway))
	stream, err := client.StreamBlocks(t.Context(), &ledgerv1.StreamBlocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("before the revocation: %v", err)
	}
	n.registry.revoke(n.gateway.SPKI())
	next <- struct{}{}
	if _, err := stream.Recv(); reason.Of(err) != reason.PermissionDenied {
		t.Fatalf("stream after the revocation: %v, want PERMISSION_DENIED", err)
	}
	if _, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{}); reason.Of(err) != reason.PermissionDenied {
		t.Fatalf("call after the revocation: %v, want PERMISSION_DENIED", err)
	}
}

func TestN1_WrongServerGetsNoRequest(t *testing.T) {
	service := newLedger()
	called := make(chan struct{}, 1)
	service.submit = func(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
		called <- struct{}{}
		return &ledgerv1.SubmitResponse{}, nil
	}
	n := serve(t, service)
	client := ledgerv1.NewLedgerServiceClient(n.dial(n.gateway, identity.Pin(n.forgotten.SPKI())))
	_, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), identity.Short(n.forgotten.SPKI())) || !strings.Contains(err.Error(), identity.Short(n.server.SPKI())) {
		t.Fatalf("got %v, want UNAVAILABLE with both keys", err)
	}
	select {
	case <-called:
		t.Fatal("the request reached a server with another key")
	default:
	}
}

func TestN1_DefaultDenyIsCheckedAtTheStart(t *testing.T) {
	cases := map[string]struct {
		allow rpcserver.Allow
		want  string
	}{
		"nothing allowed": {rpcserver.Allow{}, submit + " is served, but no role may call it"},
		"misspelt":        {rpcserver.Allow{submit + "s": {identity.RolePublic}}, submit + "s, which is not served"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0"}, rpcserver.Options{Node: node(t, 1), Allow: c.allow})
			if err != nil {
				t.Fatal(err)
			}
			ledgerv1.RegisterLedgerServiceServer(server, newLedger())
			if err := server.Run(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestOversizedMessageReachesNoHandler(t *testing.T) {
	service := newLedger()
	var sizes []int
	service.submit = func(_ context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
		sizes = append(sizes, len(request.GetRecords()[0]))
		return &ledgerv1.SubmitResponse{}, nil
	}
	n := serve(t, service)
	client := ledgerv1.NewLedgerServiceClient(n.dial(n.gateway))
	_, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{Records: [][]byte{make([]byte, maxMessageBytes+1)}})
	if reason.Of(err) != reason.TooLarge || !rpcerror.IsPermanent(err) {
		t.Fatalf("oversized: %v, want TOO_LARGE, permanent", err)
	}
	if _, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{Records: [][]byte{make([]byte, maxMessageBytes/2)}}); err != nil {
		t.Fatalf("half the limit: %v", err)
	}
	if err := n.stop(); err != nil { // Nothing runs any more: sizes may be read.
		t.Fatal(err)
	}
	if len(sizes) != 1 || sizes[0] != maxMessageBytes/2 {
		t.Fatalf("handler saw %v", sizes)
	}
}

func TestPanicBecomesInternalAndTheServerLives(t *testing.T) {
	service := newLedger()
	service.submit = func(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
		panic("secret detail")
	}
	service.blocks = func(grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error { panic("secret detail") }
	n := serve(t, service)
	client := ledgerv1.NewLedgerServiceClient(n.dial(n.gateway))
	_, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{})
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Fatalf("unary: %v, want INTERNAL without the detail", err)
	}
	stream, err := client.StreamBlocks(t.Context(), &ledgerv1.StreamBlocksRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Internal {
		t.Fatalf("stream: %v, want INTERNAL", err)
	}
	if _, err := client.GetStatus(t.Context(), &ledgerv1.GetStatusRequest{}); err != nil {
		t.Fatalf("after the panics: %v", err)
	}
	if log := n.log.String(); strings.Count(log, "secret detail") != 2 || !strings.Contains(log, "server_test.go") {
		t.Fatalf("the log lacks the panics or their stacks:\n%s", log)
	}
}

func TestRefusalsCrossAndAreNotRepeated(t *testing.T) {
	service := newLedger()
	var calls int
	service.submit = func(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
		calls++ // calls come one after the other
		if calls == 1 {
			return nil, rpcerror.With(reason.New(reason.NotLeader, "term 4"), rpcerror.Leader("r3"))
		}
		return nil, rpcserver.Overloaded("proposals, 256 of 256", time.Second)
	}
	n := serve(t, service)
	client := ledgerv1.NewLedgerServiceClient(n.dial(n.gateway))
	_, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{})
	if !errors.Is(err, reason.New(reason.NotLeader, "")) || rpcerror.LeaderHint(err) != "r3" {
		t.Fatalf("got %v, want NOT_LEADER with the hint r3", err)
	}
	_, err = client.Submit(t.Context(), &ledgerv1.SubmitRequest{})
	if reason.Of(err) != reason.Overloaded || rpcerror.Delay(err) != time.Second || rpcerror.IsPermanent(err) {
		t.Fatalf("got %v, want OVERLOADED with a delay of 1s", err)
	}
	if err := n.stop(); err != nil { // Nothing runs any more: calls may be read.
		t.Fatal(err)
	}
	if calls != 2 {
		t.Fatalf("the handler was called %d times, want 2: an answered call was repeated", calls)
	}
}

func TestHandlerSeesADeadlineBeforeTheCallers(t *testing.T) {
	service := newLedger()
	seen := make(chan time.Time, 1)
	service.submit = func(ctx context.Context, _ *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
		deadline, ok := ctx.Deadline()
		if !ok {
			return nil, errors.New("no deadline")
		}
		seen <- deadline
		return &ledgerv1.SubmitResponse{}, nil
	}
	n := serve(t, service)
	connection := n.dial(n.gateway)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := ledgerv1.NewLedgerServiceClient(connection).Submit(ctx, &ledgerv1.SubmitRequest{}); err != nil {
		t.Fatal(err)
	}
	mine, _ := ctx.Deadline()
	if theirs := <-seen; !theirs.Before(mine) {
		t.Fatalf("handler's deadline %s is not before the caller's %s", theirs, mine)
	}
	if _, err := ledgerv1.NewLedgerServiceClient(connection).Submit(t.Context(), &ledgerv1.SubmitRequest{}); err != nil {
		t.Fatalf("call without a deadline of its own: %v", err)
	}
}

func TestHealthReflectionAndMetricsArePublic(t *testing.T) {
	n := serve(t, newLedger())
	n.rpc.SetServing("lacre.ledger.v1.LedgerService", false)
	connection := n.dial(nil)
	check := healthv1.NewHealthClient(connection)
	whole, err := check.Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || whole.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("server: %v, %v", whole, err)
	}
	part, err := check.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "lacre.ledger.v1.LedgerService"})
	if err != nil || part.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("service that is not ready: %v, %v", part, err)
	}
	info, err := reflectionv1.NewServerReflectionClient(connection).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := info.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := info.Recv()
	if err != nil || !strings.Contains(answer.String(), "lacre.ledger.v1.LedgerService") {
		t.Fatalf("reflection: %v, %v", answer, err)
	}
	families, err := n.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, family := range families {
		names = append(names, family.GetName())
	}
	if !strings.Contains(strings.Join(names, " "), "grpc_server_handling_seconds") {
		t.Fatalf("metrics: %v", names)
	}
}

func TestStopLetsCallsInFlightEnd(t *testing.T) {
	service := newLedger()
	started, release := make(chan struct{}), make(chan struct{})
	service.submit = func(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
		close(started)
		<-release
		return &ledgerv1.SubmitResponse{CertifiedHeight: 7}, nil
	}
	n := serve(t, service)
	client := ledgerv1.NewLedgerServiceClient(n.dial(n.gateway))
	type result struct {
		answer *ledgerv1.SubmitResponse
		err    error
	}
	results := make(chan result, 1)
	go func() {
		answer, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{})
		results <- result{answer, err}
	}()
	<-started
	stopped := make(chan error, 1)
	go func() { stopped <- n.stop() }()
	close(release)
	if got := <-results; got.err != nil || got.answer.GetCertifiedHeight() != 7 {
		t.Fatalf("call in flight: %v, %v", got.answer, got.err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if _, err := client.GetStatus(t.Context(), &ledgerv1.GetStatusRequest{}); status.Code(err) != codes.Unavailable {
		t.Fatalf("after the stop: %v, want UNAVAILABLE", err)
	}
}

func TestStopIsBounded(t *testing.T) {
	service := newLedger()
	service.blocks = func(stream grpc.ServerStreamingServer[ledgerv1.StreamBlocksResponse]) error {
		if err := stream.Send(&ledgerv1.StreamBlocksResponse{}); err != nil {
			return err
		}
		<-stream.Context().Done() // follows for ever, until cut off
		return stream.Context().Err()
	}
	// The handler has as long again to end once it is cut off, on a busy machine too.
	n := serve(t, service, func(c *rpcserver.Config) { c.StopGrace = time.Second })
	stream, err := ledgerv1.NewLedgerServiceClient(n.dial(n.gateway)).StreamBlocks(t.Context(), &ledgerv1.StreamBlocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := n.stop(); err != nil { // returns at all: that is the test
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("stream after the stop: %v, want an error", err)
	}
}

func TestStopIsBoundedEvenByDeafHandlers(t *testing.T) {
	service := newLedger()
	started, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	service.submit = func(context.Context, *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error) {
		close(started)
		<-release // does not look at its context
		return &ledgerv1.SubmitResponse{}, nil
	}
	server, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0", StopGrace: time.Millisecond},
		rpcserver.Options{Node: node(t, 1), Allow: everything()})
	if err != nil {
		t.Fatal(err)
	}
	ledgerv1.RegisterLedgerServiceServer(server, service)
	n := &network{t: t, rpc: server, server: node(t, 1), log: &lockedBuffer{}}
	client := ledgerv1.NewLedgerServiceClient(n.dial(nil))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-started
		cancel()
	}()
	answered := make(chan error, 1)
	go func() {
		_, err := client.Submit(t.Context(), &ledgerv1.SubmitRequest{})
		answered <- err
	}()
	if err := server.Run(ctx); err == nil || !strings.Contains(err.Error(), "still run") {
		t.Fatalf("got %v, want an error that tells of the handler", err)
	}
	if err := <-answered; err == nil {
		t.Fatal("a call that was cut off was answered")
	}
}

func everything() rpcserver.Allow {
	allow := rpcserver.Allow{}
	allow.AllowService(&ledgerv1.LedgerService_ServiceDesc, identity.RolePublic)
	return allow
}

func TestConfigReportsEveryWrongField(t *testing.T) {
	err := rpcserver.Config{Listen: "nowhere", MaxMessageBytes: -1, StopGrace: -1}.Validate()
	for _, want := range []string{"listen", "max_message_bytes: -1", "stop_grace -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if _, err := rpcserver.New(rpcserver.Config{Listen: "127.0.0.1:0"}, rpcserver.Options{}); err == nil {
		t.Error("a server without a key was made")
	}
	if _, err := rpcclient.Dial("127.0.0.1:1", rpcclient.Options{}); err == nil {
		t.Error("a connection without a check of the server's key was made")
	}
}

// lockedBuffer collects log lines of many goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

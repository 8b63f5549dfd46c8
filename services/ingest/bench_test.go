package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/lacre-metrology/lacre/core/policy"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/ingest"
)

var quiet = slog.New(slog.DiscardHandler)

// bench is a gateway between fakes: a ledger with the real transition, three
// endorsers of which the policy wants two, and a meter.
type bench struct {
	evidenceDir string
	t           *testing.T
	ctx         context.Context // bounds every wait
	ledger      *ledgertest.Ledger
	endorsers   []*endorser
	service     *ingest.Service
	stop        func() // stops the gateway and waits for it
	connection  *grpc.ClientConn
	client      ingestv1.IngestServiceClient // as the meter
	meter       *statetest.Meter
}

func start(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func newBench(t *testing.T, configure ...func(*ledgertest.Replica)) *bench {
	t.Helper()
	t.Parallel() // most of a test is waiting
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, ledger: ledgertest.New(t, statetest.Options{
		Policy: policy.OutOf(2, policy.Organisation("org-00"), policy.Organisation("org-01"), policy.Organisation("org-02")),
	})}
	b.do(func(n *statetest.Network) { n.Approve() })
	b.meter = b.register("meter-01")
	var nodes []statetest.Node
	var c ingest.Config
	dir := t.TempDir()
	b.do(func(n *statetest.Network) {
		nodes = n.Endorsers[:3]
		c = ingest.Config{NodeID: n.Gateway.ID, TLSKey: filepath.Join(dir, "tls.pem"), SigningKey: filepath.Join(dir, "signing.pem"),
			Server: rpcserver.Config{Listen: "127.0.0.1:0"}, Ledger: follower.Config{NetworkID: n.ID.String()},
			Evidence: ingest.EvidenceConfig{Store: filepath.Join(dir, "evidence"), MaxBytes: 1 << 20}}
		b.evidenceDir = c.Evidence.Store
		if err := errors.Join(identity.WriteKey(c.TLSKey, ledgertest.TLSKey(n.Gateway.ID)), identity.WriteKey(c.SigningKey, n.Gateway.Key)); err != nil {
			t.Fatal(err)
		}
	})
	for _, node := range nodes {
		e := serveEndorser(t, b.ledger, node)
		b.endorsers = append(b.endorsers, e)
		c.Endorsers = append(c.Endorsers, e.config)
	}
	replica := b.ledger.Serve(t, "replica", configure...)
	c.Ledger.Replicas = []follower.Endpoint{{Address: replica.Address, SPKI: replica.SPKI}}
	var err error
	if b.service, err = ingest.New(c, quiet); err != nil {
		t.Fatal(err)
	}
	b.stop = start(t, b.service.Run)
	b.connection = b.dial(b.meter.ID)
	b.client = ingestv1.NewIngestServiceClient(b.connection)
	b.awaitReady()
	return b
}

func (b *bench) do(change func(n *statetest.Network)) { b.ledger.Do(change) }

// register records a meter with the TLS key of its name.
func (b *bench) register(id string) (m *statetest.Meter) {
	b.do(func(n *statetest.Network) {
		own, err := identity.NewNode(ledgertest.TLSKey(id))
		if err != nil {
			b.t.Fatal(err)
		}
		spki, key := own.SPKI(), statetest.Key("meter/"+id)
		r := n.MeterRegistration(id, key)
		r.TlsSpki = spki[:]
		n.Accept(n.Sign(r, statetest.Body()))
		m = &statetest.Meter{Network: n, ID: id, Key: key, Counter: 1,
			Registration: record.StatementDigest(record.TypeMeterRegistration, wire.MustEncode(r))}
	})
	return m
}

// dial connects to the gateway with the TLS key of a name, "" for the public.
func (b *bench) dial(as string) *grpc.ClientConn {
	b.t.Helper()
	gateway, err := identity.NewNode(ledgertest.TLSKey("gateway-00"))
	if err != nil {
		b.t.Fatal(err)
	}
	var own *identity.Node
	if as != "" {
		if own, err = identity.NewNode(ledgertest.TLSKey(as)); err != nil {
			b.t.Fatal(err)
		}
	}
	connection, err := rpcclient.Dial(b.service.Addr().String(), rpcclient.Options{Node: own, Server: identity.Pin(gateway.SPKI()), Logger: quiet})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// awaitReady returns when health checks call the service ready.
func (b *bench) awaitReady() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel() // a server that stops waits for whoever watches
	watch, err := healthv1.NewHealthClient(b.connection).Watch(ctx, &healthv1.HealthCheckRequest{Service: "lacre.ingest.v1.IngestService"}, grpc.WaitForReady(true))
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		response, err := watch.Recv()
		if err != nil {
			b.t.Fatal(err)
		}
		if response.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return
		}
	}
}

// capture takes the meter's next sample.
func (b *bench) capture() (c *statetest.Capture) {
	b.do(func(*statetest.Network) { c = b.meter.Capture() })
	return c
}

func request(c *statetest.Capture) *ingestv1.SubmitRequest {
	return &ingestv1.SubmitRequest{Header: c.Sample.Bytes, Signature: c.Signature, RawVector: c.Raw}
}

// submit sends one sample and returns its answer.
func (b *bench) submit(r *ingestv1.SubmitRequest) *ingestv1.SubmitResponse {
	b.t.Helper()
	response, err := b.client.Submit(b.ctx, r)
	if err != nil {
		b.t.Fatal(err)
	}
	return response
}

// accept sends captures side by side and fails the test unless all get a receipt.
func (b *bench) accept(captures ...*statetest.Capture) {
	b.t.Helper()
	answers := make([]*ingestv1.SubmitResponse, len(captures))
	failures := make([]error, len(captures))
	var sending sync.WaitGroup
	for i, c := range captures {
		sending.Go(func() { answers[i], failures[i] = b.client.Submit(b.ctx, request(c)) })
	}
	sending.Wait()
	for i, c := range captures {
		if failures[i] != nil || len(answers[i].GetReceipt().GetReceipt()) == 0 || !bytes.Equal(answers[i].GetSample(), c.Sample.Digest[:]) {
			b.t.Errorf("counter %d: %v, %v", c.Sample.Counter, answers[i], failures[i])
		}
	}
}

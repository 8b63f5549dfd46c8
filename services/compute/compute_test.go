package compute_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/tlog"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
	"github.com/lacre-metrology/lacre/platform/rpcclient"
	"github.com/lacre-metrology/lacre/platform/rpcserver"
	"github.com/lacre-metrology/lacre/services/compute"
)

var quiet = slog.New(slog.DiscardHandler)

// bench is an endorser that follows a ledger in memory and is asked by its
// gateway.
type bench struct {
	t       *testing.T
	ctx     context.Context // bounds every wait
	ledger  *ledgertest.Ledger
	config  compute.Config
	service *compute.Service
	stop    func()
	client  computev1.ComputeServiceClient // as the gateway
	meter   *statetest.Meter
	module  []byte
	node    statetest.Node
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newBench(t *testing.T, replicas ...func(*ledgertest.Replica)) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, module: read(t, "constant.wasm"), ledger: ledgertest.New(t, statetest.Options{})}
	dir := t.TempDir()
	var gateway statetest.Node
	b.ledger.Do(func(n *statetest.Network) {
		n.Module, n.Algorithm = b.module, digest.Plain(b.module)
		n.Approve()
		b.meter = n.Register("meter-01")
		b.node, gateway = n.Endorsers[0], n.Gateway
		b.config = compute.Config{NodeID: b.node.ID, TLSKey: filepath.Join(dir, "tls.pem"), SigningKey: filepath.Join(dir, "signing.pem"),
			Modules: filepath.Join(dir, "modules"), Server: rpcserver.Config{Listen: "127.0.0.1:0"}, Ledger: follower.Config{NetworkID: n.ID.String()}}
	})
	if err := errors.Join(identity.WriteKey(b.config.TLSKey, ledgertest.TLSKey(b.node.ID)), identity.WriteKey(b.config.SigningKey, b.node.Key)); err != nil {
		t.Fatal(err)
	}
	b.ledger.TLS(t, gateway)
	if len(replicas) == 0 {
		replicas = append(replicas, func(*ledgertest.Replica) {})
	}
	for i, configure := range replicas {
		r := b.ledger.Serve(t, "replica-"+string(rune('a'+i)), configure)
		b.config.Ledger.Replicas = append(b.config.Ledger.Replicas, follower.Endpoint{Address: r.Address, SPKI: r.SPKI})
	}
	b.start()
	return b
}

// start runs the service from its configuration, also once more.
func (b *bench) start() {
	b.t.Helper()
	var err error
	if b.service, err = compute.New(b.ctx, b.config, quiet); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.service.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
	b.stop = sync.OnceFunc(func() { cancel(); <-done })
	b.t.Cleanup(b.stop)
	connection := b.dial("gateway-00")
	b.client = computev1.NewComputeServiceClient(connection)
	watching, cancelWatch := context.WithCancel(b.ctx)
	defer cancelWatch()
	watch, err := healthv1.NewHealthClient(connection).Watch(watching, &healthv1.HealthCheckRequest{Service: "lacre.compute.v1.ComputeService"})
	for err == nil {
		var response *healthv1.HealthCheckResponse
		if response, err = watch.Recv(); response.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return
		}
	}
	b.t.Fatal(err)
}

func (b *bench) dial(as string) *grpc.ClientConn {
	b.t.Helper()
	server, err := identity.NewNode(ledgertest.TLSKey(b.node.ID))
	if err != nil {
		b.t.Fatal(err)
	}
	var own *identity.Node
	if as != "" {
		if own, err = identity.NewNode(ledgertest.TLSKey(as)); err != nil {
			b.t.Fatal(err)
		}
	}
	connection, err := rpcclient.Dial(b.service.Addr().String(), rpcclient.Options{Node: own, Server: identity.Pin(server.SPKI()), Logger: quiet})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func (b *bench) install(module []byte) error {
	_, err := b.client.InstallAlgorithm(b.ctx, &computev1.InstallAlgorithmRequest{Module: module})
	return err
}

func (b *bench) capture(change ...func(*sample.Header)) (s *computev1.SignedSample) {
	b.ledger.Do(func(*statetest.Network) {
		c := b.meter.Peek(change...)
		s = &computev1.SignedSample{Header: c.Sample.Bytes, Signature: c.Signature, RawVector: c.Raw}
	})
	return s
}

func (b *bench) endorse(samples ...*computev1.SignedSample) (*computev1.EndorseResponse, error) {
	id := digest.Plain(b.module)
	return b.client.Endorse(b.ctx, &computev1.EndorseRequest{Algorithm: id[:], Samples: samples})
}

func TestEndorsesWhatTheModuleGave(t *testing.T) {
	b := newBench(t)
	if _, err := b.endorse(b.capture()); reason.Of(err) != reason.NotInstalled {
		t.Fatalf("before the installation: %v", err)
	}
	if err := b.install(b.module); err != nil {
		t.Fatal(err)
	}
	if err := b.install(b.module); err != nil {
		t.Errorf("the same module again: %v", err)
	}
	check := func() {
		t.Helper()
		response, err := b.endorse(b.capture(), b.capture(func(h *sample.Header) { h.StatusFlags = 1 }))
		if err != nil {
			t.Fatal(err)
		}
		var hashes []digest.Digest
		for _, o := range response.GetOutcomes() {
			c, err := claim.Parse(o.GetClaim())
			if err != nil {
				t.Fatalf("%v: %v", o, err)
			}
			// The digest of the module that ran is bound into every claim.
			if c.Algorithm != digest.Plain(b.module) || c.Registration != b.meter.Registration || !bytes.Equal(c.Result, statetest.Result(0, 83_512, 4_200, 1)) || c.FuelUsed == 0 {
				t.Errorf("claim %+v", c)
			}
			hashes = append(hashes, claim.Hash(o.GetClaim()))
		}
		key, err := signature.KeyOf(signature.Ed25519ZIP215, b.node.Key.Public())
		if err != nil {
			t.Fatal(err)
		}
		network := digest.Digest{}
		b.ledger.Do(func(n *statetest.Network) { network = n.ID })
		if !signature.Verify(key.Kind(), key, claim.EndorsementMessage(network, digest.Plain(b.module), hashes), response.GetSignature()) {
			t.Error("the endorsement does not verify")
		}
		if response.GetNodeId() != b.node.ID || response.GetCertifiedHeight() != b.ledger.Height() {
			t.Errorf("by %s at height %d", response.GetNodeId(), response.GetCertifiedHeight())
		}
	}
	check()
	// After a restart the module is still there.
	b.stop()
	b.start()
	check()
	list, err := computev1.NewComputeServiceClient(b.dial("")).ListAlgorithms(b.ctx, &computev1.ListAlgorithmsRequest{})
	if err != nil || len(list.GetAlgorithms()) != 1 || !bytes.Equal(list.GetAlgorithms()[0].GetAlgorithm(), digest.Plain(b.module).Bytes()) {
		t.Errorf("loaded: %v, %v", list, err)
	}
}

func TestBadInput(t *testing.T) {
	b := newBench(t)
	if err := b.install(b.module); err != nil {
		t.Fatal(err)
	}
	altered := func(change func(s *computev1.SignedSample)) *computev1.SignedSample {
		s := b.capture()
		change(s)
		return s
	}
	// A meter that is registered for another module.
	var foreign *computev1.SignedSample
	b.ledger.Do(func(n *statetest.Network) {
		key := statetest.Key("other meter")
		other := read(t, "minimal.wasm")
		n.Module, n.Algorithm = other, digest.Plain(other)
		n.Approve()
		c := n.RegisterWith("meter-02", key).Capture()
		foreign = &computev1.SignedSample{Header: c.Sample.Bytes, Signature: c.Signature, RawVector: c.Raw}
		n.Module, n.Algorithm = b.module, digest.Plain(b.module)
	})
	b.awaitHeight()
	for _, c := range []struct {
		name string
		bad  *computev1.SignedSample
		want reason.Reason
	}{
		{"no bytes", altered(func(s *computev1.SignedSample) { s.Header = nil }), reason.Malformed},
		{"malformed", altered(func(s *computev1.SignedSample) { s.Header = []byte{0x0a, 3, 1, 2, 3} }), reason.Malformed},
		{"not canonical", altered(func(s *computev1.SignedSample) { s.Header = append(s.Header, 0xf8, 0x07, 0x00) }), reason.NotCanonical},
		{"oversized header", altered(func(s *computev1.SignedSample) { s.Header = make([]byte, sample.MaxHeaderBytes+1) }), reason.TooLarge},
		{"oversized vector", altered(func(s *computev1.SignedSample) { s.RawVector = make([]byte, record.MaxRawVectorBytes+1) }), reason.TooLarge},
		{"unsigned", altered(func(s *computev1.SignedSample) { s.Signature = nil }), reason.Unsigned},
		{"wrongly signed", altered(func(s *computev1.SignedSample) { s.Signature[3] ^= 1 }), reason.BadSignature},
		{"another's signature", altered(func(s *computev1.SignedSample) { s.Signature = foreign.Signature }), reason.BadSignature},
		{"another network's", b.capture(func(h *sample.Header) { h.NetworkID[0] ^= 1 }), reason.WrongNetwork},
		{"unknown meter", b.capture(func(h *sample.Header) { h.MeterID = "meter-99" }), reason.UnknownMeter},
		{"wrong algorithm", foreign, reason.WrongAlgorithm},
		{"wrong channel count", b.capture(func(h *sample.Header) { h.Channels = 3 }), reason.WrongChannelCount},
		{"wrong sample rate", b.capture(func(h *sample.Header) { h.SampleRateMillihertz++ }), reason.WrongSampleRate},
		{"digest mismatch", altered(func(s *computev1.SignedSample) { s.RawVector[3] ^= 1 }), reason.DigestMismatch},
		{"a vector of another length", b.capture(func(h *sample.Header) { h.SamplesPerChannel = 5 }), reason.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			// In a batch with a good one, which it must not harm.
			response, err := b.endorse(c.bad, b.capture())
			if err != nil {
				t.Fatal(err)
			}
			got := response.GetOutcomes()[0]
			if reason.Reason(got.GetReason()) != c.want || got.GetDetail() == "" || len(got.GetClaim()) > 0 {
				t.Errorf("got %v, want %s", got, c.want)
			}
			if len(response.GetOutcomes()[1].GetClaim()) == 0 {
				t.Errorf("the good sample: %v", response.GetOutcomes()[1])
			}
		})
	}
	for name, c := range map[string]struct {
		request *computev1.EndorseRequest
		want    reason.Reason
	}{
		"no samples":           {&computev1.EndorseRequest{Algorithm: digest.Plain(b.module).Bytes()}, reason.Malformed},
		"too many samples":     {&computev1.EndorseRequest{Algorithm: digest.Plain(b.module).Bytes(), Samples: slices.Repeat([]*computev1.SignedSample{{}}, record.MaxClaims+1)}, reason.Malformed},
		"no algorithm":         {&computev1.EndorseRequest{Samples: []*computev1.SignedSample{b.capture()}}, reason.Malformed},
		"an unknown algorithm": {&computev1.EndorseRequest{Algorithm: make([]byte, 32), Samples: []*computev1.SignedSample{b.capture()}}, reason.UnknownAlgorithm},
	} {
		if _, err := b.client.Endorse(b.ctx, c.request); reason.Of(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// awaitHeight returns when the endorser follows the newest block.
func (b *bench) awaitHeight() {
	b.t.Helper()
	for b.ctx.Err() == nil {
		response, err := b.endorse(b.capture())
		if err == nil && response.GetCertifiedHeight() >= b.ledger.Height() {
			return
		}
	}
	b.t.Fatal("the endorser does not catch up")
}

func TestWithdrawnAlgorithmIsRunNoMore(t *testing.T) {
	b := newBench(t)
	if err := b.install(b.module); err != nil {
		t.Fatal(err)
	}
	b.ledger.Do(func(n *statetest.Network) {
		n.Accept(n.Sign(&recordv1.AlgorithmStatus{Header: n.Header(record.SubjectAlgorithm(n.Algorithm)), Algorithm: n.Algorithm.Bytes(),
			Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW}, statetest.Body()))
	})
	for b.ctx.Err() == nil {
		_, err := b.endorse(b.capture())
		if reason.Of(err) == reason.AlgorithmNotInForce {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("a withdrawn algorithm still runs")
}

// The paper's attack 2: a module that no approval names is refused, and the
// attempt is on the ledger, once.
func TestRefusedInstallationIsRecorded(t *testing.T) {
	b := newBench(t)
	tampered := bytes.Clone(b.module)
	tampered[len(tampered)-1] ^= 1
	for range 2 {
		if err := b.install(tampered); reason.Of(err) != reason.UnknownAlgorithm {
			t.Fatalf("a tampered module: %v", err)
		}
	}
	// An approved one that breaks the profile.
	rubbish := []byte("approved, but no module")
	b.ledger.Do(func(n *statetest.Network) {
		n.Module, n.Algorithm = rubbish, digest.Plain(rubbish)
		n.Approve()
	})
	if err := b.install(rubbish); reason.Of(err) != reason.ProfileViolation {
		t.Errorf("rubbish: %v", err)
	}
	if err := b.install(make([]byte, 65<<10)); reason.Of(err) != reason.TooLarge {
		t.Errorf("an oversized module: %v", err)
	}
	events := b.ledger.AwaitEvents(b.ctx, t, 3)
	if len(events) != 3 {
		t.Errorf("%d events: %v", len(events), events)
	}
	for i, module := range [][]byte{tampered, rubbish, make([]byte, 65<<10)} {
		e := events[i]
		if e.GetKind() != recordv1.EventKind_EVENT_KIND_REFUSED_INSTALLATION || e.GetReporter() != b.node.ID ||
			e.GetSubject() != record.SubjectAlgorithm(digest.Plain(module)) || !strings.Contains(e.GetDetail(), "gateway-00") {
			t.Errorf("event %d: %v", i, e)
		}
	}
	files, err := os.ReadDir(b.config.Modules)
	if err != nil || len(files) != 0 {
		t.Errorf("kept %v: %v", files, err)
	}
}

// An approval that was certified a moment ago is waited for.
func TestInstallationWaitsForItsApproval(t *testing.T) {
	held := make(chan struct{})
	var once sync.Once
	b := newBench(t, func(r *ledgertest.Replica) {
		r.OnBlock = func(block *ledgerv1.StreamBlocksResponse) error {
			if block.GetHeight() == 4 {
				<-held // the endorser lags behind
			}
			return nil
		}
	})
	t.Cleanup(func() { once.Do(func() { close(held) }) })
	other := read(t, "minimal.wasm")
	b.ledger.Do(func(n *statetest.Network) {
		n.Module, n.Algorithm = other, digest.Plain(other)
		n.Approve()
	})
	if got := b.ledger.Height(); got != 4 {
		t.Fatalf("the approval is in block %d, the test wants 4", got)
	}
	done := make(chan error, 1)
	go func() { done <- b.install(other) }()
	once.Do(func() { close(held) })
	if err := <-done; err != nil {
		t.Error(err)
	}
	if events := b.ledger.Events(t); len(events) != 0 {
		t.Errorf("recorded %v", events)
	}
}

// Who installs one module side by side gets one program.
func TestConcurrentInstallations(t *testing.T) {
	b := newBench(t)
	var installing sync.WaitGroup
	for range 8 {
		installing.Go(func() {
			if err := b.install(b.module); err != nil {
				t.Error(err)
			}
		})
	}
	installing.Wait()
	list, err := b.client.ListAlgorithms(b.ctx, &computev1.ListAlgorithmsRequest{})
	if err != nil || len(list.GetAlgorithms()) != 1 {
		t.Errorf("loaded: %v, %v", list, err)
	}
}

// A file that does not hold what its name says stops the endorser.
func TestDamagedModuleFile(t *testing.T) {
	b := newBench(t)
	if err := b.install(b.module); err != nil {
		t.Fatal(err)
	}
	b.stop()
	path := filepath.Join(b.config.Modules, digest.Plain(b.module).String()+".wasm")
	if err := os.WriteFile(path, read(t, "minimal.wasm"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := compute.New(b.ctx, b.config, quiet); reason.Of(err) != reason.DataLoss {
		t.Errorf("got %v", err)
	}
}

// A module on which the engines differed stays on the interpreter.
func TestDistrustSurvivesARestart(t *testing.T) {
	b := newBench(t)
	if err := b.install(b.module); err != nil {
		t.Fatal(err)
	}
	b.stop()
	if err := os.WriteFile(filepath.Join(b.config.Modules, digest.Plain(b.module).String()+".interpreter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	list, err := b.client.ListAlgorithms(b.ctx, &computev1.ListAlgorithmsRequest{})
	if err != nil || len(list.GetAlgorithms()) != 1 || !list.GetAlgorithms()[0].GetInterpreterOnly() {
		t.Errorf("loaded: %v, %v", list, err)
	}
}

// Compute accepts administrative records only under q valid cosignatures: a
// forged leader, whose own signature is good, gets nothing in; the next replica
// is asked.
func TestForgedLeader(t *testing.T) {
	forged := make(chan struct{}, 64)
	lie := func(r *ledgertest.Replica) {
		r.OnBlock = func(block *ledgerv1.StreamBlocksResponse) error {
			if block.GetHeight() == 0 {
				return nil
			}
			c, err := tlog.ParseCertificate(block.GetCertificate())
			if err != nil {
				return err
			}
			// The leader's own cosignature, as often as it likes, and no other's.
			alone, err := tlog.NewCertificate(c.Checkpoint, c.Log, c.Cosignatures[:1])
			if err != nil {
				return err
			}
			block.Certificate = alone.Text()
			select {
			case forged <- struct{}{}:
			default:
			}
			return nil
		}
	}
	b := newBench(t, lie, func(*ledgertest.Replica) {})
	if len(forged) == 0 {
		t.Fatal("the forged leader was never asked")
	}
	if err := b.install(b.module); err != nil {
		t.Errorf("the approval came from the honest replica: %v", err)
	}
	// With the forger alone an endorser is not ready and knows nobody.
	dir := t.TempDir()
	c := b.config
	c.Modules = filepath.Join(dir, "modules")
	forger := b.ledger.Serve(t, "forger", lie)
	c.Ledger.Replicas = []follower.Endpoint{{Address: forger.Address, SPKI: forger.SPKI}}
	b.stop()
	b.config = c
	service, err := compute.New(b.ctx, c, quiet)
	if err != nil {
		t.Fatal(err)
	}
	b.service = service
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	for len(forged) > 0 {
		<-forged
	}
	<-forged // it was fed
	<-forged // and once more, after the follower had left it
	health, err := healthv1.NewHealthClient(b.dial("")).Check(b.ctx, &healthv1.HealthCheckRequest{Service: "lacre.compute.v1.ComputeService"})
	if err != nil || health.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health with a forged leader alone: %v, %v", health, err)
	}
	id := digest.Plain(b.module)
	if _, err := computev1.NewComputeServiceClient(b.dial("gateway-00")).Endorse(b.ctx, &computev1.EndorseRequest{Algorithm: id[:], Samples: []*computev1.SignedSample{b.capture()}}); err == nil {
		t.Error("endorsed on a forged leader's word")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestN1_OnlyGatewaysAreServed(t *testing.T) {
	b := newBench(t)
	for _, as := range []string{"", "stranger"} {
		client := computev1.NewComputeServiceClient(b.dial(as))
		if _, err := client.Endorse(b.ctx, &computev1.EndorseRequest{}); reason.Of(err) != reason.PermissionDenied {
			t.Errorf("%q endorses: %v", as, err)
		}
		if _, err := client.InstallAlgorithm(b.ctx, &computev1.InstallAlgorithmRequest{Module: b.module}); reason.Of(err) != reason.PermissionDenied {
			t.Errorf("%q installs: %v", as, err)
		}
	}
	if events := b.ledger.Events(t); len(events) != 0 {
		t.Errorf("strangers can fill the ledger: %v", events)
	}
}

func TestReflection(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(b.dial("")).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil || !strings.Contains(response.String(), "lacre.compute.v1.ComputeService") {
		t.Errorf("%v, %v", response, err)
	}
}

func TestConfigReportsEveryMistake(t *testing.T) {
	err := (&compute.Config{NodeID: hex.EncodeToString([]byte{255}) + "!"}).Validate()
	for _, want := range []string{"node_id", "tls_key", "signing_key", "modules"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among: %v", want, err)
		}
	}
}

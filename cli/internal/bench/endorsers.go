package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/lacre-metrology/lacre/algorithms/speed"
	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/claim"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	computev1 "github.com/lacre-metrology/lacre/gen/lacre/compute/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/identity"
)

// EndorserOptions are the settings of a run of endorsers alone: how the gateway
// calls them, beside those of the network and its meters.
type EndorserOptions struct {
	Options
	Batch    int `json:"batch"`     // samples in a call
	InFlight int `json:"in_flight"` // calls on their way to each endorser
}

// EndorserDefaults are the largest batch that the gateway makes, and how many it
// has on their way, to one endorser of a network of one replica.
func EndorserDefaults() EndorserOptions {
	o := EndorserOptions{Options: Defaults(), Batch: 512, InFlight: 2}
	o.Network = devnet.Shape{Replicas: 1, Endorsers: 1}
	o.Endorsements = 1
	return o
}

// Check names every wrong setting.
func (o EndorserOptions) Check() error {
	var faults []error
	if o.Batch < 1 || o.Batch > record.MaxClaims {
		faults = append(faults, fmt.Errorf("batches of %d samples, want 1 to %d", o.Batch, record.MaxClaims))
	}
	if o.InFlight < 1 {
		faults = append(faults, fmt.Errorf("%d calls in flight, want 1 or more", o.InFlight))
	}
	return errors.Join(append(faults, o.Options.Check())...)
}

// endorsing is the load on endorsers.
type endorsing struct {
	run       *run
	options   EndorserOptions
	latencies *latencies
	window    window
	endorsers []*endorser
	next      atomic.Uint64 // meter

	mu       sync.Mutex // guards the rest
	failures int64
	examples []string
}

// endorser is one of them.
type endorser struct {
	node       devnet.Node
	key        signature.Key // of its endorsements
	connection *grpc.ClientConn
	claims     atomic.Int64 // within the window
}

// Endorsers loads endorsers as the gateway calls them, over gRPC and mTLS, with
// fresh signed samples of registered meters, and counts the claims in answers
// whose signature verified. Nothing goes to the ledger.
func Endorsers(ctx context.Context, o EndorserOptions) (report *EndorsersReport, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	err = within(ctx, o.Options, func(ctx context.Context, r *run) error {
		e := &endorsing{run: r, options: o, latencies: newLatencies()}
		defer e.close()
		if err := e.dial(); err != nil {
			return err
		}
		report, err = e.measure(ctx)
		return err
	})
	return report, err
}

// dial connects to every endorser as the gateway that contracted it.
func (e *endorsing) dial() error {
	gateway, err := e.run.network.NodeIdentity(devnet.Gateway)
	if err != nil {
		return err
	}
	for _, node := range e.run.network.ByRole(recordv1.Role_ROLE_ENDORSER) {
		signing, err := identity.ReadKey(filepath.Join(e.run.network.NodeDir(node.ID), "signing.pem"))
		if err != nil {
			return err
		}
		key, err := signature.KeyOf(signature.Ed25519ZIP215, signing.Public())
		if err != nil {
			return err
		}
		connection, err := e.run.network.Dial(node.ID, gateway)
		if err != nil {
			return err
		}
		e.endorsers = append(e.endorsers, &endorser{node: node, key: key, connection: connection})
	}
	return nil
}

func (e *endorsing) close() {
	for _, one := range e.endorsers {
		_ = one.connection.Close() // everything was answered
	}
}

// measure loads them from warm-up to the last answer, and reports.
func (e *endorsing) measure(ctx context.Context) (*EndorsersReport, error) {
	o := e.options
	start := time.Now()
	e.window = window{from: start.Add(o.Warmup), until: start.Add(o.Warmup + o.Duration)}
	sending, stop := context.WithDeadline(ctx, e.window.until)
	defer stop()
	draining, giveUp := context.WithDeadline(ctx, e.window.until.Add(o.Drain))
	defer giveUp()
	g := &gauge{run: e.run}
	l := &load{run: e.run, window: e.window}
	edges := make(chan error, 1)
	go func() { edges <- l.edges(sending, draining, func() error { return g.begin(ctx) }, g.end) }()
	var working sync.WaitGroup
	for _, one := range e.endorsers {
		for range o.InFlight {
			working.Go(func() {
				for sending.Err() == nil {
					e.batch(draining, one)
				}
			})
		}
	}
	working.Wait()
	if err := <-edges; err != nil {
		return nil, err
	}
	return e.report(g)
}

// batch has one batch endorsed, of samples by one meter after the other.
func (e *endorsing) batch(ctx context.Context, one *endorser) {
	module := digest.Plain(speed.Module())
	request := &computev1.EndorseRequest{Algorithm: module[:]}
	for len(request.Samples) < e.options.Batch {
		s := e.run.senders[(e.next.Add(1)-1)%uint64(len(e.run.senders))]
		shot, err := s.sign(e.run.vectors.take(), e.run.head.newest())
		if err != nil {
			e.fail("meter %s: %v", s.id, err)
			return
		}
		request.Samples = append(request.Samples, signedSample(shot))
	}
	began := time.Now()
	response, err := computev1.NewComputeServiceClient(one.connection).Endorse(ctx, request)
	now := time.Now()
	if err != nil {
		e.fail("endorser %s: %v", one.node.ID, err)
		return
	}
	claims, err := e.judge(one, module, len(request.Samples), response)
	if err != nil {
		e.fail("endorser %s: %v", one.node.ID, err)
	}
	if e.window.has(now) {
		one.claims.Add(int64(claims))
		e.latencies.record(now.Sub(began))
	}
}

// signedSample is a shot as an endorser takes it.
func signedSample(s *shot) *computev1.SignedSample {
	return &computev1.SignedSample{Header: s.request.GetHeader(), Signature: s.request.GetSignature(), RawVector: s.request.GetRawVector()}
}

// judge counts the claims of an answer that holds.
func (e *endorsing) judge(one *endorser, module digest.Digest, samples int, response *computev1.EndorseResponse) (int, error) {
	if len(response.GetOutcomes()) != samples {
		return 0, fmt.Errorf("%d outcomes for %d samples", len(response.GetOutcomes()), samples)
	}
	var hashes []digest.Digest
	var failures []error
	for i, o := range response.GetOutcomes() {
		if len(o.GetClaim()) == 0 {
			failures = append(failures, fmt.Errorf("sample %d of %d is refused with %s: %s", i+1, samples, o.GetReason(), o.GetDetail()))
			continue
		}
		hashes = append(hashes, claim.Hash(o.GetClaim()))
	}
	if !signature.Verify(one.key.Kind(), one.key, claim.EndorsementMessage(e.run.networkID, module, hashes), response.GetSignature()) {
		return 0, errors.Join(append(failures, fmt.Errorf("its signature over %d claims does not verify", len(hashes)))...)
	}
	return len(hashes), errors.Join(failures...)
}

func (e *endorsing) fail(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures++
	if len(e.examples) < maxExamples {
		e.examples = append(e.examples, fmt.Sprintf(format, args...))
	}
}

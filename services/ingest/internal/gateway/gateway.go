// Package gateway carries samples from meters to the ledger: it batches them,
// has them endorsed, compares the endorsers' claims, and submits measurements.
//
// Source: architecture, "The path of one measurement" step 2, rules N2 and S3;
// the paper, section VI-C.
//
// Invariants:
//   - The gateway is trusted with nothing: it can delay or drop, never forge. It
//     checks what it can cheaply, so that honest meters get early answers.
//   - Every sample gets exactly one answer: a receipt, a refusal, or pending when
//     the caller's time is over.
//   - Memory is bounded by the bytes of raw vectors held; what does not fit is
//     refused with OVERLOADED and a delay.
package gateway

import (
	"context"
	"crypto"
	"log/slog"
	"sync"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/state"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
)

// Ledger is the certified ledger, as the gateway sees it.
type Ledger interface {
	Snapshot() (*follower.Snapshot, error)
	Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error)
	Report(ctx context.Context, signer crypto.Signer, report *recordv1.EventReport) error
}

// Answer is what became of a sample: a receipt, or an error with a reason.
type Answer struct {
	Receipt []byte
	Err     error
}

// Sample is a meter's sample on its way.
type Sample struct {
	Parsed    *sample.Sample
	Signature []byte
	Raw       []byte

	once sync.Once
	done chan Answer // buffered
}

func (s *Sample) answer(a Answer) { s.once.Do(func() { s.done <- a }) }

// Gateway is safe for concurrent use.
type Gateway struct {
	networkID digest.Digest
	nodeID    string
	signer    crypto.Signer // signs events
	ledger    Ledger
	endorsers Endorsers
	log       *slog.Logger
	room      room
	limits    *limits

	life context.Context // batches outlive the calls that brought them

	mu       sync.Mutex
	batchers map[digest.Digest]*batcher
}

// New makes a gateway whose batches end with life.
func New(life context.Context, networkID digest.Digest, nodeID string, signer crypto.Signer, ledger Ledger, endorsers Endorsers, log *slog.Logger) *Gateway {
	return &Gateway{networkID: networkID, nodeID: nodeID, signer: signer, ledger: ledger, endorsers: endorsers, log: log,
		limits: newLimits(), life: life, batchers: make(map[digest.Digest]*batcher)}
}

// Submit takes a sample and returns its identity and a channel that gives its
// answer. An error means that the sample was refused at the door.
func (g *Gateway) Submit(request *ingestv1.SubmitRequest) (digest.Digest, <-chan Answer, error) {
	if g.life.Err() != nil {
		return digest.Zero, nil, stopping()
	}
	parsed, err := sample.Parse(request.GetHeader())
	if err != nil {
		return digest.Zero, nil, err
	}
	s := &Sample{Parsed: parsed, Signature: request.GetSignature(), Raw: request.GetRawVector(), done: make(chan Answer, 1)}
	algorithm, err := g.admit(s)
	if err != nil {
		return parsed.Digest, nil, err
	}
	if err := g.room.take(len(s.Raw)); err != nil {
		return parsed.Digest, nil, err
	}
	g.batcher(algorithm).add(g.life, s)
	return parsed.Digest, s.done, nil
}

// admit checks what a gateway can check for little: form, size, network,
// meter, and the meter's rate.
func (g *Gateway) admit(s *Sample) (digest.Digest, error) {
	h := &s.Parsed.Header
	if h.NetworkID != g.networkID {
		return digest.Zero, reason.New(reason.WrongNetwork, "sample is for network %s, this is %s", h.NetworkID.Short(), g.networkID.Short())
	}
	if len(s.Raw) > record.MaxRawVectorBytes {
		return digest.Zero, reason.New(reason.TooLarge, "raw vector has %d bytes, the limit is %d", len(s.Raw), record.MaxRawVectorBytes)
	}
	if got := sample.DigestRaw(s.Raw); got != h.RawDigest {
		return digest.Zero, reason.New(reason.DigestMismatch, "raw vector has digest %s, the header names %s", got.Short(), h.RawDigest.Short())
	}
	snapshot, err := g.ledger.Snapshot()
	if err != nil {
		return digest.Zero, err
	}
	meter, err := state.GetMeter(snapshot, h.MeterID)
	if err != nil {
		return digest.Zero, err
	}
	if meter == nil {
		return digest.Zero, reason.New(reason.UnknownMeter, "meter %q is not registered", h.MeterID)
	}
	if err := g.limits.take(h.MeterID); err != nil {
		return digest.Zero, err
	}
	registration := new(recordv1.MeterRegistration)
	if err := record.Decode(meter.GetRegistrationPayload(), record.MaxBytes, registration); err != nil {
		return digest.Zero, err
	}
	return digest.FromBytes(registration.GetAlgorithm())
}

func (g *Gateway) batcher(algorithm digest.Digest) *batcher {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.batchers[algorithm]
	if b == nil {
		b = &batcher{algorithm: algorithm, send: g.process}
		g.batchers[algorithm] = b
	}
	return b
}

// Head is the newest certified block that the gateway knows.
func (g *Gateway) Head() (*follower.Snapshot, error) { return g.ledger.Snapshot() }

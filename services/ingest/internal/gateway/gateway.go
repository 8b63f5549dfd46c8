// Package gateway carries samples from meters to the ledger: it batches them,
// has them endorsed, compares the endorsers' claims, and submits measurements.
//
// Source: architecture, "The path of one measurement" step 2, rules N2 and S3;
// the paper, section VI-C.
//
// Invariants:
//   - The gateway is trusted with nothing: it can delay or drop, never forge. It
//     checks what it can cheaply, so that honest meters get early answers.
//   - Every sample that Submit took gets exactly one answer, a stopping gateway's
//     too: a receipt, or an error with a reason.
//   - A reason that is permanent was given for the sample itself, by the policy's
//     number of endorsers or by the ledger; never because one endorser or replica
//     failed or lied.
//   - Memory is bounded by the bytes of the samples held; what does not fit is
//     refused with OVERLOADED and a delay.
package gateway

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	ledgerv1 "github.com/lacre-metrology/lacre/gen/lacre/ledger/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/follower"
	"github.com/lacre-metrology/lacre/platform/tracing"
)

// drainGrace is how long a stopping gateway waits for samples on their way.
const drainGrace = 5 * time.Second

// Ledger is the certified ledger, as the gateway sees it.
type Ledger interface {
	Snapshot() (*follower.Snapshot, error)
	// Wait returns the first snapshot at or above a height.
	Wait(ctx context.Context, height uint64) (*follower.Snapshot, error)
	// Submit's answer has an outcome for each record.
	Submit(ctx context.Context, request *ledgerv1.SubmitRequest) (*ledgerv1.SubmitResponse, error)
}

// Events records security events; Report does not wait for the ledger.
type Events interface {
	Report(report *recordv1.EventReport) error
}

// Answer is what became of a sample: a receipt, or an error with a reason.
type Answer struct {
	Sample  digest.Digest // its identity
	Receipt []byte
	Err     error
}

// Sample is a meter's sample on its way. One goroutine owns it at a time: the
// batch that it is in.
type Sample struct {
	Parsed    *sample.Sample
	Signature []byte
	Raw       []byte

	size        int                  // in bytes, for the bounds
	queued      time.Time            // when it began to wait for a batch
	span        tracing.Span         // from here to its answer
	tries       int                  // rounds that did not settle it
	disputed    bool                 // a disagreement on it was reported
	disposition recordv1.Disposition // as submitted last
	settle      func()               // gives back what the sample holds
	once        sync.Once
	tell        func(Answer) // called once
}

func (s *Sample) answer(a Answer) {
	s.once.Do(func() {
		s.span.End(a.Err)
		a.Sample = s.Parsed.Digest
		s.tell(a)
		s.settle()
	})
}

// Gateway is safe for concurrent use. Make it with New and drive it with Run.
type Gateway struct {
	networkID  digest.Digest
	nodeID     string
	ledger     Ledger
	events     Events
	contacts   []*contact
	turn       atomic.Uint32 // of the endorser that is asked first
	hesitation time.Duration // hesitation but in tests
	log        *slog.Logger
	room       room
	limits     *limits
	counts     counts
	Traces     *tracing.Traces          // set before Run; nil when they are off
	Took       func(took time.Duration) // set before Run: told how long each answer took; may be nil

	life     context.Context // batches outlive the calls that brought them
	end      context.CancelFunc
	stopping chan struct{} // closed when no sample is taken any more

	mu       sync.Mutex // guards the rest
	stopped  bool
	open     sync.WaitGroup // samples without an answer; Add under mu while not stopped
	batchers map[digest.Digest]*batcher
}

// New makes a gateway. There are at most MaxEndorsers endorsers.
func New(networkID digest.Digest, nodeID string, ledger Ledger, events Events, endorsers []Endorser, log *slog.Logger) *Gateway {
	g := &Gateway{networkID: networkID, nodeID: nodeID, ledger: ledger, events: events, hesitation: hesitation, log: log,
		limits: newLimits(), stopping: make(chan struct{}), batchers: make(map[digest.Digest]*batcher)}
	for _, e := range endorsers {
		g.contacts = append(g.contacts, &contact{Endorser: e})
	}
	g.life, g.end = context.WithCancel(context.Background())
	return g
}

// Stopping is closed when the gateway takes no more samples; what it took is
// still answered.
func (g *Gateway) Stopping() <-chan struct{} { return g.stopping }

// Run waits for ctx to end. Then it refuses new samples, gives those on their
// way some time, and answers the rest with NOT_READY.
func (g *Gateway) Run(ctx context.Context) error {
	<-ctx.Done()
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	close(g.stopping)
	cut := time.AfterFunc(drainGrace, g.end)
	defer cut.Stop()
	g.open.Wait()
	g.end()
	return ctx.Err()
}

// Submit takes a sample and returns its identity. tell is told its answer once,
// maybe before Submit returns, and must not wait: the other samples of a batch
// are answered after it. source has a limit of rate. An error means that the
// sample was refused at the door; tell is not told then.
func (g *Gateway) Submit(source Source, request *ingestv1.SubmitRequest, tell func(Answer)) (digest.Digest, error) {
	parsed, err := sample.Parse(request.GetHeader())
	if err != nil {
		// The identity is told even of what is no header: answers of a stream are
		// keyed by it.
		return digest.Of(digest.Sample, envelope.PAE(sample.PayloadType, request.GetHeader())), err
	}
	id := parsed.Digest
	if err := sample.CheckSignatureForm(request.GetSignature()); err != nil {
		return id, err
	}
	s := &Sample{
		Parsed: parsed, Signature: request.GetSignature(), Raw: request.GetRawVector(), tell: tell,
		size: len(request.GetHeader()) + len(request.GetRawVector()) + overhead,
	}
	algorithm, err := g.admit(source, s)
	if err != nil {
		return id, err
	}
	if err := g.room.take(s.size); err != nil {
		return id, err
	}
	b, err := g.begin(s, algorithm)
	if err != nil {
		return id, err
	}
	g.trace(s, request.GetTraceparent())
	b.add(s)
	return id, nil
}

// begin owes the sample an answer from now on, unless the gateway is stopping or
// its queue is too long.
func (g *Gateway) begin(s *Sample, algorithm digest.Digest) (*batcher, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		g.room.free(s.size)
		return nil, stopping()
	}
	taken := time.Now()
	b := g.batchers[algorithm]
	if b == nil {
		b = &batcher{algorithm: algorithm, send: g.process}
		g.batchers[algorithm] = b // as many as registrations name, so bounded by the ledger
	}
	if err := b.full(taken); err != nil {
		g.room.free(s.size)
		return nil, err
	}
	g.open.Add(1)
	g.counts.taken.Add(1)
	s.settle = func() {
		g.counts.answered.Add(1)
		if g.Took != nil {
			g.Took(time.Since(taken))
		}
		g.room.free(s.size)
		g.open.Done()
	}
	return b, nil
}

// admit checks what a gateway can check for little: form, size, network, meter,
// the source's rate, and the raw vector's digest.
func (g *Gateway) admit(source Source, s *Sample) (digest.Digest, error) {
	h := &s.Parsed.Header
	if h.NetworkID != g.networkID {
		return digest.Zero, reason.New(reason.WrongNetwork, "sample is for network %s, this is %s", h.NetworkID.Short(), g.networkID.Short())
	}
	if len(s.Raw) > record.MaxRawVectorBytes {
		return digest.Zero, reason.New(reason.TooLarge, "raw vector has %d bytes, the limit is %d", len(s.Raw), record.MaxRawVectorBytes)
	}
	if len(s.Signature) != signature.Size {
		return digest.Zero, reason.New(reason.BadSignature, "the signature has %d bytes, want %d", len(s.Signature), signature.Size)
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
	if err := g.limits.take(source, h.MeterID); err != nil {
		return digest.Zero, err
	}
	if got := sample.DigestRaw(s.Raw); got != h.RawDigest {
		return digest.Zero, reason.New(reason.DigestMismatch, "raw vector has digest %s, the header names %s", got.Short(), h.RawDigest.Short())
	}
	parameters, err := state.GetParameters(snapshot, meter, h.CapturedAtUnixNano)
	if err != nil {
		return digest.Zero, err
	}
	return parameters.Algorithm, nil
}

// Head is the newest certified block that the gateway knows.
func (g *Gateway) Head() (*follower.Snapshot, error) { return g.ledger.Snapshot() }

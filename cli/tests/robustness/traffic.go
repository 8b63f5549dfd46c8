package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/sample"
	ingestv1 "github.com/lacre-metrology/lacre/gen/lacre/ingest/v1"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/platform/identity"
)

const (
	answerTimeout  = 10 * time.Second
	resendDelay    = 150 * time.Millisecond
	maxOutstanding = 60 // samples of one meter without an answer; then it waits
)

// acknowledged is a sample with a receipt that verified.
type acknowledged struct {
	slot
	sample  digest.Digest
	receipt []byte
	signed  time.Time
	at      time.Time
}

// traffic is what the meters do, and what they were told.
type traffic struct {
	network *network
	history *history
	known   atomic.Pointer[meter.KnownBlock]
	size    atomic.Uint64 // the largest certified tree that any receipt named

	mu         sync.Mutex
	acks       []acknowledged
	violations []string
	sent       int
	open       int // without an answer
}

func (t *traffic) violation(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.violations = append(t.violations, fmt.Sprintf(format, args...))
}

// chain is one meter as it signs: each sample names the one before.
type chain struct {
	*signer
	traffic    *traffic
	client     ingestv1.IngestServiceClient
	connection *grpc.ClientConn
	counter    uint64
	previous   digest.Digest
	capturedAt int64
}

// shot is a signed sample on its way.
type shot struct {
	slot
	id      digest.Digest
	request *ingestv1.SubmitRequest
	signed  time.Time
}

func (t *traffic) chain(s *signer) (*chain, error) {
	gateway, err := t.network.Node(devnet.Gateway)
	if err != nil {
		return nil, err
	}
	spki, err := digest.Parse(gateway.SPKI)
	if err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(gateway.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(s.tls.ClientTLS(identity.Pin(identity.SPKI(spki))))),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond}, MinConnectTimeout: 2 * time.Second}))
	if err != nil {
		return nil, err
	}
	return &chain{signer: s, traffic: t, connection: connection, client: ingestv1.NewIngestServiceClient(connection)}, nil
}

// chains are those of all meters; disconnect ends their connections.
func (t *traffic) chains() (chains []*chain, disconnect func(), err error) {
	disconnect = func() {
		for _, c := range chains {
			_ = c.connection.Close() // what it carried was answered, or is a violation
		}
	}
	for _, s := range t.network.meters {
		c, err := t.chain(s)
		if err != nil {
			disconnect()
			return nil, nil, err
		}
		chains = append(chains, c)
	}
	return chains, disconnect, nil
}

// sign makes a sample of the next counter without going on to it.
func (c *chain) sign(i uint64) (*shot, error) {
	known := c.traffic.known.Load()
	now := time.Now()
	n := c.traffic.network
	raw := n.vectors[i%vectorCount]
	header := &sample.Header{
		NetworkID: n.networkID, MeterID: c.id, Counter: c.counter + 1, Previous: c.previous,
		CapturedAtUnixNano: max(now.UnixNano(), c.capturedAt), ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED,
		KnownHeight: known.Height, KnownBlock: known.Header,
		Channels: 2, SamplesPerChannel: uint32(n.samples[i%vectorCount]), SampleRateMillihertz: sampleRateMillihertz,
		Encoding: recordv1.Encoding_ENCODING_RICE, RawDigest: sample.DigestRaw(raw),
	}
	signed, signature, err := sample.Sign(c.key, header)
	if err != nil {
		return nil, err
	}
	return &shot{slot: slot{meter: c.id, counter: header.Counter}, id: signed.Digest, signed: now,
		request: &ingestv1.SubmitRequest{Header: signed.Bytes, Signature: signature, RawVector: raw}}, nil
}

// advance goes on behind a sample.
func (c *chain) advance(s *shot) {
	c.counter, c.previous, c.capturedAt = s.counter, s.id, s.signed.UnixNano()
}

// measure signs samples at a steady rate until ctx ends, whatever becomes of
// them; life bounds how long each is sent.
func (c *chain) measure(ctx, life context.Context, random *rand.Rand) error {
	var running sync.WaitGroup
	defer running.Wait()
	room := make(chan struct{}, maxOutstanding)
	for {
		if err := wait(ctx, time.Duration(100+random.IntN(200))*time.Millisecond); err != nil {
			return nil
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		s, err := c.sign(random.Uint64())
		if err != nil {
			return err
		}
		c.advance(s)
		running.Go(func() {
			defer func() { <-room }()
			if c.send(life, s) == lost {
				c.traffic.violation("%s counter %d: an honest sample was refused as a second one", s.meter, s.counter)
			}
		})
	}
}

// equivocate signs each counter twice, and sends both at once: one must win.
func (c *chain) equivocate(ctx, life context.Context, random *rand.Rand) error {
	for wait(ctx, time.Duration(200+random.IntN(400))*time.Millisecond) == nil {
		one, err := c.sign(0)
		if err != nil {
			return err
		}
		two, err := c.sign(1)
		if err != nil {
			return err
		}
		var fates [2]fate
		var both sync.WaitGroup
		for i, s := range []*shot{one, two} {
			both.Go(func() { fates[i] = c.send(life, s) })
		}
		both.Wait()
		switch {
		case fates[0] == accepted && fates[1] == accepted:
			c.traffic.violation("%s counter %d: two samples have a receipt, %s and %s", one.meter, one.counter, one.id, two.id)
			return nil
		case fates[0] == accepted:
			c.advance(one)
		case fates[1] == accepted:
			c.advance(two)
		default:
			return nil // nobody knows who won: the chain cannot go on
		}
	}
	return nil
}

// fate is what became of a sample.
type fate int

const (
	unanswered fate = iota
	accepted
	lost // another sample has its counter
)

// send sends a sample until it is answered.
func (c *chain) send(ctx context.Context, s *shot) fate {
	t := c.traffic
	t.mu.Lock()
	t.sent++
	t.open++
	t.mu.Unlock()
	client := t.history.begin(input{slot: s.slot, write: true, sample: s.id})
	fate := c.deliver(ctx, s)
	if fate != unanswered {
		t.history.end(client, output{lost: fate == lost})
		t.mu.Lock()
		t.open--
		t.mu.Unlock()
	}
	return fate
}

func (c *chain) deliver(ctx context.Context, s *shot) fate {
	for {
		call, cancel := context.WithTimeout(ctx, answerTimeout)
		response, err := c.client.Submit(call, s.request)
		cancel()
		if ctx.Err() != nil {
			return unanswered
		}
		delay := resendDelay
		switch answer := response.GetAnswer().(type) {
		case *ingestv1.SubmitResponse_Receipt:
			return c.take(s, answer.Receipt.GetReceipt())
		case *ingestv1.SubmitResponse_Refusal:
			if r := answer.Refusal; r.GetPermanent() {
				if r.GetReason() != string(reason.Equivocation) {
					c.traffic.violation("%s counter %d: refused for ever: %s: %s", s.meter, s.counter, r.GetReason(), r.GetDetail())
					return unanswered
				}
				return lost
			}
			delay = max(delay, time.Duration(answer.Refusal.GetRetryAfterMillis())*time.Millisecond)
		}
		if err != nil && reason.Of(err) == reason.DataLoss {
			c.traffic.violation("%s counter %d: answered with DATA_LOSS: %v", s.meter, s.counter, err)
		}
		if wait(ctx, delay) != nil {
			return unanswered
		}
	}
}

// take verifies a receipt and keeps it.
func (c *chain) take(s *shot, text []byte) fate {
	t := c.traffic
	r, err := t.network.receipt(text, s.id)
	if err != nil {
		t.violation("%s counter %d: a receipt that does not verify: %v", s.meter, s.counter, err)
		return unanswered
	}
	t.saw(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acks = append(t.acks, acknowledged{slot: s.slot, sample: s.id, receipt: text, signed: s.signed, at: time.Now()})
	return accepted
}

// saw remembers how far a client knows the ledger to be certified.
func (t *traffic) saw(r *receipt.Receipt) {
	size := r.Proof.Certificate.Checkpoint.Size
	for old := t.size.Load(); old < size && !t.size.CompareAndSwap(old, size); old = t.size.Load() {
	}
}

// head learns the newest block from the gateway, for the headers to name.
func (c *chain) head(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	response, err := c.client.GetHead(call, &ingestv1.GetHeadRequest{})
	if err != nil {
		return err
	}
	block, err := c.traffic.network.head(response.GetProof())
	if err != nil {
		c.traffic.violation("the gateway's head does not verify: %v", err)
		return err
	}
	// The ledger refuses a sample from before the block that it names (rule S2).
	if old := c.traffic.known.Load(); old == nil || block.Height > old.Height && !block.CertifiedAt.After(time.Now()) {
		c.traffic.known.Store(&block)
	}
	return nil
}

// follow keeps the newest block until ctx ends.
func (c *chain) follow(ctx context.Context) {
	for wait(ctx, time.Second) == nil {
		_ = c.head(ctx) // the gateway may be away
	}
}

var errNoHead = errors.New("the gateway gives no head")

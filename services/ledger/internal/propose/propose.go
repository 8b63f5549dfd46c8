// Package propose is the leader's block cutter: it gathers submissions and
// hands them to the ordering engine as proposals.
//
// Source: architecture, "The path of one measurement" step 4, rules C5 and C7.
//
// Invariants:
//   - A proposal holds submissions and one certificate, nothing derived (C5).
//   - The queue is bounded in submissions and in bytes; what does not fit is
//     refused with OVERLOADED at once, so that goodput stays flat.
//   - No proposal is made that would leave more than the network's limit of
//     blocks uncertified (C7); apply enforces the same bound against a leader
//     that does not keep it.
//   - Batching adapts by itself: an idle pipeline takes a submission at once,
//     a busy one groups what arrives in the meantime.
package propose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/core/wire"
	replicav1 "github.com/lacre-metrology/lacre/gen/lacre/replica/v1"
	"github.com/lacre-metrology/lacre/platform/rpcerror"
	"github.com/lacre-metrology/lacre/services/ledger/internal/certify"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// Version is the proposal format that this node writes and reads.
const Version = 1

const (
	maxQueued        = 4096     // submissions waiting
	maxQueuedBytes   = 64 << 20 // of these
	maxProposalBytes = 4 << 20  // a single larger submission still goes alone
	pipeline         = 4        // proposals on their way; ordering k while k-1 is applied and certified
	retryDelay       = 250 * time.Millisecond
	nudgeInterval    = 2 * time.Second
)

// Result is what became of one submission.
type Result struct {
	Height   uint64          // of its block
	Outcomes []state.Outcome // one for each record, in order
	Began    time.Time       // when this replica began to apply it
	Ended    time.Time       // when it was durable here
}

// Applied is what the state machine answers for one proposal.
type Applied struct {
	Height  uint64 // of the block, or of the newest one when the entry made none
	Results [][]state.Outcome
	Ignored error // why the entry made no block: propose again, with a newer certificate

	// When this replica began to apply the entry, and when it was durable: for those who measure; they decide nothing.
	Began, Ended time.Time
}

// Certificates is the collector, as the cutter sees it.
type Certificates interface {
	Fresh() certify.Certified
	Changed() <-chan struct{}
}

// Order is the ordering engine, as the cutter sees it.
type Order interface {
	Propose(ctx context.Context, entry []byte) ordering.Proposal
	Leader() (nodeID string, ok bool)
	IsLeader() bool
}

// Head is the newest applied block, and what bounds the blocks after it.
type Head struct {
	Height         uint64
	MaxUncertified uint32 // blocks that may run ahead of their certificates
	Config         bool   // it brought a configuration: nothing follows before its certificate (C6)
}

// last is the highest block that may be applied on a certificate of a height.
func (h Head) last(certified uint64) uint64 {
	if h.Config && certified < h.Height {
		return h.Height
	}
	return certified + uint64(h.MaxUncertified)
}

// Cutter is the leader's queue. Submit may be called from any goroutine.
type Cutter struct {
	order        Order
	certificates Certificates
	head         func() Head
	log          *slog.Logger

	queue  chan *item
	queued atomic.Int64 // bytes

	mu       sync.Mutex
	closed   bool // nothing enters the queue any more
	inFlight int
	stuckAt  uint64        // the applied height at the last nudge
	freed    chan struct{} // one token when a proposal ended
}

type item struct {
	submission *replicav1.Submission
	bytes      int
	alone      bool        // takes a proposal of its own
	done       chan answer // buffered
}

type answer struct {
	result Result
	err    error
}

// NewCutter makes a cutter; Run drives it.
func NewCutter(order Order, certificates Certificates, head func() Head, log *slog.Logger) *Cutter {
	return &Cutter{order: order, certificates: certificates, head: head, log: log,
		queue: make(chan *item, maxQueued), freed: make(chan struct{}, 1)}
}

// Submit queues a submission and waits until its block is applied here; the
// caller still waits for the certificate (rule C3). alone keeps others out of
// its proposal: a configuration must be alone in its block (rule C6). Errors:
// OVERLOADED with a delay, NOT_LEADER, or NOT_CERTIFIED when the outcome is not
// known (the same submission may be handed in again: records are idempotent).
func (c *Cutter) Submit(ctx context.Context, submission *replicav1.Submission, alone bool) (Result, error) {
	it := &item{submission: submission, bytes: proto.Size(submission), alone: alone, done: make(chan answer, 1)}
	if err := c.enqueue(it); err != nil {
		return Result{}, err
	}
	select {
	case a := <-it.done:
		return a.result, a.err
	case <-ctx.Done():
		return Result{}, reason.New(reason.NotCertified, "the submission is still on its way: %v", context.Cause(ctx))
	}
}

func (c *Cutter) enqueue(it *item) error {
	if queued := c.queued.Add(int64(it.bytes)); queued > maxQueuedBytes {
		c.queued.Add(-int64(it.bytes))
		return overloaded("%d bytes are queued with this submission of %d, the limit is %d", queued, it.bytes, maxQueuedBytes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.queued.Add(-int64(it.bytes))
		return stopping()
	}
	select {
	case c.queue <- it:
		return nil
	default:
		c.queued.Add(-int64(it.bytes))
		return overloaded("%d submissions are queued, the limit is %d", maxQueued, maxQueued)
	}
}

// Queued tells what waits for its block: submissions in the queue, and bytes of these and of those on their way.
func (c *Cutter) Queued() (submissions int, bytes int64) { return len(c.queue), c.queued.Load() }

func stopping() error { return reason.New(reason.NotLeader, "this replica is stopping") }

func overloaded(format string, args ...any) error {
	return rpcerror.With(reason.New(reason.Overloaded, format, args...), rpcerror.RetryAfter(retryDelay))
}

// Run cuts blocks until ctx ends; then everything queued is answered with NOT_LEADER.
func (c *Cutter) Run(ctx context.Context) error {
	nudge := time.NewTicker(nudgeInterval)
	defer nudge.Stop()
	var carried *item // did not fit into the last proposal
	for {
		first := carried
		carried = nil
		if first == nil {
			select {
			case first = <-c.queue:
			case <-nudge.C:
				c.nudge(ctx)
				continue
			case <-ctx.Done():
				return c.drain(ctx)
			}
		}
		if err := c.awaitRoom(ctx, nudge.C); err != nil {
			c.finish(first, answer{err: stopping()})
			return c.drain(ctx)
		}
		batch, next := c.gather(first)
		carried = next
		c.propose(ctx, batch)
	}
}

// gather takes what is waiting into one proposal; next is what did not fit.
func (c *Cutter) gather(first *item) (batch []*item, next *item) {
	batch = []*item{first}
	for size := first.bytes; !first.alone && size < maxProposalBytes; {
		select {
		case next = <-c.queue:
			if next.alone || size+next.bytes > maxProposalBytes {
				return batch, next
			}
			batch, size = append(batch, next), size+next.bytes
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// nudge proposes an empty block when the newest block has stayed uncertified
// while nothing else came: cosignatures may be missing for good, because a
// replica kept quiet (C7), and a block on top certifies those below.
func (c *Cutter) nudge(ctx context.Context) {
	head := c.head()
	certified := c.certificates.Fresh().Block.Height
	c.mu.Lock()
	idle := c.inFlight == 0
	stuck := c.stuckAt == head.Height && head.Height > certified
	c.stuckAt = head.Height
	c.mu.Unlock()
	if idle && stuck && c.order.IsLeader() && head.Height < head.last(certified) {
		c.propose(ctx, nil)
	}
}

// awaitRoom waits until another block may be in flight and uncertified. A
// replica that does not lead waits for nothing: its submissions are refused.
func (c *Cutter) awaitRoom(ctx context.Context, tick <-chan time.Time) error {
	for {
		changed := c.certificates.Changed()
		head := c.head()
		certified := c.certificates.Fresh().Block.Height
		c.mu.Lock()
		inFlight := c.inFlight
		c.mu.Unlock()
		if !c.order.IsLeader() || inFlight < pipeline && head.Height+uint64(inFlight)+1 <= head.last(certified) {
			return nil
		}
		select {
		case <-changed:
		case <-c.freed:
		case <-tick: // the lead may be lost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// propose hands one proposal to the engine, in the order of its calls, and
// answers its submissions when it was applied.
func (c *Cutter) propose(ctx context.Context, batch []*item) {
	fail := func(err error) {
		for _, it := range batch {
			c.finish(it, answer{err: err})
		}
	}
	if !c.order.IsLeader() {
		leader, _ := c.order.Leader()
		fail(notLeader(leader))
		return
	}
	certificate := carried(c.certificates.Fresh())
	p := &replicav1.Proposal{Version: Version, CertifiedHeight: certificate.Block.Height, Certificate: certificate.Text}
	for _, it := range batch {
		p.Submissions = append(p.Submissions, it.submission)
	}
	entry, err := wire.Encode(p)
	if err != nil {
		fail(fmt.Errorf("encode proposal: %w", err))
		return
	}
	c.mu.Lock()
	c.inFlight++
	c.mu.Unlock()
	proposal := c.order.Propose(ctx, entry)
	go func() {
		applied, err := proposal.Wait(ctx)
		c.mu.Lock()
		c.inFlight--
		c.mu.Unlock()
		select {
		case c.freed <- struct{}{}:
		default:
		}
		c.settle(batch, applied, err)
	}()
}

func (c *Cutter) settle(batch []*item, applied ordering.Applied, err error) {
	fail := func(err error) {
		for _, it := range batch {
			c.finish(it, answer{err: err})
		}
	}
	var not *ordering.NotLeaderError
	switch {
	case errors.As(err, &not):
		fail(notLeader(not.Leader))
		return
	case errors.Is(err, ordering.ErrBusy):
		fail(overloaded("the ordering engine's queue is full"))
		return
	case err != nil:
		fail(reason.New(reason.NotCertified, "the outcome is not known: %v", err))
		return
	}
	response, ok := applied.Response.(Applied)
	if !ok || response.Ignored == nil && len(response.Results) != len(batch) {
		fail(fmt.Errorf("entry %d was applied as %T with %d results for %d submissions", applied.Index, applied.Response, len(response.Results), len(batch)))
		return
	}
	if response.Ignored != nil {
		c.log.Warn("a proposal made no block", "index", applied.Index, "error", response.Ignored)
		fail(rpcerror.With(reason.New(reason.NotCertified, "the proposal made no block: %v", response.Ignored), rpcerror.RetryAfter(retryDelay)))
		return
	}
	for i, it := range batch {
		c.finish(it, answer{result: Result{Height: response.Height, Outcomes: response.Results[i], Began: response.Began, Ended: response.Ended}})
	}
}

func (c *Cutter) finish(it *item, a answer) {
	c.queued.Add(-int64(it.bytes))
	it.done <- a
}

// drain closes the queue and answers what is in it.
func (c *Cutter) drain(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for {
		select {
		case it := <-c.queue:
			c.finish(it, answer{err: stopping()})
		default:
			return ctx.Err()
		}
	}
}

func notLeader(hint string) error {
	return rpcerror.With(reason.New(reason.NotLeader, "this replica does not lead; the leader is %q", hint), rpcerror.Leader(hint))
}

// Package meter is the sensor unit's SDK: it signs raw vectors, keeps them in a
// durable outbox, sends them to ingest gateways, and lets each go only when its
// receipt verifies.
//
// Source: architecture, "The path of one measurement" (1); rules S2, S3, B3 and
// N2; WELMEC 7.2 T1 to T8 and L7, L8 as metrology.md words them (secondary
// source, not verified).
//
// Invariants:
//   - Record returns after the signed sample is on disk, fsynced; only then is
//     its counter used. Kill and restart lose no counter and repeat none.
//   - A sample leaves the outbox only for a receipt that verifies under the
//     pinned trust bundle, or for the refused store, which keeps it.
//   - A gateway is not trusted: it can delay, drop or refuse, and nothing else.
//     A sample names no block of which only a gateway says that it is certified:
//     its header record is proven under the trust bundle first.
//   - Nothing is overwritten. A full outbox refuses and raises an alarm.
package meter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// The errors that callers tell apart, besides *reason.Error and *RefusedError.
var (
	// ErrOutboxFull says: the sample was not stored; nothing was overwritten.
	ErrOutboxFull = outbox.ErrFull
	// ErrDamaged says: stored bytes are not what was written; Open cannot continue the
	// chain, or a sample was set aside.
	ErrDamaged = outbox.ErrDamaged
	// ErrLocked says: the directory is open already.
	ErrLocked = outbox.ErrLocked
	// ErrClosed says: the meter was closed.
	ErrClosed = errors.New("meter is closed")
	// ErrNoKnownBlock says: a new meter has never reached a gateway, and so cannot say
	// that its sample is younger than any block.
	ErrNoKnownBlock = errors.New("no certified block is known yet")
	// ErrUnknownTicket says: neither queue, receipts nor refused store hold the sample.
	ErrUnknownTicket = errors.New("sample is not known to this outbox")
)

// Meter is one sensor unit. It is safe for concurrent use; captures are chained
// in the order in which Record takes them.
type Meter struct {
	config   Config
	dir      *outbox.Dir
	box      *outbox.Outbox
	verifier *verifier
	known    *known
	schedule *schedule
	sender   *sender
	counts   counts
	pieces   *pieces

	recording sync.Mutex // one capture at a time; guards closed
	closed    bool
	stop      context.CancelFunc
	stopped   sync.WaitGroup // the sender's goroutines
}

// Open opens the outbox, recovers counter and chain from it, and begins to send
// what it holds. Sending ends with ctx or Close; recording only with Close.
// Errors: ErrLocked, ErrDamaged, or all faults of the configuration.
func Open(ctx context.Context, config Config) (*Meter, error) {
	return open(ctx, config, ordinary)
}

func open(ctx context.Context, config Config, t timing) (*Meter, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	dir, err := outbox.OpenDir(config.Dir)
	if err != nil {
		return nil, err
	}
	m := &Meter{config: config, dir: dir, verifier: newVerifier(config.Trust), schedule: newSchedule(config.MaxInFlight)}
	if err := m.recover(); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	ctx, m.stop = context.WithCancel(ctx)
	m.sender = newSender(m, t)
	m.stopped.Go(func() { m.sender.run(ctx) })
	return m, nil
}

func (m *Meter) recover() (err error) {
	m.box, err = outbox.Open(m.dir, outbox.Options{
		NetworkID: m.config.NetworkID, MeterID: m.config.MeterID, MaxBytes: m.config.MaxBytes,
	})
	if err != nil {
		return err
	}
	if m.known, err = loadKnown(m.dir); err != nil {
		return err
	}
	if !m.config.KnownBlock.Header.IsZero() {
		if _, err := m.known.add(m.config.KnownBlock); err != nil {
			return fmt.Errorf("Config.KnownBlock: %w", err)
		}
	}
	if m.pieces, err = openPieces(m.dir, m.config.MaxEvidenceBytes); err != nil {
		return err
	}
	for _, it := range m.box.Pending() {
		m.schedule.add(it.Counter, it.Size)
	}
	return nil
}

// Close stops sending, waits for writes under way and gives the directory back.
// What has no receipt yet is sent after the next Open.
func (m *Meter) Close() error {
	m.recording.Lock() // waits for the capture that is being stored
	closed := m.closed
	m.closed = true
	m.recording.Unlock()
	if closed {
		return nil
	}
	m.stop()
	m.stopped.Wait()
	return errors.Join(m.known.keep(0), m.dir.Close())
}

// UpdateTrust replaces the trust bundle by a newer one that the caller has
// verified (`lacre trust update`). It must be about the same log.
func (m *Meter) UpdateTrust(bundle *trust.Bundle) error {
	if old := m.verifier.trust.Load(); bundle.Origin() != old.Origin() {
		return fmt.Errorf("new trust bundle is about %s, the old about %s", bundle.Origin(), old.Origin())
	}
	m.verifier.trust.Store(bundle)
	return nil
}

// Capture is one raw vector with its circumstances.
type Capture struct {
	Channels   [][]int16          // one slice for each channel, of one length
	CapturedAt time.Time          // when the first sample was taken; never earlier than the capture before
	ClockSync  recordv1.ClockSync // at CapturedAt; default what Config.ClockSync says when it is recorded
	Encoding   recordv1.Encoding  // default ENCODING_RICE
	// Evidence is what is kept outside the ledger, such as a plate image; at most
	// sample.MaxEvidence pieces.
	Evidence    []sample.Evidence
	StatusFlags uint32 // the meter's error flags; 0 is healthy
}

// Ticket names a recorded sample.
type Ticket struct {
	Counter uint64
	Sample  digest.Digest
}

// Record signs a capture as the next sample and stores it; when it returns nil
// the sample survives a power cut. It does not wait for the network, except that
// a meter which never reached a gateway waits (until ctx ends) for its first
// known block.
//
// Errors: ErrOutboxFull, ErrNoKnownBlock (joined with ctx's), ErrClosed, a
// *reason.Error for a capture that no ledger would take (MALFORMED, TOO_LARGE,
// WRONG_CHANNEL_COUNT, TIME_NOT_MONOTONIC), or a failed write. After an error the
// counter is free for the next capture.
func (m *Meter) Record(ctx context.Context, c Capture) (Ticket, error) {
	if c.Encoding == recordv1.Encoding_ENCODING_UNSPECIFIED {
		c.Encoding = recordv1.Encoding_ENCODING_RICE
	}
	if uint64(len(c.Channels)) != uint64(m.config.Channels) {
		return Ticket{}, reason.New(reason.WrongChannelCount, "capture has %d channels, the meter %d", len(c.Channels), m.config.Channels)
	}
	if c.ClockSync == recordv1.ClockSync_CLOCK_SYNC_UNSPECIFIED && m.config.ClockSync != nil {
		c.ClockSync = m.config.ClockSync()
	}
	raw, err := vector.Encode(c.Encoding, c.Channels)
	if err != nil {
		return Ticket{}, err
	}
	select {
	case <-m.known.some:
	case <-ctx.Done():
		return Ticket{}, errors.Join(ErrNoKnownBlock, ctx.Err())
	}
	ticket, size, err := m.store(c, raw)
	if errors.Is(err, ErrOutboxFull) {
		m.counts.full.Add(1)
		m.alarm(Alarm{Kind: AlarmOutboxFull, Err: err})
	}
	if err != nil {
		return Ticket{}, err
	}
	m.counts.recorded.Add(1)
	m.schedule.add(ticket.Counter, size)
	return ticket, nil
}

// store makes the next link of the chain.
func (m *Meter) store(c Capture, raw []byte) (Ticket, int64, error) {
	m.recording.Lock()
	defer m.recording.Unlock()
	if m.closed {
		return Ticket{}, 0, ErrClosed
	}
	head := m.box.Head()
	if c.CapturedAt.UnixNano() < head.CapturedAtUnixNano {
		return Ticket{}, 0, reason.New(reason.TimeNotMonotonic, "captured at %d ns, counter %d was captured at %d ns",
			c.CapturedAt.UnixNano(), head.Counter, head.CapturedAtUnixNano)
	}
	block, ok := m.known.at(c.CapturedAt)
	if !ok {
		return Ticket{}, 0, ErrNoKnownBlock
	}
	header := &sample.Header{
		NetworkID: m.config.NetworkID, MeterID: m.config.MeterID,
		Counter: head.Counter + 1, Previous: head.Digest,
		CapturedAtUnixNano: c.CapturedAt.UnixNano(), ClockSync: c.ClockSync,
		KnownHeight: block.Height, KnownBlock: block.Header,
		Channels: m.config.Channels, SamplesPerChannel: uint32(len(c.Channels[0])), // vector.Encode bounds it
		SampleRateMillihertz: m.config.SampleRateMillihertz, Encoding: c.Encoding,
		RawDigest: sample.DigestRaw(raw), Evidence: c.Evidence, StatusFlags: c.StatusFlags,
	}
	if head.Counter == 0 {
		header.Counter, header.Previous = m.config.FirstCounter, m.config.Previous
	}
	s, sig, err := sample.Sign(m.config.Signer, header)
	if err != nil {
		return Ticket{}, 0, err
	}
	e := &outbox.Entry{Sample: s, Signature: sig, RawVector: raw}
	if err := m.box.Add(e); err != nil {
		return Ticket{}, 0, err
	}
	return Ticket{Counter: s.Counter, Sample: s.Digest}, e.Size(), nil
}

// Flush waits until every sample recorded so far has left the queue, with a
// receipt or as refused. The error is ctx's.
func (m *Meter) Flush(ctx context.Context) error {
	waiting := m.schedule.all()
	for i, gone := range waiting {
		select {
		case <-gone:
		case <-ctx.Done():
			return fmt.Errorf("up to %d of %d samples have no answer: %w", len(waiting)-i, len(waiting), ctx.Err())
		}
	}
	return nil
}

// counts are totals since Open.
type counts struct {
	recorded, full, certified, refused, badReceipts, sessions, heartbeats atomic.Uint64
}

// Stats is the state of a meter at one moment.
type Stats struct {
	NextCounter   uint64
	Pending       int    // samples without an answer
	PendingBytes  int64  // their files
	MaxBytes      int64  // bound on PendingBytes
	InFlight      int    // sent and not answered
	Receipts      int    // stored, all time
	RefusedStored int    // kept in the refused store
	Endpoint      string // in use; "" without a connection
	LastError     string // why the last session ended; "" for none
	Known         KnownBlock

	// Since Open:
	Recorded, Certified, Refused uint64
	OutboxFull                   uint64 // captures refused for want of room
	BadReceipts                  uint64 // receipts that did not verify
	Sessions                     uint64 // streams opened
	Heartbeats                   uint64 // that a gateway says were certified
}

// Stats gathers the state; its parts may be apart by the events of a moment.
func (m *Meter) Stats() Stats {
	u := m.box.Usage()
	endpoint, last := m.sender.connection()
	next := m.box.Head().Counter + 1
	if next == 1 {
		next = m.config.FirstCounter
	}
	return Stats{
		NextCounter: next, Pending: u.Pending, PendingBytes: u.PendingBytes, MaxBytes: m.config.MaxBytes,
		InFlight: m.schedule.inFlight(), Receipts: u.Receipts, RefusedStored: u.Refused,
		Endpoint: endpoint, LastError: last, Known: m.known.newest(),
		Recorded: m.counts.recorded.Load(), Certified: m.counts.certified.Load(), Refused: m.counts.refused.Load(),
		OutboxFull: m.counts.full.Load(), BadReceipts: m.counts.badReceipts.Load(), Sessions: m.counts.sessions.Load(),
		Heartbeats: m.counts.heartbeats.Load(),
	}
}

package meter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// Receipt is a verified receipt of one sample.
type Receipt struct {
	Counter uint64
	Sample  digest.Digest
	Text    []byte // the C2SP tlog-proof; its extra data is the measurement's record
	Path    string // where it lies
}

// Refused is a sample in the refused store (rule N2).
type Refused struct {
	Counter   uint64
	Sample    string        // its digest
	Reason    reason.Reason // as the gateway gave it; it proves nothing
	Detail    string
	Endpoint  string
	RefusedAt time.Time
	Path      string // of the sample's file; the reason lies beside it as JSON
}

// RefusedError is Wait's answer for a refused sample. It unwraps to a
// *reason.Error.
type RefusedError struct{ Refused Refused }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("sample %d was refused by %s: %v", e.Refused.Counter, e.Refused.Endpoint, e.Unwrap())
}

// Unwrap gives the reason.
func (e *RefusedError) Unwrap() error {
	return &reason.Error{Reason: e.Refused.Reason, Detail: e.Refused.Detail}
}

func (m *Meter) receiptPath(counter uint64) string { return m.dir.Path(outbox.ReceiptName(counter)) }

// load reads and verifies a stored receipt; fs.ErrNotExist when there is none.
func (m *Meter) load(counter uint64) (Receipt, error) {
	text, err := m.box.Receipt(counter)
	if err != nil {
		return Receipt{}, err
	}
	verified, err := m.verifier.measured(text)
	if err != nil {
		return Receipt{}, fmt.Errorf("stored receipt %d: %w", counter, err)
	}
	s := verified.Sample
	if s.Counter != counter || s.MeterID != m.config.MeterID {
		return Receipt{}, fmt.Errorf("stored receipt %d is of counter %d of meter %s", counter, s.Counter, s.MeterID)
	}
	return Receipt{Counter: counter, Sample: s.Digest, Text: text, Path: m.receiptPath(counter)}, nil
}

// Receipts yields the stored receipts in order of counter, each verified again;
// one that no longer verifies is yielded as an error. New receipts come through
// Config.OnReceipt. The files are the owner's: they may be moved away.
func (m *Meter) Receipts() iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		items, err := m.box.Receipts()
		if err != nil {
			yield(Receipt{}, err)
			return
		}
		for _, it := range items {
			r, err := m.load(it.Counter)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// Refused lists the refused store in order of counter.
func (m *Meter) Refused() iter.Seq2[Refused, error] {
	return func(yield func(Refused, error) bool) {
		for r, err := range m.box.Refused() {
			if !yield(m.refused(r), err) {
				return
			}
		}
	}
}

func (m *Meter) refused(r outbox.Refusal) Refused {
	return Refused{
		Counter: r.Counter, Sample: r.Sample, Reason: reason.Reason(r.Reason), Detail: r.Detail,
		Endpoint: r.Endpoint, RefusedAt: time.UnixMilli(r.RefusedAtUnixMilli), Path: m.dir.Path(outbox.RefusedName(r.Counter)),
	}
}

// RetryRefused puts a refused sample back into the queue.
func (m *Meter) RetryRefused(counter uint64) error {
	m.recording.Lock()
	defer m.recording.Unlock()
	if m.closed {
		return ErrClosed
	}
	it, err := m.box.Retry(counter)
	if err != nil {
		return err
	}
	m.schedule.add(it.Counter, it.Size)
	return nil
}

// Wait waits for a sample's answer: its receipt, or a *RefusedError. Other
// errors: ctx's, ErrDamaged, ErrUnknownTicket.
func (m *Meter) Wait(ctx context.Context, t Ticket) (Receipt, error) {
	if gone := m.schedule.gone(t.Counter); gone != nil {
		select {
		case <-gone:
		case <-ctx.Done():
			return Receipt{}, fmt.Errorf("sample %d has no answer: %w", t.Counter, ctx.Err())
		}
	}
	r, err := m.load(t.Counter)
	if err == nil && r.Sample != t.Sample {
		return Receipt{}, fmt.Errorf("%w: counter %d is sample %s, the ticket says %s", ErrUnknownTicket, t.Counter, r.Sample.Short(), t.Sample.Short())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	refusal, err := m.box.Refusal(t.Counter)
	if err == nil {
		return Receipt{}, &RefusedError{Refused: m.refused(refusal)}
	}
	return Receipt{}, fmt.Errorf("%w: counter %d: %w", ErrUnknownTicket, t.Counter, err)
}

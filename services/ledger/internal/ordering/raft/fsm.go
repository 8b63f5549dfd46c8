package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	hraft "github.com/hashicorp/raft"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ledger/internal/ordering"
)

// errNotApplied is the response of an entry that was committed but that this
// stopped node did not apply.
var errNotApplied = errors.New("this node stopped before it applied the entry")

// machine gives ordered entries to the Applier. The library assumes that
// applying cannot fail and that a restart begins from nothing; here neither is
// so.
//
// Invariants:
//   - Entries up to Applier.AppliedIndex are not given to it again; each of them
//     that comes again must have the digest that the Applier kept (rule R2).
//   - After the first failure the Applier is not called any more and no snapshot
//     is made.
//   - No snapshot is made while old entries still come again, so that a
//     snapshot's own index is never below its applied index.
type machine struct {
	applier   ordering.Applier
	store     *pointerStore
	ctx       context.Context // ends when the engine closes; for RestorePointer
	fail      func(error)     // stops the engine; idempotent
	committed func()          // when entries come that are committed
	failed    atomic.Bool
	delivered uint64 // last index the library gave; owned by its FSM goroutine
}

var _ hraft.BatchingFSM = (*machine)(nil)

// stop is fail, and keeps the Applier from being called again.
func (m *machine) stop(err error) {
	m.failed.Store(true)
	m.fail(err)
}

// Apply is ApplyBatch of one.
func (m *machine) Apply(log *hraft.Log) any { return m.ApplyBatch([]*hraft.Log{log})[0] }

// ApplyBatch applies what is new in logs, in one batch.
func (m *machine) ApplyBatch(logs []*hraft.Log) []any {
	m.committed()
	responses := make([]any, len(logs))
	refuse := func() []any {
		for i := range responses {
			responses[i] = errNotApplied
		}
		return responses
	}
	if m.failed.Load() {
		return refuse()
	}
	applied := m.applier.AppliedIndex()
	var entries []ordering.Entry
	var places []int // of each entry in responses
	for i, log := range logs {
		if log.Type != hraft.LogCommand {
			continue
		}
		entry := ordering.Entry{Index: log.Index, Data: log.Data, Digest: digest.Of(digest.Entry, log.Data)}
		if log.Index > applied {
			entries, places = append(entries, entry), append(places, i)
			continue
		}
		if err := m.compare(entry); err != nil {
			m.stop(err)
			return refuse()
		}
	}
	if len(entries) > 0 {
		answers, err := m.applier.ApplyBatch(entries)
		if err == nil {
			err = m.verify(entries, answers)
		}
		if err != nil {
			m.stop(fmt.Errorf("raft: apply entries %d to %d: %w", entries[0].Index, entries[len(entries)-1].Index, err))
			return refuse()
		}
		for i, place := range places {
			responses[place] = answers[i]
		}
	}
	m.delivered = logs[len(logs)-1].Index
	return responses
}

// compare checks an entry that was applied in an earlier life (rule R2).
func (m *machine) compare(entry ordering.Entry) error {
	kept, ok := m.applier.AppliedDigest(entry.Index)
	if ok && kept != entry.Digest {
		return reason.New(reason.DataLoss, "entry %d in the log has digest %s, the one applied there had %s (rule R2)",
			entry.Index, entry.Digest.Short(), kept.Short())
	}
	return nil
}

// verify holds the Applier to its promise.
func (m *machine) verify(entries []ordering.Entry, answers []any) error {
	if len(answers) != len(entries) {
		return fmt.Errorf("%d responses for %d entries", len(answers), len(entries))
	}
	if got, want := m.applier.AppliedIndex(), entries[len(entries)-1].Index; got != want {
		return fmt.Errorf("the applied index is %d after entry %d was applied", got, want)
	}
	return nil
}

// Snapshot names the present state.
func (m *machine) Snapshot() (hraft.FSMSnapshot, error) {
	if m.failed.Load() {
		return nil, errNotApplied
	}
	applied := m.applier.AppliedIndex()
	if applied == 0 {
		// So a snapshot never ends with entry 1, the first configuration.
		return nil, errors.New("nothing is applied yet: no snapshot")
	}
	if m.delivered < applied {
		return nil, fmt.Errorf("entries up to %d come again, so far up to %d: no snapshot yet", applied, m.delivered)
	}
	pointer, err := m.applier.SnapshotPointer()
	if err != nil {
		return nil, err
	}
	if len(pointer) > maxPointer {
		return nil, fmt.Errorf("snapshot pointer has %d bytes, the limit is %d", len(pointer), maxPointer)
	}
	return pointed{content{applied: applied, pointer: pointer}}, nil
}

// Restore moves the Applier to a snapshot that a leader sent. A refused one is
// discarded, so that a later start does not rest on it.
func (m *machine) Restore(source io.ReadCloser) error {
	err := m.restore(source)
	if err == nil {
		return nil
	}
	if w, ok := source.(hraft.ReadCloserWrapper); ok {
		if r, ok := w.WrappedReadCloser().(*pointerReader); ok {
			err = errors.Join(err, m.store.discard(r.id))
		}
	}
	if reason.Of(err) == reason.DataLoss {
		m.stop(err)
	}
	return err
}

func (m *machine) restore(source io.Reader) error {
	if m.failed.Load() {
		return errNotApplied
	}
	b, err := io.ReadAll(io.LimitReader(source, maxSnapshot+1))
	if err != nil {
		return err
	}
	return restoreContent(m.ctx, m.applier, b)
}

// restoreContent moves the Applier to a snapshot, forwards or not at all.
func restoreContent(ctx context.Context, applier ordering.Applier, b []byte) error {
	c, err := decodeContent(b)
	if err != nil {
		return err
	}
	if applied := applier.AppliedIndex(); c.applied < applied {
		return fmt.Errorf("snapshot was made at applied index %d, entries up to %d are applied here: it would discard blocks (rule R0)",
			c.applied, applied)
	}
	if err := applier.RestorePointer(ctx, c.pointer); err != nil {
		return fmt.Errorf("restore to applied index %d: %w", c.applied, err)
	}
	if got := applier.AppliedIndex(); got != c.applied {
		return fmt.Errorf("the applied index is %d after a snapshot of applied index %d was restored", got, c.applied)
	}
	return nil
}

// pointed is a snapshot that is ready to be written.
type pointed struct{ content content }

func (p pointed) Persist(sink hraft.SnapshotSink) error {
	if _, err := sink.Write(p.content.encode()); err != nil {
		return err
	}
	return sink.Close()
}

func (pointed) Release() {}

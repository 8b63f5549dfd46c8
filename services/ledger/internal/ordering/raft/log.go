package raft

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	hraft "github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
)

// logStore is what raft-wal offers: log and stable store in one.
type logStore interface {
	hraft.LogStore
	hraft.StableStore
	hraft.MonotonicLogStore
}

// guardedLog stands between Raft and its log.
//
// Invariants:
//   - No entry at or below the applied index leaves the log from its tail (rule
//     R2): a leader that asks for it contradicts what this node has applied, and
//     the node stops with DATA_LOSS.
//   - No entry leaves the log from its head before a snapshot covers it.
//   - The log knows index and term of the last entry that the newest snapshot
//     covers, as Raft asks (figure 13). The library forgets it once another entry
//     follows: a leader that sends the next entry again, because an answer was
//     lost, is then told that logs do not match, and falls back to sending a
//     snapshot that points backwards, for ever.
//   - A write that takes longer than the deadline ends the process (rule R3): the
//     library keeps sending heartbeats while its disk hangs, so only the
//     process's end lets another replica lead (hashicorp/raft#503, #612, #614).
//   - A write that fails stops the node: after a failed fsync nobody knows what
//     is on the disk. So does an entry that is not what was stored (sealedLog).
type guardedLog struct {
	logStore
	applied  func() uint64
	snapshot func() (index, term uint64, err error) // the newest; zeroes when there is none
	deadline time.Duration
	fatal    func(error)
	fail     func(error)
	stored   func()      // after entries were stored
	running  atomic.Bool // the library has been started; only its own goroutines write
}

func (g *guardedLog) StoreLog(log *hraft.Log) error { return g.StoreLogs([]*hraft.Log{log}) }

func (g *guardedLog) StoreLogs(logs []*hraft.Log) error {
	err := g.write("append to the log", func() error {
		return fault.Around(fault.Append, func() error { return g.logStore.StoreLogs(logs) })
	})
	g.stored()
	return err
}

func (g *guardedLog) Set(key, value []byte) error {
	return g.write("write of term or vote", func() error { return g.logStore.Set(key, value) })
}

func (g *guardedLog) SetUint64(key []byte, value uint64) error {
	return g.write("write of term or vote", func() error {
		return fault.Around(fault.Term, func() error { return g.logStore.SetUint64(key, value) })
	})
}

// stableLog is the guarded log as the library's store of term and vote. Where a
// term cannot be written the library panics: on a full disk the process would
// crash, and again at each start. The node stops by itself then (guardedLog), so
// the goroutine that was to write just ends, as it would a moment later.
type stableLog struct{ *guardedLog }

func (s stableLog) SetUint64(key []byte, value uint64) error {
	err := s.guardedLog.SetUint64(key, value)
	if err != nil && s.running.Load() {
		runtime.Goexit()
	}
	return err
}

// GetLog reads an entry. Of the one that the newest snapshot ends with, index
// and term must do when the log has not kept it; nobody asks for more, since
// entries are sent and applied only after one that precedes them was found, and
// a snapshot never ends with the first entry of all (machine.Snapshot).
func (g *guardedLog) GetLog(index uint64, log *hraft.Log) error {
	err := g.logStore.GetLog(index, log)
	if reason.Of(err) == reason.DataLoss {
		g.fail(err) // the library panics where it was to apply the entry: either ends this node
	}
	if !errors.Is(err, hraft.ErrLogNotFound) {
		return err
	}
	covered, term, snapshotErr := g.snapshot()
	if snapshotErr != nil {
		return snapshotErr
	}
	if index == 0 || index != covered {
		return err
	}
	*log = hraft.Log{Index: index, Term: term, Type: hraft.LogNoop}
	return nil
}

// DeleteRange removes from the log's head, or from its tail.
func (g *guardedLog) DeleteRange(from, to uint64) error {
	first, err := g.FirstIndex()
	if err != nil {
		return err
	}
	if from <= first {
		if to, err = g.headLimit(to); err != nil {
			return err
		}
	} else if applied := g.applied(); from <= applied {
		loss := reason.New(reason.DataLoss,
			"the log is to be cut from entry %d on, entries up to %d are applied (rule R2)", from, applied)
		g.fail(loss)
		return loss
	}
	if from > to {
		return nil
	}
	return g.write("truncation of the log", func() error { return g.logStore.DeleteRange(from, to) })
}

// headLimit is the last entry that may go from the head. Compaction asks for no
// more than the snapshot covers. After a received snapshot, the library asks for
// the whole log: right when the rest contradicts the snapshot, but a rest that
// continues it was acknowledged and stays (Raft, figure 13, step 6).
func (g *guardedLog) headLimit(to uint64) (uint64, error) {
	index, term, err := g.snapshot()
	if err != nil || to <= index {
		return to, err
	}
	if index == 0 {
		return 0, fmt.Errorf("the log is to be cut up to entry %d, and no snapshot covers any", to)
	}
	var covered hraft.Log
	err = g.logStore.GetLog(index, &covered)
	switch {
	case err == nil && covered.Term == term:
		return index, nil
	case err != nil && !errors.Is(err, hraft.ErrLogNotFound):
		return 0, err
	}
	if applied := g.applied(); applied > index {
		loss := reason.New(reason.DataLoss,
			"the log is to be cut up to entry %d for a snapshot at %d, entries up to %d are applied (rule R2)", to, index, applied)
		g.fail(loss)
		return 0, loss
	}
	return to, nil
}

func (g *guardedLog) write(what string, op func() error) error {
	timer := time.AfterFunc(g.deadline, func() {
		g.fatal(fmt.Errorf("raft: %s takes longer than %v (rule R3): the disk hangs", what, g.deadline))
	})
	defer timer.Stop()
	err := op()
	if err != nil && !errors.Is(err, wal.ErrClosed) {
		g.fail(fmt.Errorf("raft: %s failed: %w", what, err))
	}
	return err
}

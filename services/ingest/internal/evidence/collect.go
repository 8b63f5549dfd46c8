package evidence

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/platform/follower"
)

// Pieces that no record names are collected: an upload whose sample was refused or
// never recorded, or one by somebody with a registered key who fills the store.
//
// A piece is removed when it has lain here for the grace period, by the certified
// block time, and then a look at every leaf of the certified ledger finds it named
// nowhere. The grace is at least twice the network's lateness bound, within which
// a sample is a measurement at all. A sample that comes later still is recorded as
// every other; its piece is then absent, as `lacre evidence list` shows, and the
// measurement stands without it.
//
// Nothing is remembered on disk: a crash leaves whole pieces and no half-done work,
// and the next look begins anew. A look reads all records once; pieces found named
// are remembered, so the next comes when others have grown old.
const (
	// DefaultGrace is how long a piece that nothing names is kept at least.
	DefaultGrace = 90 * 24 * time.Hour
	collectFirst = time.Hour // after a start, when meters have sent what waited
	collectEvery = 24 * time.Hour
)

// Collected is what the collector did since the start.
type Collected struct {
	Pieces uint64 // removed
	Bytes  uint64 // of them
}

// Collected reads the counters.
func (k *Keeper) Collected() Collected {
	return Collected{Pieces: k.collected.Load(), Bytes: k.collectedBytes.Load()}
}

// RunCollector collects an hour after the start and then once a day, until ctx ends. One that fails removes nothing
// and is tried again the next day.
func (k *Keeper) RunCollector(ctx context.Context, grace time.Duration) error {
	timer := time.NewTimer(collectFirst)
	defer timer.Stop()
	for ; ; timer.Reset(collectEvery) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		if err := k.Collect(ctx, grace); err != nil && ctx.Err() == nil {
			k.log.ErrorContext(ctx, "evidence that nothing names was not collected", "error", err)
		}
	}
}

// graceOf is the grace that a network allows: 0 is the default.
func graceOf(grace time.Duration, snapshot *follower.Snapshot) time.Duration {
	if grace <= 0 {
		grace = DefaultGrace
	}
	return max(grace, 2*time.Duration(snapshot.Config().Message.GetLimits().GetLatenessBoundNano()))
}

// Collect removes what has lain here for the grace and is named nowhere.
func (k *Keeper) Collect(ctx context.Context, grace time.Duration) error {
	snapshot, err := k.ledger.Snapshot()
	if err != nil {
		return err
	}
	grace = graceOf(grace, snapshot)
	now := time.Unix(0, snapshot.Head().BlockTimeUnixNano) // never fast (rule C4)
	if own := k.now(); own.Before(now) {
		now = own
	}
	stored, old, err := k.aged(ctx, now.Add(-grace))
	if err != nil || len(old) == 0 {
		return err
	}
	if err := k.look(ctx, snapshot, stored, old); err != nil {
		return err
	}
	for piece, size := range old {
		if err := k.collect(ctx, piece, size, grace); err != nil {
			return err
		}
	}
	return nil
}

// aged lists what is stored, and of it what is older than a time and not known to
// be named. It forgets what it knows of pieces that are gone.
func (k *Keeper) aged(ctx context.Context, before time.Time) (stored map[digest.Digest]bool, old map[digest.Digest]int64, err error) {
	stored, old = make(map[digest.Digest]bool), make(map[digest.Digest]int64)
	err = k.store.List(ctx, func(piece digest.Digest, size int64, at time.Time) {
		stored[piece] = true
		if at.Before(before) {
			old[piece] = size
		}
	})
	if err != nil {
		return nil, nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for piece := range old {
		if k.named[piece] || !k.announced[piece].Before(before) {
			delete(old, piece)
		}
	}
	for piece := range k.named {
		if !stored[piece] {
			delete(k.named, piece)
		}
	}
	for piece, at := range k.announced {
		if at.Before(before) {
			delete(k.announced, piece)
		}
	}
	return stored, old, nil
}

// look reads every leaf of the certified ledger, and takes what is named out of old.
func (k *Keeper) look(ctx context.Context, snapshot *follower.Snapshot, stored map[digest.Digest]bool, old map[digest.Digest]int64) error {
	named := make(map[digest.Digest]bool)
	err := k.ledger.Records(ctx, snapshot, func(leaf []byte) error {
		r, err := record.Parse(leaf)
		if err != nil {
			return err // what is not understood may name anything
		}
		switch {
		case r.GetMeasurement() != nil:
			s, err := sample.Parse(r.GetMeasurement().GetHeader())
			if err != nil {
				return err
			}
			for _, e := range s.Evidence {
				if stored[e.Digest] {
					named[e.Digest] = true
				}
			}
		case r.GetSecurityEvent() != nil: // few: a header in it, or the subject of a reading
			for piece := range old {
				if report := r.GetSecurityEvent().GetReport(); bytes.Contains(report, piece[:]) || bytes.Contains(report, []byte(piece.String())) {
					named[piece] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for piece := range named {
		k.named[piece] = true
		delete(old, piece)
	}
	return nil
}

// collect removes one piece, unless a meter announced it meanwhile.
func (k *Keeper) collect(ctx context.Context, piece digest.Digest, size int64, grace time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, wanted := k.announced[piece]; wanted {
		return nil
	}
	if err := k.store.Erase(ctx, piece); err != nil {
		return err
	}
	k.collected.Add(1)
	k.collectedBytes.Add(uint64(size))
	k.log.WarnContext(ctx, "evidence that no record names was removed", "evidence", piece, "bytes", size, "grace", grace)
	return nil
}

// announce notes that a meter says it has a piece that is kept, so that it is not
// collected as if nobody wanted it. kept is false when it is not there.
func (k *Keeper) announce(ctx context.Context, piece digest.Digest) (kept bool, err error) {
	k.mu.Lock() // a removal is over, or will see it
	k.announced[piece] = k.now()
	k.mu.Unlock()
	if kept, err = k.store.Has(ctx, piece); kept && err == nil {
		return true, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.announced, piece)
	return false, err
}

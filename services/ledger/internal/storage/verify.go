package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/tlog"
	"go.etcd.io/bbolt"
)

const (
	// maxProblems ends a verification that finds nothing but damage.
	maxProblems = 1000
	// sealsPerView bounds the time for which checking seals holds a read
	// transaction, and with it the pages that commits cannot reuse.
	sealsPerView = entriesKept + 1
)

// Progress tells how far a verification is.
type Progress struct {
	Blocks uint64 // checked
	Of     uint64 // committed when it began
	Bytes  int64  // of frames, re-hashed
}

// Report is what a verification found.
type Report struct {
	Blocks     uint64
	Records    uint64
	RawVectors uint64
	Bytes      int64            // of records and raw vectors, re-hashed
	Values     uint64           // whose seals were checked
	Problems   []*DataLossError // in order of discovery, at most 1,000
}

// Err is nil if nothing is wrong, and all problems otherwise.
func (r *Report) Err() error {
	errs := make([]error, len(r.Problems))
	for i, p := range r.Problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

func (r *Report) add(problems ...*DataLossError) {
	for _, p := range problems {
		if p != nil && len(r.Problems) < maxProblems {
			r.Problems = append(r.Problems, p)
		}
	}
}

// Verify re-hashes every stored byte: frames against leaf hashes, these against
// tree nodes and roots, raw vectors against the digests that measurements name,
// headers against their chain, every other value against its seal, and the
// structure of store.db. It runs beside commits and covers what was committed
// when it began. progress may be nil. The error is not about the data: the
// context's, or ErrClosed; what is wrong with the data is in the report.
func (s *Store) Verify(ctx context.Context, progress func(Progress)) (*Report, error) {
	v := &verification{store: s, report: &Report{}, progress: progress}
	return v.report, v.run(ctx)
}

type verification struct {
	store    *Store
	report   *Report
	progress func(Progress)
	tip      tip
}

// found reports an error as a problem if it is one, and returns it otherwise.
func (v *verification) found(err error) error {
	if err == nil {
		return nil
	}
	var lost *DataLossError
	if !errors.As(err, &lost) {
		return err
	}
	v.report.add(lost)
	return nil
}

func (v *verification) run(ctx context.Context) error {
	if err := v.found(v.store.checkLivePages()); err != nil {
		return err
	}
	if len(v.report.Problems) > 0 {
		// bbolt may run in circles over pages that are damaged: stop here.
		return nil
	}
	var certificates certificateTip
	err := view(v.store.db, func(tx *bbolt.Tx) (err error) {
		if v.tip, err = readTip(tx); err != nil {
			return err
		}
		certificates, err = readCertificateTip(tx)
		return err
	})
	if err != nil {
		return v.found(err)
	}
	if err := v.blocks(ctx); err != nil {
		return err
	}
	// Commits that ran meanwhile may have raised counts: compare at least.
	counts := []struct {
		table table
		want  uint64
	}{
		{tableMeta, 2},
		{tableBlocks, v.tip.blocks},
		{tableFirsts, v.tip.blocks},
		{tableState, v.tip.stateKeys},
		{tableEntries, v.tip.entries},
		{tableCertificates, certificates.count},
	}
	for _, c := range counts {
		got, last, err := v.seals(ctx, c.table)
		if err != nil {
			return err
		}
		if c.table == tableEntries {
			c.want = last.entries // old ones are dropped; all fit into one view
		}
		v.report.Values += got
		if got < c.want {
			v.report.add(c.table.damage(nil, fmt.Sprintf("%d values are committed, %d are there", c.want, got)))
		}
	}
	if certificates.count > 0 {
		note, err := v.store.Certificate(certificates.newest)
		if err := v.found(err); err != nil {
			return err
		}
		if note == nil && err == nil {
			v.report.add(tableCertificates.damage(number(certificates.newest), "the newest certificate is missing"))
		}
	}
	return nil
}

// blocks re-hashes all blocks.
func (v *verification) blocks(ctx context.Context) error {
	check, err := newBlockCheck(v.store.dir, tlog.NewRange(), nil)
	if err != nil {
		return err
	}
	defer check.frames.close()
	for height := range v.tip.blocks {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verify block %d of %d: %w", height, v.tip.blocks, err)
		}
		value, err := v.storedBlock(height)
		if err != nil {
			return v.found(err) // without this block the next ones have no place
		}
		_, problems := check.block(&value)
		v.report.add(problems...)
		if v.tip.lock.Height == height && !v.tip.lock.IsZero() {
			v.report.add(lockedBlock(v.tip.lock, &value))
		}
		v.report.Blocks++
		v.report.Records, v.report.RawVectors, v.report.Bytes = check.tree.Size(), check.raws, check.bytes
		if v.progress != nil {
			v.progress(Progress{Blocks: v.report.Blocks, Of: v.tip.blocks, Bytes: check.bytes})
		}
		if check.tree.Size() != value.ref.Size || len(v.report.Problems) == maxProblems {
			return nil
		}
	}
	if !v.tip.lock.IsZero() && v.tip.lock.Height >= v.tip.blocks {
		v.report.add(tableMeta.damage(keyTip, fmt.Sprintf("the lock is on height %d, there are %d blocks", v.tip.lock.Height, v.tip.blocks)))
	}
	v.report.add(check.tip(&v.tip))
	return nil
}

// storedBlock reads a block from the disk, memory notwithstanding, and checks
// that its first index leads to it.
func (v *verification) storedBlock(height uint64) (blockValue, error) {
	var encoded []byte
	err := view(v.store.db, func(tx *bbolt.Tx) error {
		b, err := tableBlocks.get(tx, number(height))
		if err != nil {
			return err
		}
		encoded = clone(b)
		value, err := decodeBlock(height, b)
		if err != nil {
			return err
		}
		got, err := heightOf(tx, value.ref.FirstIndex)
		if err == nil && got != height {
			err = tableFirsts.damage(number(value.ref.FirstIndex), fmt.Sprintf("leads to block %d, want %d", got, height))
		}
		return err
	})
	if err != nil {
		return blockValue{}, err
	}
	return decodeBlock(height, encoded)
}

// seals checks every value of a table and counts them.
// last is the tip as the last read transaction saw it.
func (v *verification) seals(ctx context.Context, t table) (n uint64, last tip, err error) {
	var from []byte
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return n, last, fmt.Errorf("verify table %s: %w", t, err)
		}
		more = false
		err := view(v.store.db, func(tx *bbolt.Tx) error {
			b, err := t.in(tx)
			if err != nil {
				return err
			}
			if last, err = readTip(tx); err != nil {
				return err
			}
			c := b.Cursor()
			read := 0
			for key, sealed := c.Seek(from); key != nil; key, sealed = c.Next() {
				if read++; read > sealsPerView {
					from, more = clone(key), true
					return nil
				}
				n++
				if err := v.found(checkValue(t, key, sealed)); err != nil {
					return err
				}
			}
			return nil
		})
		if err := v.found(err); err != nil {
			return n, last, err
		}
	}
	return n, last, nil
}

// checkValue checks a seal, and the form of what has one.
func checkValue(t table, key, sealed []byte) error {
	value, err := t.open(key, sealed)
	if err != nil {
		return err
	}
	want := 0
	switch t {
	case tableMeta:
		if !bytes.Equal(key, keyTip) && !bytes.Equal(key, keyCertificates) {
			return t.damage(key, "the key is unknown")
		}
		return nil
	case tableFirsts:
		want = 8
	case tableEntries:
		want = digest.Size
	case tableBlocks:
		if len(key) == 8 {
			_, err := decodeBlock(binary.BigEndian.Uint64(key), value)
			return err
		}
	}
	if t != tableState && len(key) != 8 {
		return t.damage(key, fmt.Sprintf("the key has %d bytes, want 8", len(key)))
	}
	if want != 0 && len(value) != want {
		return t.damage(key, fmt.Sprintf("the value has %d bytes, want %d", len(value), want))
	}
	return nil
}

// asDataLoss is err as a problem, whatever it is.
func asDataLoss(err error) *DataLossError {
	var lost *DataLossError
	if errors.As(err, &lost) {
		return lost
	}
	return &DataLossError{Height: None, Index: None, File: dbName, Offset: None, What: "cannot be read", Cause: err}
}

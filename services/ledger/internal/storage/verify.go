package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lacre-metrology/lacre/core/tlog"
	"go.etcd.io/bbolt"
)

const (
	// maxProblems ends a verification that finds nothing but damage.
	maxProblems = 1000
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
	Cold       uint64           // raw vectors in cold storage, of RawVectors if they were read
	Skipped    uint64           // of Cold, those that were not read (Options.SkipCold)
	Expired    Expired          // not of RawVectors
	Problems   []*DataLossError // in order of discovery, at most 1,000
}

// Expired is what is not here any more by decisions in the state.
type Expired struct {
	RawVectors uint64
	From, To   uint64 // the first and the last block of which one is gone
}

func (e *Expired) add(height uint64) {
	if e.RawVectors == 0 {
		e.From = height
	}
	e.RawVectors, e.To = e.RawVectors+1, height
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
		// A value that the walk over all pages found is read again with its block.
		known := func(q *DataLossError) bool {
			return p.File == dbName && q.File == dbName && q.What == p.What && q.Height == p.Height
		}
		if p != nil && len(r.Problems) < maxProblems && !slices.ContainsFunc(r.Problems, known) {
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
	walk, err := v.store.checkLivePages()
	if err != nil {
		// bbolt may run in circles over pages that are damaged: stop here.
		return v.found(err)
	}
	v.report.Values = walk.values
	v.report.add(walk.problems...)
	err = view(v.store.db, func(tx *bbolt.Tx) (err error) {
		v.tip, err = readTip(tx)
		return err
	})
	if err != nil {
		return v.found(err)
	}
	if err := v.blocks(ctx); err != nil {
		return err
	}
	return v.packedFiles(ctx)
}

// packedFiles compares the files of packed segments with the digests that were
// committed: what no block refers to would change unseen otherwise.
func (v *verification) packedFiles(ctx context.Context) error {
	for n := uint32(1); n <= v.tip.packed; n++ {
		committed, err := v.store.packedSegment(n)
		if err != nil {
			if err := v.found(err); err != nil {
				return err
			}
			continue
		}
		for _, k := range packedKinds {
			if v.store.packed.isDropped(n, k) {
				continue
			}
			if v.store.packed.isCold(n, k) {
				continue // the checksums of groups and index cover each byte, and blocks read all
			}
			name, want := packedName(n, k), committed.file(k)
			got, err := sumFile(ctx, packedPath(v.store.dir, n, k), newPacer(nil))
			if ctx.Err() != nil {
				return fmt.Errorf("verify %s: %w", name, ctx.Err())
			}
			if missing(err) && (v.store.packed.isDropped(n, k) || v.store.packed.isCold(n, k)) {
				continue // meanwhile
			}
			named := slices.ContainsFunc(v.report.Problems, func(p *DataLossError) bool { return p.File == name })
			switch {
			case named || err == nil && got == want:
			case err != nil:
				v.report.add(lostIn(name, None, "the packed segment cannot be read", err))
			default:
				v.report.add(lostIn(name, None, fmt.Sprintf("%d bytes with SHA-256 %x were committed, %d with %x are there", want.bytes, want.digest, got.bytes, got.digest), nil))
			}
		}
	}
	return nil
}

// blocks re-hashes all blocks.
func (v *verification) blocks(ctx context.Context) error {
	check, err := newBlockCheck(v.store, tlog.NewRange(), nil)
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
		if check.unreachable != nil {
			return check.unreachable
		}
		v.report.add(problems...)
		if v.tip.lock.Height == height && !v.tip.lock.IsZero() {
			v.report.add(lockedBlock(v.tip.lock, &value))
		}
		v.report.Blocks++
		v.report.Records, v.report.RawVectors, v.report.Bytes = check.tree.Size(), check.raws, check.bytes
		v.report.Cold, v.report.Skipped, v.report.Expired = check.cold, check.skipped, check.expired
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
	if o := check.owed; o.RawVectors > 0 {
		v.report.add(&DataLossError{Height: int64(o.From), Index: None, File: dbName, Offset: None, What: fmt.Sprintf(
			"%d raw vectors of blocks %d to %d had expired when the blocks were fetched, and no block here holds the decision: the fetching did not end", o.RawVectors, o.From, o.To)})
	}
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

// asDataLoss is err as a problem, whatever it is.
func asDataLoss(err error) *DataLossError {
	var lost *DataLossError
	if errors.As(err, &lost) {
		return lost
	}
	return &DataLossError{Height: None, Index: None, File: dbName, Offset: None, What: "cannot be read", Cause: err}
}

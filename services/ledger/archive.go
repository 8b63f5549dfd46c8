package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/services/ledger/internal/cold"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// Archive is a replica's data directory, or a copy of one, open for reading by
// an auditor. No process may write to the directory meanwhile: stop the replica,
// or copy the directory. It is safe for concurrent use.
type Archive struct {
	store *storage.Store
	cold  *cold.Bucket // nil without one
}

// ArchiveOptions say what of cold storage is read. The zero value reads none: then
// a raw vector that is there is an error of NOT_READY, and so is Verify.
type ArchiveOptions struct {
	Cold     string // a directory or URL, as in the replica's configuration
	SkipCold bool   // Verify leaves raw vectors in cold storage out, and counts them
}

// OpenArchive opens the data directory of a replica (Config.DataDir) without
// changing it, damaged or not: Verify names what is damaged, and reads refuse
// it. The error is a *reason.Error of DATA_LOSS if not even the index of the
// stored bytes holds together.
func OpenArchive(dir string) (*Archive, error) { return OpenArchiveWith(dir, ArchiveOptions{}) }

// OpenArchiveWith is OpenArchive with what is in cold storage.
func OpenArchiveWith(dir string, o ArchiveOptions) (_ *Archive, err error) {
	c := Config{DataDir: dir}
	if _, err := os.Stat(c.storeDir()); err != nil { // a wrong path is no loss of data
		return nil, fmt.Errorf("%s is no replica's data directory: %w", dir, err)
	}
	a := new(Archive)
	options := storage.Options{SkipCold: o.SkipCold}
	if o.Cold != "" {
		if a.cold, err = cold.Open(context.Background(), o.Cold); err != nil {
			return nil, err
		}
		options.Cold = a.cold
	}
	if a.store, err = storage.OpenDamaged(c.storeDir(), options); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, asReason(err)), a.closeCold())
	}
	return a, nil
}

func (a *Archive) closeCold() error {
	if a.cold == nil {
		return nil
	}
	return a.cold.Close()
}

// Close releases the directory.
func (a *Archive) Close() error { return errors.Join(a.store.Close(), a.closeCold()) }

// Blocks is the number of blocks: heights run from 0 to one less.
func (a *Archive) Blocks() uint64 {
	head, ok := a.store.Head()
	if !ok {
		return 0
	}
	return head.Height + 1
}

// ArchivedBlock is one block as the directory has it.
type ArchivedBlock struct {
	Height      uint64
	Leaves      [][]byte // exact bytes, the header last
	RawVectors  [][]byte // by the leaf's place; nil for other leaves, and where the vector is lost or expired
	Certificate []byte   // of this very height; nil if it has none
}

// Block reads a block. A damaged raw vector is nil in it; damage of anything
// else is a *reason.Error of DATA_LOSS.
func (a *Archive) Block(height uint64) (*ArchivedBlock, error) {
	b := &ArchivedBlock{Height: height}
	stored, err := a.store.Load(height)
	if err == nil {
		b.Leaves, b.RawVectors = stored.Leaves, make([][]byte, len(stored.Leaves))
		for _, v := range stored.RawVectors {
			b.RawVectors[v.Leaf] = v.Bytes
		}
	} else if err := a.salvage(b); err != nil {
		return nil, asReason(err)
	}
	if b.Certificate, err = a.store.Certificate(height); err != nil {
		return nil, asReason(err)
	}
	return b, nil
}

// salvage reads a block of which something is damaged, vector by vector.
func (a *Archive) salvage(b *ArchivedBlock) error {
	ref, ok, err := a.store.Block(b.Height)
	if err == nil && !ok {
		err = fmt.Errorf("block %d: %w", b.Height, storage.ErrNotStored)
	}
	if err != nil {
		return err
	}
	if b.Leaves, err = a.store.Leaves(b.Height); err != nil {
		return err
	}
	b.RawVectors = make([][]byte, len(b.Leaves))
	for i, leaf := range b.Leaves {
		if r, err := record.Parse(leaf); err != nil || r.GetMeasurement() == nil {
			continue
		}
		raw, err := a.store.RawVector(ref.FirstIndex + uint64(i))
		lost := (*storage.DataLossError)(nil)
		if err != nil && !errors.As(err, &lost) && reason.Of(err) != reason.RawVectorExpired {
			return err
		}
		b.RawVectors[i] = raw
	}
	return nil
}

// Record reads the exact bytes of a leaf.
func (a *Archive) Record(index uint64) ([]byte, error) {
	leaf, err := a.store.Record(index)
	return leaf, asReason(err)
}

// ArchiveReport is what Verify found.
type ArchiveReport struct {
	Blocks     uint64 `json:"blocks"`
	Records    uint64 `json:"records"`
	RawVectors uint64 `json:"raw_vectors"`
	Bytes      int64  `json:"bytes"`  // of records and raw vectors, re-hashed
	Values     uint64 `json:"values"` // whose seals were checked
	Cold       uint64 `json:"raw_vectors_in_cold_storage"`
	Skipped    uint64 `json:"raw_vectors_not_read"` // of Cold; RawVectors does not count them
	// Expired counts raw vectors that are gone by decisions on the ledger, of blocks from
	// ExpiredFrom to ExpiredTo; RawVectors does not count them.
	Expired     uint64   `json:"raw_vectors_expired"`
	ExpiredFrom uint64   `json:"raw_vectors_expired_from_height"`
	ExpiredTo   uint64   `json:"raw_vectors_expired_to_height"`
	Problems    []string `json:"problems"` // what is missing or damaged, and where
}

// Verify re-hashes every stored byte. progress is told of blocks done and of
// how many; it may be nil. The error is not about the data.
func (a *Archive) Verify(ctx context.Context, progress func(done, of uint64)) (*ArchiveReport, error) {
	found, err := a.store.Verify(ctx, func(p storage.Progress) {
		if progress != nil {
			progress(p.Blocks, p.Of)
		}
	})
	if err != nil {
		return nil, err
	}
	report := &ArchiveReport{Blocks: found.Blocks, Records: found.Records, RawVectors: found.RawVectors, Bytes: found.Bytes, Values: found.Values, Cold: found.Cold, Skipped: found.Skipped,
		Expired: found.Expired.RawVectors, ExpiredFrom: found.Expired.From, ExpiredTo: found.Expired.To, Problems: []string{}}
	for _, p := range found.Problems {
		report.Problems = append(report.Problems, p.Error())
	}
	return report, nil
}

// asReason gives damage its reason.
func asReason(err error) error {
	var lost *storage.DataLossError
	if errors.As(err, &lost) {
		return reason.New(reason.DataLoss, "%v", err)
	}
	return err
}

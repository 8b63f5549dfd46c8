package storage

import (
	"fmt"
	"os"

	"github.com/lacre-metrology/lacre/platform/durable"
	"go.etcd.io/bbolt"
)

// disk is every write that a commit does, in one place, so that tests can break
// each of them: once lost, once done with the reply lost.
type disk interface {
	// Create makes a new file; it fails if the path exists.
	Create(path string) (segmentFile, error)
	// Open opens a file to be written further.
	Open(path string) (segmentFile, error)
	// SyncDir makes created entries of a directory durable.
	SyncDir(dir string) error
	// Remove removes a file; it may come back after a power cut.
	Remove(path string) error
	// CommitTx commits; it is durable when it returns.
	CommitTx(tx *bbolt.Tx) error
}

// segmentFile is a segment being written; not safe for concurrent use.
type segmentFile interface {
	WriteAt(b []byte, offset int64) (int, error)
	// Sync makes content and length durable.
	Sync() error
	Truncate(size int64) error
	Close() error
}

type osDisk struct{}

func (osDisk) Create(path string) (segmentFile, error) {
	return openSegment(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (osDisk) Open(path string) (segmentFile, error) { return openSegment(path, os.O_RDWR) }

func (osDisk) SyncDir(dir string) error { return durable.SyncDir(dir) }

func (osDisk) Remove(path string) error { return os.Remove(path) }

func (osDisk) CommitTx(tx *bbolt.Tx) error { return tx.Commit() }

func openSegment(path string, flag int) (segmentFile, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	return osFile{f}, nil
}

// osFile syncs with fdatasync where there is one: it flushes the length with
// the data and leaves out the times, which nobody reads.
type osFile struct{ *os.File }

func (f osFile) Sync() error {
	if err := dataSync(f.File); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name(), err)
	}
	return nil
}

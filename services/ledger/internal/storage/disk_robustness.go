//go:build robustness

package storage

import (
	"go.etcd.io/bbolt"

	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
)

// systemDisk is the operating system's, which the robustness suite can break.
func systemDisk() disk { return frailDisk{} }

// defaultSegmentBytes is little, so that segments are full, and packed, within a
// seed.
const defaultSegmentBytes = 128 << 10

type frailDisk struct{ osDisk }

func (d frailDisk) Create(path string) (segmentFile, error) { return frail(d.osDisk.Create(path)) }

func (d frailDisk) Open(path string) (segmentFile, error) { return frail(d.osDisk.Open(path)) }

func (d frailDisk) CommitTx(tx *bbolt.Tx) error {
	return fault.Around(fault.Commit, func() error { return d.osDisk.CommitTx(tx) })
}

func frail(f segmentFile, err error) (segmentFile, error) {
	if err != nil {
		return nil, err
	}
	return frailFile{f}, nil
}

type frailFile struct{ segmentFile }

func (f frailFile) WriteAt(b []byte, offset int64) (int, error) {
	return fault.WriteAt(fault.Write, b, offset, f.segmentFile.WriteAt)
}

func (f frailFile) Sync() error { return fault.Around(fault.Sync, f.segmentFile.Sync) }

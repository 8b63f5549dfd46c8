//go:build robustness

package raft

import (
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"github.com/lacre-metrology/lacre/services/ledger/internal/fault"
)

// logFiles are the operating system's, which the robustness suite can break.
func logFiles() types.VFS { return frailFiles{fs.New()} }

type frailFiles struct{ *fs.FS }

func (f frailFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	return frail(f.FS.Create(dir, name, size))
}

func (f frailFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	return frail(f.FS.OpenWriter(dir, name))
}

func frail(f types.WritableFile, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	return frailFile{f}, nil
}

type frailFile struct{ types.WritableFile }

func (f frailFile) WriteAt(b []byte, offset int64) (int, error) {
	return fault.WriteAt(fault.LogWrite, b, offset, f.WritableFile.WriteAt)
}

func (f frailFile) Sync() error { return fault.Around(fault.LogSync, f.WritableFile.Sync) }

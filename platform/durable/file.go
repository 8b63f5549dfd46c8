// Package durable writes small files so that a crash leaves the old content or the new, and holds the lock of a data
// directory.
//
// Source: POSIX.1-2024 rename(), fsync() and the Linux manual pages open(2), fsync(2), flock(2).
//
// Invariants:
//   - a reader of a path written by WriteFile sees one whole content, never a mixture;
//   - when WriteFile or CreateFile returns nil, content and directory entry have both been synchronised;
//   - at most one process holds a directory's Lock.
//
// A known hole: a disk that acknowledges a flush which it did not perform breaks the second invariant, and no program
// can tell. The replicas of other organisations are the answer to that, not this package.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// WriteFile replaces the content of path atomically and durably: temporary file beside it, fsync, rename, fsync of the
// directory. Mode holds for the new content even when path existed with another mode.
//
// On error the old content stands, with one exception: if only the last step failed (the directory's fsync), the new
// content is already visible but may not survive a power cut. The caller must treat the write as undecided.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	temporary, err := writeTemporary(path, content, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), os.Remove(temporary))
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceFile is WriteFile for a file that exists, and that keeps its mode, owner and group: a configuration that a
// service's own user reads, changed by root.
func ReplaceFile(path string, content []byte) error {
	standing, err := os.Stat(path)
	if err != nil {
		return err
	}
	temporary, err := writeTemporary(path, content, standing.Mode().Perm())
	if err != nil {
		return err
	}
	if err = keepOwner(temporary, standing); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w", path, err), os.Remove(temporary))
	}
	return SyncDir(filepath.Dir(path))
}

// CreateFile is WriteFile for a path that must not exist yet; errors.Is(err, fs.ErrExist) tells that it did. Keys are
// created with it, so that no race can overwrite one.
func CreateFile(path string, content []byte, mode fs.FileMode) error {
	temporary, err := writeTemporary(path, content, mode)
	if err != nil {
		return err
	}
	// Link, unlike rename, fails when the target exists.
	err = os.Link(temporary, path)
	if removeErr := os.Remove(temporary); err == nil {
		err = removeErr
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the entries of a directory durable: creations, renames and removals that happened before the call.
func SyncDir(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(handle.Sync(), handle.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// writeTemporary leaves the synchronised content beside path and returns its name, or leaves nothing.
func writeTemporary(path string, content []byte, mode fs.FileMode) (_ string, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(file.Name()))
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil {
		err = file.Sync()
	}
	return file.Name(), errors.Join(err, file.Close())
}

// Sweep removes what writes of path that a crash interrupted left beside it. The
// caller is the only one that writes path, and writes nothing meanwhile.
func Sweep(path string) error {
	left, err := filepath.Glob(filepath.Join(quoteMeta(filepath.Dir(path)), quoteMeta("."+filepath.Base(path))+".*.tmp"))
	if err != nil {
		return fmt.Errorf("sweep beside %s: %w", path, err)
	}
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// quoteMeta makes a name stand for itself in a pattern of package filepath.
func quoteMeta(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files is what an outbox asks of its directory; names are relative to it, with
// slashes. Calls may come from several goroutines, on different names.
type Files interface {
	// MakeDir creates a directory and its durable entry, unless it is there.
	MakeDir(name string) error
	// List gives the files of a directory in ascending order of name.
	List(dir string) ([]File, error)
	// Read gives a file's content; errors.Is(err, fs.ErrNotExist) when there is none.
	Read(name string) ([]byte, error)
	// Write replaces a file's content. When it returns nil the content is
	// durable; the entry in the directory is so after SyncDir only.
	Write(name string, parts ...[]byte) error
	// Rename moves a file atomically, over another if there is one; durable after
	// SyncDir of both directories.
	Rename(from, to string) error
	// Remove deletes a file; durable after SyncDir.
	Remove(name string) error
	// SyncDir makes all entries of a directory durable.
	SyncDir(dir string) error
}

// File is one entry of a directory.
type File struct {
	Name string
	Size int64 // bytes
}

// Dir is a real directory, held under an exclusive lock until Close.
type Dir struct {
	path string
	lock *os.File // owned until Close
}

// ErrLocked says that another process, or this one, has the directory open already.
var ErrLocked = errors.New("outbox directory is in use")

// OpenDir creates the directory if need be and locks it.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("outbox directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("outbox lock: %w", err)
	}
	if err := flock(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrLocked, path, err), lock.Close())
	}
	return &Dir{path: path, lock: lock}, nil
}

// Close gives the lock back.
func (d *Dir) Close() error { return d.lock.Close() }

// Path is a name as the rest of the system knows it.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// MakeDir implements Files.
func (d *Dir) MakeDir(name string) error {
	err := os.Mkdir(d.Path(name), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.SyncDir(".")
}

// List implements Files.
func (d *Dir) List(dir string) ([]File, error) {
	entries, err := os.ReadDir(d.Path(dir))
	if err != nil {
		return nil, err
	}
	files := make([]File, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		files = append(files, File{Name: e.Name(), Size: info.Size()})
	}
	return files, nil
}

// Read implements Files.
func (d *Dir) Read(name string) ([]byte, error) { return os.ReadFile(d.Path(name)) }

// Write implements Files.
func (d *Dir) Write(name string, parts ...[]byte) (err error) {
	f, err := os.OpenFile(d.Path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, part := range parts {
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	return f.Sync()
}

// Rename implements Files.
func (d *Dir) Rename(from, to string) error { return os.Rename(d.Path(from), d.Path(to)) }

// Remove implements Files.
func (d *Dir) Remove(name string) error { return os.Remove(d.Path(name)) }

// SyncDir implements Files.
func (d *Dir) SyncDir(dir string) error {
	f, err := os.Open(d.Path(dir))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

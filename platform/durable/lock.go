//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// LockName is the file inside a data directory that carries its lock.
const LockName = "LOCK"

// Lock is a process's exclusive hold on a data directory. The kernel drops it when the process ends, however it ends,
// so a crash never leaves a directory that must be unlocked by hand.
type Lock struct {
	file *os.File // owned by the holder until Unlock
}

// LockedError says that another process holds the directory.
type LockedError struct {
	Dir    string // the directory asked for
	Holder string // what the holder wrote about itself, such as "lacre dev (pid 4711)"; "unknown" if it wrote nothing
}

// Error names the directory and its holder.
func (e *LockedError) Error() string {
	return fmt.Sprintf("data directory %s is in use by %s", e.Dir, e.Holder)
}

// LockDir takes the exclusive lock of dir, which must exist, without waiting. Holder describes this process to whoever
// asks next, such as "ledger replica r1"; the process id is added. The error is a *LockedError when the directory is
// held, also when this very process holds it.
func LockDir(dir, holder string) (*Lock, error) {
	path := filepath.Join(dir, LockName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock directory: %w", err)
	}
	if err := flock(file); err != nil {
		defer file.Close() //nolint:errcheck // nothing was written, and the lock error matters more.
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{Dir: dir, Holder: readHolder(path)}
		}
		return nil, fmt.Errorf("lock directory %s: %w", dir, err)
	}
	// The text only serves the message above: it need not be durable, and a stale one is never believed.
	err = file.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(file, "%s (pid %d)\n", strings.TrimSpace(holder), os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock directory %s: %w", dir, err), file.Close())
	}
	return &Lock{file: file}, nil
}

// Unlock releases the directory. The LOCK file stays: removing it would let two processes lock two different files of
// that name.
func (l *Lock) Unlock() error {
	return l.file.Close()
}

func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func readHolder(path string) string {
	text, err := os.ReadFile(path)
	if holder := strings.TrimSpace(string(text)); err == nil && holder != "" {
		return holder
	}
	return "unknown"
}

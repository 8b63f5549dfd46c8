package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lacre-metrology/lacre/platform/durable"
)

func TestWriteFileReplacesContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte("old, and longer than the new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "new", 0o600)
	wantOnly(t, filepath.Dir(path), "state")
}

func TestWriteFileThatFailsLeavesTheOld(t *testing.T) {
	dir := t.TempDir()
	// A directory cannot be replaced by a file: the rename fails after the temporary file was written.
	target := filepath.Join(dir, "state")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(target, []byte("new"), 0o600); err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	wantOnly(t, dir, "state")
	if err := durable.WriteFile(filepath.Join(dir, "absent", "state"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("write into an absent directory: %v, want fs.ErrNotExist", err)
	}
}

func TestCreateFileNeverOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := durable.CreateFile(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.CreateFile(path, []byte("second"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second creation: %v, want fs.ErrExist", err)
	}
	wantFile(t, path, "first", 0o600)
	wantOnly(t, filepath.Dir(path), "key")
}

func TestLockDirIsExclusiveAndNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	held, err := durable.LockDir(dir, "ledger replica r1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = durable.LockDir(dir, "intruder")
	var locked *durable.LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("second lock: %v, want *LockedError", err)
	}
	if want := fmt.Sprintf("ledger replica r1 (pid %d)", os.Getpid()); locked.Holder != want || locked.Dir != dir {
		t.Fatalf("holder %q of %q, want %q of %q", locked.Holder, locked.Dir, want, dir)
	}
	if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "ledger replica r1") {
		t.Fatalf("error %q names not both directory and holder", err)
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := durable.LockDir(dir, "successor")
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestLockDirWantsADirectory(t *testing.T) {
	if _, err := durable.LockDir(filepath.Join(t.TempDir(), "absent"), "anyone"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want fs.ErrNotExist", err)
	}
}

func wantFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Fatalf("%s holds %q (%v), want %q", path, got, err, content)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != mode {
		t.Fatalf("%s has mode %v (%v), want %v", path, info.Mode().Perm(), err, mode)
	}
}

func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Fatalf("%s holds %v, want %v", dir, got, names)
	}
}

// A file that another user reads keeps its mode and its owner when its content is replaced.
func TestReplaceFileKeepsModeAndOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := durable.ReplaceFile(path, []byte("new")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	want := [2]int{os.Getuid(), os.Getgid()}
	if os.Getuid() == 0 { // others cannot give files away
		want = [2]int{1234, 5678}
		if err := os.Chown(path, want[0], want[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.ReplaceFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	var got [2]int
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		got = [2]int{int(s.Uid), int(s.Gid)}
	}
	if err != nil || string(text) != "new" || info.Mode().Perm() != 0o640 || got != want {
		t.Errorf("%q with mode %v and owner %v: %v; want mode 0640 and owner %v", text, info.Mode(), got, err, want)
	}
}

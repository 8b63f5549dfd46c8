package founding

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// A file that somebody else made is not read without end.
func TestReadFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, maxFileBytes); err != nil {
		t.Fatal(err)
	}
	if text, err := ReadFile(path); err != nil || len(text) != maxFileBytes {
		t.Errorf("%d bytes, %v; want all %d", len(text), err, maxFileBytes)
	}
	if err := os.Truncate(path, maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	_, err := ReadFile(path)
	want(t, "one byte more", err, path, "more than 16777216 bytes")
	_, err = ReadFiles(path)
	want(t, "a genesis", err, "more than")
	_, _, err = ReadMember(path)
	want(t, "a member file", err, "more than")
}

// The network's directory is for everybody; what an interrupted attempt left in
// its place is refused with the remedy.
func TestWriteIsReadableByAllAndNamesWhatStands(t *testing.T) {
	_, f, dir := founded(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if readable := fs.FileMode(0o444); err == nil && info.Mode().Perm()&readable != readable {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = f.Write(dir)
	if want(t, "again", err, ErrStanding.Error(), dir, f.Book.NetworkID); !errors.Is(err, ErrStanding) {
		t.Errorf("%v, want ErrStanding", err)
	}
	if err := os.Remove(filepath.Join(dir, BookFile)); err != nil {
		t.Fatal(err)
	}
	want(t, "a half-written one", f.Write(dir), "no "+BookFile, "remove it")
}

// An attempt to join that stopped anywhere says what to do; a configuration that
// stands is never replaced.
func TestJoinNamesWhatAnInterruptedAttemptLeft(t *testing.T) {
	list, f, dir := founded(t)
	o, id := list[3], "operator-1"
	_, _, err := Join(o.dir, dir, "", Admin{"operator-9": "127.0.0.1:1", "authority-0": ""})
	want(t, "an admin port of nobody", err, "operator-9", "authority-0", "operator-0, operator-1, operator-2")
	if _, err := os.Stat(filepath.Join(o.dir, GenesisFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the refused attempt wrote a genesis: %v", err)
	}
	config := ConfigPath(o.dir, id)
	if err := os.WriteFile(config, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = Join(o.dir, dir, "", nil)
	want(t, "a configuration that stands", err, config, "another content", "remove it")
	if text, err := os.ReadFile(config); err != nil || string(text) != "mine\n" {
		t.Errorf("%s holds %q: %v", config, text, err)
	}
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	_, _, err = Join(o.dir, dir, "", nil)
	want(t, "a begun ledger", err, "never been started", filepath.Join(NodeDir(o.dir, "operator-0"), "data"))
	if err := os.RemoveAll(filepath.Join(NodeDir(o.dir, "operator-0"), "data")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Join(o.dir, dir, f.Book.NetworkID, nil); err != nil {
		t.Errorf("the remedy does not help: %v", err)
	}
}

// In the directory of a joined organisation no private key is readable by others.
func TestNoPrivateKeyIsReadableByOthers(t *testing.T) {
	o := initialised(t, "institute", recordv1.Role_ROLE_REPLICA, recordv1.Role_ROLE_ENDORSER)
	keys := 0
	err := filepath.WalkDir(o.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && info.Mode().Perm() != 0o700:
			t.Errorf("%s has mode %v, want 0700", path, info.Mode())
		case filepath.Ext(path) == ".pem" && info.Mode().Perm() != 0o600:
			t.Errorf("%s has mode %v, want 0600", path, info.Mode())
		case filepath.Ext(path) == ".pem":
			keys++
		}
		return nil
	})
	if err != nil || keys != 8 { // root, CA, four of the replica, two of the endorser
		t.Errorf("%d private keys, want 8: %v", keys, err)
	}
}

package evidencekey

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/platform/identity"
)

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key, err := Generate(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || !got.Equal(key) {
		t.Errorf("read another key than was written: %v", err)
	}
	if _, err := Generate(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key file was overwritten: %v", err)
	}
	other := filepath.Join(t.TempDir(), "ed25519.pem")
	if err := identity.WriteKey(other, ed25519.NewKeyFromSeed(make([]byte, 32))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{path, other} {
		if _, err := Read(wrong); !errors.Is(err, identity.ErrKeyFile) {
			t.Errorf("%s was read: %v", wrong, err)
		}
	}
}

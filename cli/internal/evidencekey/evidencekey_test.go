package evidencekey

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/platform/identity"
)

func none() (string, error) { return "", errors.New("asked for a passphrase") }

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key, err := Generate(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Open(path, none); err != nil || !got.Equal(key) {
		t.Errorf("read another key than was written: %v", err)
	}
	if _, err := Generate(path, ""); !errors.Is(err, fs.ErrExist) {
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
		if _, err := Open(wrong, none); !errors.Is(err, statement.ErrKeyFile) {
			t.Errorf("%s was read: %v", wrong, err)
		}
	}
}

func TestEncryptedKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.age")
	const secret = "a long enough secret"
	if _, err := Generate(path, "short"); !errors.Is(err, statement.ErrPassphrase) {
		t.Errorf("a short passphrase: %v", err)
	}
	key, err := Generate(path, secret)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil || bytes.Contains(file, []byte("PRIVATE KEY")) || !bytes.HasPrefix(file, []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
		t.Errorf("the file holds %.80q (%v)", file, err)
	}
	if got, err := Open(path, func() (string, error) { return secret, nil }); err != nil || !got.Equal(key) {
		t.Errorf("read another key than was written: %v", err)
	}
	for name, ask := range map[string]func() (string, error){
		"another": func() (string, error) { return secret + "s", nil },
		"none":    func() (string, error) { return "", nil },
	} {
		if _, err := Open(path, ask); !errors.Is(err, statement.ErrPassphrase) {
			t.Errorf("%s passphrase: %v", name, err)
		}
	}
}

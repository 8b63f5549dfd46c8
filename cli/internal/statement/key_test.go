package statement

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/signature"
)

const passphrase = "correct horse battery"

// A key file is encrypted at rest: nothing of the key is in it, it opens under
// its passphrase alone, and no bit of it can be changed.
func TestEncryptedKeyOpensUnderItsPassphraseAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	key, err := GenerateEncryptedKey(path, P256, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil || bytes.Contains(file, []byte("PRIVATE KEY")) {
		t.Fatalf("the file holds a plain key: %v", err)
	}
	if _, err := GenerateEncryptedKey(path, P256, passphrase); !errors.Is(err, os.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
	says := func(s string) func() (string, error) { return func() (string, error) { return s, nil } }
	again, err := OpenKey(path, says(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	sig, err := signature.Sign(again, signature.P256, message)
	if err != nil {
		t.Fatal(err)
	}
	public, err := VerifierKey(key.Public())
	if err != nil || !signature.Verify(signature.P256, public, message, sig) {
		t.Errorf("it is another key: %v", err)
	}
	for name, open := range map[string]func() (string, error){"another": says("correct horse batterx"), "none": says("")} {
		if _, err := OpenKey(path, open); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s passphrase: %v", name, err)
		}
	}
	if _, err := ReadKey(path); !errors.Is(err, ErrPassphrase) {
		t.Errorf("where no passphrase is asked: %v", err)
	}
	flipped := bytes.Clone(file)
	flipped[len(flipped)-60] ^= 1
	if err := os.WriteFile(path, flipped, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKey(path, says(passphrase)); err == nil {
		t.Error("a changed file opened")
	}
	if _, err := GenerateEncryptedKey(path+"2", P256, "short"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a short passphrase: %v", err)
	}
}

// Nothing that a signer's program says is taken for more than it is.
func TestExternalSignerMisbehaves(t *testing.T) {
	for command, says := range map[string]string{
		"exit 1":                  "no whole line",
		"echo hello":              `answered "hello"`,
		"echo key !":              "illegal base64",
		"echo key AAAA":           "its key",
		"echo error no card":      "no card",
		"head -c 9000 /dev/zero":  "no whole line",
		"lacre-no-such-program-x": "no whole line",
	} {
		_, err := StartExternal(t.Context(), "read request; "+command, io.Discard)
		if err == nil || !errors.Is(err, ErrExternal) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", command, err, says)
		}
	}
}

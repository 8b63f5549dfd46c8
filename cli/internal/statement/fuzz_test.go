package statement

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// FuzzReadKey: a file holds a key under which something can be verified, or it is
// refused.
func FuzzReadKey(f *testing.F) {
	path := filepath.Join(f.TempDir(), "key.pem")
	for _, key := range []any{statetest.Key("fuzz"), statetest.P256Key("fuzz")} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		signer, err := ReadKey(path)
		if err != nil {
			return
		}
		if _, err := VerifierKey(signer.Public()); err != nil {
			t.Fatalf("a key was read under which nothing verifies: %v", err)
		}
	})
}

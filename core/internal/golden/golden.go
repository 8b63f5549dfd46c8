// Package golden compares what the code makes with the committed vectors in
// core/testdata, which another implementer can use.
//
// A difference fails the test. To write the vectors anew after a deliberate
// change of format, run the tests once with LACRE_GOLDEN=write and read the
// diff: every digest, signature and proof that exists already follows the old
// ones.
package golden

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// JSON compares value, as indented JSON, with the file of this name.
func JSON(t *testing.T, name string, value any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		t.Fatal(err)
	}
	Bytes(t, name, b.Bytes())
}

// Bytes compares bytes with the file of this name in core/testdata.
func Bytes(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("..", "testdata", name)
	if os.Getenv("LACRE_GOLDEN") == "write" {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the committed vectors;\ngot:\n%s\nwant:\n%s", name, got, want)
	}
}

package tlog

import (
	"bytes"
	"encoding/base64"
	"testing"
)

// What is accepted as base64 is what would be written, to the byte.
func FuzzDecodeBase64(f *testing.F) {
	for _, s := range []string{"", "AA==", "AB==", "AAA=", "AAAA", "AA", "AA=A", "A\nA==", "AA==\r\n", "_-==", "AAAA===="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, ok := decodeBase64(s)
		reference, err := base64.StdEncoding.DecodeString(s)
		if want := err == nil && base64.StdEncoding.EncodeToString(reference) == s; ok != want || ok && !bytes.Equal(b, reference) {
			t.Errorf("%q is accepted: %v, want %v", s, ok, want)
		}
	})
}

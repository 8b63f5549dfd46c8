package command

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
)

// FuzzReadDraft: what is read to be signed has a type and a payload of which the
// signature is made, and signed it is a file that is read again as the same.
func FuzzReadDraft(f *testing.F) {
	path := filepath.Join(f.TempDir(), "draft.json")
	terms, err := statetest.New(f, statetest.Options{}).Terms().Encode()
	if err != nil {
		f.Fatal(err)
	}
	signed := &envelope.Envelope{PayloadType: "application/x", Payload: []byte("payload")}
	if err := signed.Sign(statetest.Key("fuzz"), signature.Ed25519); err != nil {
		f.Fatal(err)
	}
	half, err := signed.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(terms)
	f.Add(append(half, '\n'))
	f.Add([]byte(`{"payloadType":"application/x","payload":"AA=="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := readDraft(path)
		if err != nil {
			return
		}
		before := e.Digest()
		if err := e.Sign(statetest.Key("fuzz"), signature.Ed25519); err != nil {
			return // signed by it already, or by too many
		}
		file, err := e.Encode()
		if err != nil {
			return // a payload or a type that no envelope holds
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := readDraft(path)
		if err != nil || again.Digest() != before || again.PayloadType != e.PayloadType || !bytes.Equal(again.Payload, e.Payload) {
			t.Fatalf("signed it is read as %+v (%v), want %+v", again, err, e)
		}
	})
}

package envelope

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/signature"
)

func edwards(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func p256(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	scalar := sha256.Sum256([]byte("test key " + name))
	scalar[0] = 0 // below the order
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyOf(t testing.TB, kind signature.Kind, signer crypto.Signer) signature.Key {
	t.Helper()
	key, err := signature.KeyOf(kind, signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// example is signed by an Ed25519 body and an Ed25519 manufacturer.
func example(t testing.TB) *Envelope {
	t.Helper()
	e := &Envelope{PayloadType: InTotoType, Payload: []byte(`{"_type":"https://in-toto.io/Statement/v1"}`)}
	for _, name := range []string{"body", "manufacturer"} {
		if err := e.Sign(edwards(name), signature.Ed25519); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// The example of the DSSE protocol document, "Test Vectors".
func TestDSSEVector(t *testing.T) {
	const payloadType, body = "http://example.com/HelloWorld", "hello world"
	if got := string(PAE(payloadType, []byte(body))); got != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Errorf("PAE = %q", got)
	}
	point := []byte{4}
	for _, decimal := range []string{
		"46950820868899156662930047687818585632848591499744589407958293238635476079160",
		"5640078356564379163099075877009565129882514886557779369047442380624545832820",
	} {
		n, _ := new(big.Int).SetString(decimal, 10)
		point = append(point, n.FillBytes(make([]byte, 32))...)
	}
	key, err := signature.NewKey(signature.P256, point)
	if err != nil {
		t.Fatal(err)
	}
	sig, _ := base64.StdEncoding.DecodeString("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
	e := &Envelope{PayloadType: payloadType, Payload: []byte(body), Signatures: []Signature{{KeyID: key.ID(), Sig: sig}}}
	if err := e.Verify(signature.Direct{}, key); err != nil {
		t.Error(err)
	}
}

func TestPAETellsTypeFromBody(t *testing.T) {
	if bytes.Equal(PAE("a", []byte("b c")), PAE("a 3 b", []byte("c"))) || bytes.Equal(PAE("", []byte("x")), PAE("x", nil)) {
		t.Error("two statements have one encoding")
	}
	if got := string(PAE("", nil)); got != "DSSEv1 0  0 " {
		t.Errorf("PAE of nothing = %q", got)
	}
}

func TestSignEncodeParseVerify(t *testing.T) {
	e := &Envelope{PayloadType: InTotoType, Payload: []byte("{}")}
	identity := e.Digest()
	signers := map[signature.Kind]crypto.Signer{signature.Ed25519: edwards("a"), signature.P256: p256(t, "a")}
	for kind, signer := range signers {
		for range 2 { // the second replaces the first
			if err := e.Sign(signer, kind); err != nil {
				t.Fatal(err)
			}
		}
	}
	file, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(file)
	if err != nil || len(back.Signatures) != 2 || back.Digest() != identity {
		t.Fatalf("%+v, %v", back, err)
	}
	for kind, signer := range signers {
		if err := back.Verify(signature.Direct{}, keyOf(t, kind, signer)); err != nil {
			t.Error(err)
		}
	}
	var refused *SignatureError
	if err := back.Verify(signature.Direct{}, keyOf(t, signature.Ed25519, edwards("b"))); !errors.As(err, &refused) {
		t.Errorf("a stranger's key: %v", err)
	}
	if err := back.Verify(signature.Direct{}, signature.Key{}); err == nil {
		t.Error("the zero key verified")
	}
}

func TestB3_StatementsUseTheStrictPredicates(t *testing.T) {
	e := example(t)
	if err := e.Sign(edwards("a"), signature.Ed25519ZIP215); err == nil {
		t.Error("signed as a meter's statement")
	}
	key := keyOf(t, signature.Ed25519ZIP215, edwards("body"))
	e.Signatures[0].KeyID = key.ID()
	if err := e.Verify(signature.Direct{}, key); err == nil {
		t.Error("verified under ZIP-215")
	}
}

func TestKeyIDIsOnlyAHint(t *testing.T) {
	e := example(t)
	body, manufacturer := keyOf(t, signature.Ed25519, edwards("body")), keyOf(t, signature.Ed25519, edwards("manufacturer"))
	e.Signatures[0].Sig, e.Signatures[1].Sig = e.Signatures[1].Sig, e.Signatures[0].Sig
	for _, key := range []signature.Key{body, manufacturer} {
		if err := e.Verify(signature.Direct{}, key); err == nil {
			t.Errorf("%v: somebody else's signature passed under its keyid", key)
		}
	}
}

func TestB2_NoBitOfAFileCanChange(t *testing.T) {
	file, err := example(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	keys := []signature.Key{keyOf(t, signature.Ed25519, edwards("body")), keyOf(t, signature.Ed25519, edwards("manufacturer"))}
	accepted := func(file []byte) bool {
		e, err := Parse(file)
		if err != nil {
			return false
		}
		for _, key := range keys {
			if e.Verify(signature.Direct{}, key) != nil {
				return false
			}
		}
		return true
	}
	if !accepted(file) {
		t.Fatal("the example itself is refused")
	}
	for bit := range len(file) * 8 {
		flipped := bytes.Clone(file)
		flipped[bit/8] ^= 1 << (bit % 8)
		if accepted(flipped) {
			t.Errorf("bit %d flipped, accepted: %s", bit, flipped)
		}
	}
	for cut := range len(file) {
		if accepted(file[:cut]) {
			t.Errorf("cut at %d, accepted", cut)
		}
	}
}

func TestB2_ParseAcceptsOneForm(t *testing.T) {
	good, err := example(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	id := example(t).Signatures[0].KeyID
	other := example(t)
	other.Signatures[0], other.Signatures[1] = other.Signatures[1], other.Signatures[0]
	twice := example(t)
	twice.Signatures[1] = twice.Signatures[0]
	head, tail, _ := strings.Cut(text, `"signatures"`)
	urlSafe := head + `"signatures"` + strings.NewReplacer("+", "-", "/", "_").Replace(tail)
	if urlSafe == text {
		t.Fatal("the signatures have neither + nor /: the test is wrong")
	}
	for name, file := range map[string]string{
		"empty":               "",
		"null":                "null",
		"final newline":       text + "\n",
		"white space":         strings.Replace(text, ":", ": ", 1),
		"unknown field":       strings.Replace(text, "{", `{"x":1,`, 1),
		"duplicate field":     strings.Replace(text, "{", `{"payload":"AA==",`, 1),
		"field in capitals":   strings.Replace(text, "payload\"", "Payload\"", 1),
		"escape":              strings.Replace(text, "application", `\u0061pplication`, 1),
		"URL-safe base64":     urlSafe,
		"keyid in capitals":   strings.Replace(text, id, strings.ToUpper(id), 1),
		"no keyid":            strings.Replace(text, `"keyid":"`+id+`",`, "", 1),
		"no signatures":       head + `"signatures":[]}`,
		"another order":       string(other.encode()),
		"one signature twice": string(twice.encode()),
		"payload padding":     strings.Replace(text, `"payload":"`, `"payload":"=`, 1),
		"too long":            text + strings.Repeat(" ", MaxEncoded),
	} {
		if e, err := Parse([]byte(file)); !errors.Is(err, ErrMalformed) || e != nil {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
}

func TestEncodeKeepsBounds(t *testing.T) {
	for name, spoil := range map[string]func(*Envelope){
		"no type":         func(e *Envelope) { e.PayloadType = "" },
		"long type":       func(e *Envelope) { e.PayloadType = strings.Repeat("a", MaxPayloadType+1) },
		"quoted type":     func(e *Envelope) { e.PayloadType = `a"b` },
		"type not ASCII":  func(e *Envelope) { e.PayloadType = "é" },
		"no payload":      func(e *Envelope) { e.Payload = nil },
		"long payload":    func(e *Envelope) { e.Payload = make([]byte, MaxPayload+1) },
		"no signature":    func(e *Envelope) { e.Signatures = nil },
		"many signatures": func(e *Envelope) { e.Signatures = make([]Signature, MaxSignatures+1) },
		"short signature": func(e *Envelope) { e.Signatures[0].Sig = make([]byte, 63) },
		"DER signature":   func(e *Envelope) { e.Signatures[0].Sig = make([]byte, 71) },
		"keyid not hex":   func(e *Envelope) { e.Signatures[0].KeyID = "body" },
	} {
		e := example(t)
		spoil(e)
		if file, err := e.Encode(); !errors.Is(err, ErrMalformed) || file != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	largest := &Envelope{PayloadType: strings.Repeat("a", MaxPayloadType), Payload: make([]byte, MaxPayload)}
	for i := range MaxSignatures {
		if err := largest.Sign(edwards(string(rune('a'+i))), signature.Ed25519); err != nil {
			t.Fatal(err)
		}
	}
	file, err := largest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(file); err != nil {
		t.Errorf("the largest envelope cannot be read: %v", err)
	}
}

func TestGoldenEnvelope(t *testing.T) {
	e := example(t)
	file, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden.Bytes(t, "envelope.dsse.json", file)
	golden.JSON(t, "envelope.json", map[string]any{
		"file":           "envelope.dsse.json",
		"pae":            string(e.PAE()),
		"identity":       e.Digest(),
		"signer_keys":    []string{hexKey(keyOf(t, signature.Ed25519, edwards("body"))), hexKey(keyOf(t, signature.Ed25519, edwards("manufacturer")))},
		"signer_key_ids": []string{keyOf(t, signature.Ed25519, edwards("body")).ID(), keyOf(t, signature.Ed25519, edwards("manufacturer")).ID()},
	})
}

func hexKey(k signature.Key) string {
	return new(big.Int).SetBytes(append([]byte{1}, k.Bytes()...)).Text(16)[1:]
}

func FuzzParse(f *testing.F) {
	file, err := example(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(`{"payloadType":"a","payload":"AA==","signatures":[{"keyid":"","sig":""}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		e, err := Parse(file)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		again, err := e.Encode()
		if err != nil || !bytes.Equal(again, file) {
			t.Errorf("%s came back as %s, %v", file, again, err)
		}
	})
}

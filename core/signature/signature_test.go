package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"slices"
	"testing"

	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

var kinds = []Kind{Ed25519, Ed25519ZIP215, P256}

// signerOf gives a test signer and its key for a kind.
func signerOf(t testing.TB, kind Kind, name string) (crypto.Signer, Key) {
	t.Helper()
	var signer crypto.Signer = ed25519Signer(name)
	if kind == P256 {
		signer = p256Signer(t, name)
	}
	key, err := KeyOf(kind, signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer, key
}

// torsionSignature is a signature with a torsion component in R: the cofactored
// equation of ZIP-215 holds, the cofactorless one of crypto/ed25519 does not.
func torsionSignature(t testing.TB, name string, message []byte) []byte {
	t.Helper()
	private := ed25519Signer(name)
	expanded := sha512.Sum512(private.Seed())
	expanded[0] &= 248
	expanded[31] = expanded[31]&63 | 64
	var a, r, k scalar.Scalar
	if _, err := a.SetBytesModOrder(expanded[:32]); err != nil {
		t.Fatal(err)
	}
	nonce := sha512.Sum512(append(expanded[32:], message...))
	if _, err := r.SetBytesModOrderWide(nonce[:]); err != nil {
		t.Fatal(err)
	}
	point := curve.NewEdwardsPoint().MulBasepoint(curve.ED25519_BASEPOINT_TABLE, &r)
	bigR := compress(point.Add(point, torsion(t)))
	hash := sha512.New()
	hash.Write(bigR)
	hash.Write(private.Public().(ed25519.PublicKey))
	hash.Write(message)
	if _, err := k.SetBytesModOrderWide(hash.Sum(nil)); err != nil {
		t.Fatal(err)
	}
	k.Mul(&k, &a)
	k.Add(&k, &r)
	s := make([]byte, 32)
	if err := k.ToBytes(s); err != nil {
		t.Fatal(err)
	}
	return append(bigR, s...)
}

func TestB3_OnePredicateForEachKind(t *testing.T) {
	message := []byte("a sample header")
	sig := torsionSignature(t, "meter", message)
	_, strict := signerOf(t, Ed25519, "meter")
	_, zip := signerOf(t, Ed25519ZIP215, "meter")
	if Verify(Ed25519, strict, message, sig) {
		t.Error("the strict predicate accepted a torsion component")
	}
	if !Verify(Ed25519ZIP215, zip, message, sig) {
		t.Error("ZIP-215 refused a torsion component, single")
	}
	checks := make([]Check, 9) // enough for one shared equation
	for i := range checks {
		checks[i] = Check{Ed25519ZIP215, zip, message, sig}
	}
	for i, ok := range VerifyBatch(checks) {
		if !ok {
			t.Errorf("ZIP-215 refused a torsion component, batch %d", i)
		}
	}
}

// The predicate is crypto/ed25519, on what honest signers never make too: points
// of small order, encodings that are not canonical, an S above the order.
func TestB3_Ed25519IsThatOfTheStandardLibrary(t *testing.T) {
	message := []byte("a checkpoint")
	signer := ed25519Signer("replica")
	valid := ed25519.Sign(signer, message)
	keys := [][]byte{signer.Public().(ed25519.PublicKey), append([]byte{2}, make([]byte, 31)...)}
	var firsts [][]byte
	for _, p := range curve.EIGHT_TORSION {
		firsts = append(firsts, compress(p))
	}
	for low := range byte(19) {
		negative := nonCanonical(low)
		negative[31] |= 0x80
		firsts = append(firsts, nonCanonical(low), negative)
	}
	firsts = append(firsts, append([]byte{1}, append(make([]byte, 30), 0x80)...)) // x = 0, negative
	keys = append(keys, firsts...)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	seconds := [][]byte{make([]byte, 32), reversed(order.FillBytes(make([]byte, 32))), valid[32:]}
	above := new(big.Int).Add(order, new(big.Int).SetBytes(reversed(valid[32:])))
	signatures := [][]byte{valid, torsionSignature(t, "replica", message), append(bytes.Clone(valid[:32]), reversed(above.FillBytes(make([]byte, 32)))...)}
	for _, first := range append(firsts, valid[:32]) {
		for _, second := range seconds {
			signatures = append(signatures, append(bytes.Clone(first), second...))
		}
	}
	held := 0
	for i, raw := range keys {
		for j, sig := range signatures {
			want := ed25519.Verify(raw, message, sig)
			if got := Verify(Ed25519, mustKey(t, Ed25519, raw), message, sig); got != want {
				t.Errorf("key %d (%x), signature %d (%x): %v, crypto/ed25519 says %v", i, raw, j, sig, got, want)
			}
			if want {
				held++
			}
		}
	}
	if held < 10 { // small orders verify a lot
		t.Errorf("only %d of the signatures verify anywhere: the test shows little", held)
	}
}

func reversed(b []byte) []byte {
	b = bytes.Clone(b)
	slices.Reverse(b)
	return b
}

func TestB3_KeyOfOneKindFailsUnderAnother(t *testing.T) {
	message := []byte("m")
	for _, kind := range kinds {
		signer, key := signerOf(t, kind, "a")
		sig, err := Sign(signer, kind, message)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range append(kinds, 0, 4, 255) {
			got := Verify(other, key, message, sig)
			if got != (other == kind) {
				t.Errorf("a %v key under %v: %v", kind, other, got)
			}
			if batch := VerifyBatch([]Check{{other, key, message, sig}}); batch[0] != got {
				t.Errorf("a %v key under %v in a batch: %v", kind, other, batch[0])
			}
		}
		if Verify(kind, Key{}, message, sig) {
			t.Errorf("%v: the zero key verified", kind)
		}
	}
}

func TestSignThenVerify(t *testing.T) {
	for _, kind := range kinds {
		signer, key := signerOf(t, kind, "a")
		for _, message := range [][]byte{nil, []byte("m"), bytes.Repeat([]byte("long "), 1000)} {
			sig, err := Sign(signer, kind, message)
			if err != nil || len(sig) != Size {
				t.Fatalf("%v: %d bytes, %v", kind, len(sig), err)
			}
			if !Verify(kind, key, message, sig) {
				t.Errorf("%v: own signature over %d bytes refused", kind, len(message))
			}
			if Verify(kind, key, append(message, 0), sig) {
				t.Errorf("%v: a longer message passed", kind)
			}
			for _, length := range []int{0, 63, 65, 128} {
				if Verify(kind, key, message, append(sig, sig...)[:length]) {
					t.Errorf("%v: a signature of %d bytes passed", kind, length)
				}
			}
		}
	}
}

func TestB2_NoBitOfASignatureCanChange(t *testing.T) {
	message := []byte("m")
	for _, kind := range kinds {
		signer, key := signerOf(t, kind, "a")
		sig, err := Sign(signer, kind, message)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range Size * 8 {
			flipped := bytes.Clone(sig)
			flipped[bit/8] ^= 1 << (bit % 8)
			if Verify(kind, key, message, flipped) {
				t.Errorf("%v: bit %d flipped, accepted", kind, bit)
			}
		}
	}
}

func TestB3_P256AcceptsLowSOnly(t *testing.T) {
	message := []byte("m")
	signer, key := signerOf(t, P256, "a")
	n := new(big.Int).SetBytes(p256Order[:])
	for range 16 { // each draws another nonce, so both halves occur inside the signer
		sig, err := Sign(signer, P256, message)
		if err != nil || !Verify(P256, key, message, sig) {
			t.Fatalf("%x: %v", sig, err)
		}
		high := bytes.Clone(sig)
		new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:])).FillBytes(high[32:])
		hash := sha256.Sum256(message)
		if !ecdsa.VerifyASN1(&signer.(*ecdsa.PrivateKey).PublicKey, hash[:], derFromFixed(high)) {
			t.Fatal("the high-S twin is not even ECDSA-valid: the test is wrong")
		}
		if Verify(P256, key, message, high) {
			t.Errorf("high S accepted: %x", high)
		}
		normal, err := fixedFromDER(derFromFixed(high))
		if err != nil || !bytes.Equal(normal, sig) {
			t.Errorf("normalised to %x, %v; want %x", normal, err, sig)
		}
	}
	for name, component := range map[string][]byte{"zero": make([]byte, 32), "n": p256Order[:], "ones": bytes.Repeat([]byte{0xff}, 32)} {
		good := p256HalfOrder[:]
		if Verify(P256, key, message, append(bytes.Clone(component), good...)) || Verify(P256, key, message, append(bytes.Clone(good), component...)) {
			t.Errorf("%s as a component accepted", name)
		}
	}
}

// fakeSigner returns fixed bytes for a real public key.
type fakeSigner struct {
	public crypto.PublicKey
	out    []byte
	err    error
}

func (f fakeSigner) Public() crypto.PublicKey { return f.public }
func (f fakeSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return f.out, f.err
}

func TestSignRefusesWhatIsNotASignature(t *testing.T) {
	failure := errors.New("the element is unplugged")
	edwards, point := ed25519Signer("a").Public(), p256Signer(t, "a").Public()
	der := func(r, s int64) []byte {
		b, err := asn1.Marshal(struct{ R, S *big.Int }{big.NewInt(r), big.NewInt(s)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		kind   Kind
		signer fakeSigner
	}{
		"ed25519 too short":   {Ed25519, fakeSigner{edwards, make([]byte, 63), nil}},
		"ed25519 failing":     {Ed25519ZIP215, fakeSigner{edwards, nil, failure}},
		"p256 failing":        {P256, fakeSigner{point, nil, failure}},
		"p256 not DER":        {P256, fakeSigner{point, make([]byte, 64), nil}},
		"p256 trailing":       {P256, fakeSigner{point, append(der(1, 1), 0), nil}},
		"p256 zero":           {P256, fakeSigner{point, der(0, 1), nil}},
		"p256 negative":       {P256, fakeSigner{point, der(1, -1), nil}},
		"p256 key as ed25519": {Ed25519, fakeSigner{point, make([]byte, 64), nil}},
		"ed25519 key as p256": {P256, fakeSigner{edwards, der(1, 1), nil}},
		"unknown kind":        {9, fakeSigner{edwards, make([]byte, 64), nil}},
	} {
		sig, err := Sign(c.signer, c.kind, []byte("m"))
		if err == nil {
			t.Errorf("%s: got %x", name, sig)
		}
		if c.signer.err != nil && !errors.Is(err, failure) {
			t.Errorf("%s: %v hides the cause", name, err)
		}
	}
}

// vector is one entry of testdata/signature.json.
type vector struct {
	Note      string `json:"note"`
	Kind      string `json:"kind"`
	Key       string `json:"tagged_key_hex"`
	KeyID     string `json:"key_id"`
	Message   string `json:"message"`
	Signature string `json:"signature_hex"`
	Valid     bool   `json:"valid"`
}

func TestGoldenVectors(t *testing.T) {
	const message = "Lacre signature vector"
	var vectors []vector
	add := func(note string, key Key, sig []byte) {
		vectors = append(vectors, vector{note, key.Kind().String(), hexOf(key.Bytes()), key.ID(), message, hexOf(sig),
			Verify(key.Kind(), key, []byte(message), sig)})
	}
	for _, kind := range kinds {
		signer, key := signerOf(t, kind, "golden")
		var sig []byte
		var err error
		if kind == P256 { // RFC 6979, so that the file does not change
			hash := sha256.Sum256([]byte(message))
			der, derErr := signer.Sign(nil, hash[:], crypto.SHA256)
			if derErr != nil {
				t.Fatal(derErr)
			}
			sig, err = fixedFromDER(der)
		} else {
			sig, err = Sign(signer, kind, []byte(message))
		}
		if err != nil {
			t.Fatal(err)
		}
		add("plain", key, sig)
		flipped := bytes.Clone(sig)
		flipped[40] ^= 1
		add("one bit flipped", key, flipped)
		if kind == P256 {
			high := bytes.Clone(sig)
			n := new(big.Int).SetBytes(p256Order[:])
			n.Sub(n, new(big.Int).SetBytes(sig[32:])).FillBytes(high[32:])
			add("high S", key, high)
		} else {
			add("torsion component in R", key, torsionSignature(t, "golden", []byte(message)))
		}
	}
	golden.JSON(t, "signature.json", vectors)
}

func hexOf(b []byte) string { return new(big.Int).SetBytes(append([]byte{1}, b...)).Text(16)[1:] }

func FuzzFixedFromDER(f *testing.F) {
	der, _ := p256Signer(f, "a").Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
	f.Add(der)
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		fixed, err := fixedFromDER(der)
		if err != nil {
			return
		}
		if len(fixed) != Size || !isLowS(fixed[32:]) {
			t.Fatalf("%x became %x", der, fixed)
		}
		again, err := fixedFromDER(derFromFixed(fixed))
		if err != nil || !bytes.Equal(again, fixed) {
			t.Fatalf("%x came back as %x, %v", fixed, again, err)
		}
	})
}

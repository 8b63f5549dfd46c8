package signature

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
)

// ed25519Signer derives a test key from a name.
func ed25519Signer(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// p256Signer derives a test key from a name.
func p256Signer(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	scalar := sha256.Sum256([]byte("test key " + name))
	scalar[0] = 0 // below the order
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustKey(t testing.TB, kind Kind, raw []byte) Key {
	t.Helper()
	key, err := NewKey(kind, raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// torsion returns the point of order 8 that generates the small subgroup.
func torsion(t testing.TB) *curve.EdwardsPoint {
	t.Helper()
	return curve.EIGHT_TORSION[1]
}

func compress(p *curve.EdwardsPoint) []byte {
	c := curve.NewCompressedEdwardsY().SetEdwardsPoint(p)
	return c[:]
}

func TestB3_RegistrationRefusesUnsafeKeys(t *testing.T) {
	good := ed25519Signer("meter").Public().(ed25519.PublicKey)
	var y curve.CompressedEdwardsY
	copy(y[:], good)
	point, err := curve.NewEdwardsPoint().SetCompressedY(&y)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{
		"mixed order": compress(curve.NewEdwardsPoint().Add(point, torsion(t))),
		"not a point": append([]byte{2}, make([]byte, 31)...),
		"all ones":    []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
	}
	for i, p := range curve.EIGHT_TORSION {
		bad[fmt.Sprintf("small order %d", i)] = compress(p)
	}
	for low := range byte(19) {
		bad[fmt.Sprintf("non-canonical y = p + %d", low)] = nonCanonical(low)
	}
	for _, kind := range []Kind{Ed25519, Ed25519ZIP215} {
		if err := CheckKey(mustKey(t, kind, good)); err != nil {
			t.Errorf("%v: a good key was refused: %v", kind, err)
		}
		for name, raw := range bad {
			var keyError *KeyError
			if err := CheckKey(mustKey(t, kind, raw)); !errors.As(err, &keyError) {
				t.Errorf("%v, %s: %v, want a KeyError", kind, name, err)
				continue
			}
			// No y below 19 happens to be of prime order, so that the reason
			// is what shows the check of the encoding.
			if strings.HasPrefix(name, "non-canonical") && !strings.Contains(keyError.Reason, "canonical") && !strings.Contains(keyError.Reason, "not a point") {
				t.Errorf("%v, %s: refused as %q", kind, name, keyError.Reason)
			}
		}
	}
	public, _ := p256Signer(t, "meter").PublicKey.Bytes()
	if err := CheckKey(mustKey(t, P256, public)); err != nil {
		t.Errorf("a good P-256 key was refused: %v", err)
	}
	public[64] ^= 1
	if err := CheckKey(mustKey(t, P256, public)); err == nil {
		t.Error("a P-256 key off the curve was accepted")
	}
	if err := CheckKey(Key{}); err == nil {
		t.Error("the zero key was accepted")
	}
}

// nonCanonical encodes y = p + low, p = 2^255 - 19, low < 19.
func nonCanonical(low byte) []byte {
	y := make([]byte, 32)
	for i := range y {
		y[i] = 0xff
	}
	y[0], y[31] = 0xed+low, 0x7f
	return y
}

func TestKeyForms(t *testing.T) {
	public, _ := p256Signer(t, "a").PublicKey.Bytes()
	edwards := []byte(ed25519Signer("a").Public().(ed25519.PublicKey))
	ids := map[string]bool{}
	for kind, raw := range map[Kind][]byte{Ed25519: edwards, Ed25519ZIP215: edwards, P256: public} {
		key := mustKey(t, kind, raw)
		back, err := ParseKey(key.Bytes())
		if err != nil || back != key || key.Kind() != kind || !bytes.Equal(key.Raw(), raw) {
			t.Errorf("%v: Bytes and ParseKey give %v, %v", kind, back, err)
		}
		ids[key.ID()] = true
		for _, length := range []int{0, 31, 33, 64, 66} {
			if _, err := NewKey(kind, make([]byte, length)); err == nil {
				t.Errorf("%v: %d bytes accepted", kind, length)
			}
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d IDs for three keys", len(ids))
	}
	compressed := append([]byte{2}, public[1:]...)
	if _, err := NewKey(P256, compressed); err == nil {
		t.Error("a point not marked as uncompressed was accepted")
	}
	for _, tagged := range [][]byte{nil, {0}, {4}, append([]byte{9}, edwards...)} {
		if _, err := ParseKey(tagged); err == nil {
			t.Errorf("ParseKey(%x) accepted", tagged)
		}
	}
	if _, err := KeyOf(P256, ed25519.PublicKey(edwards)); err == nil {
		t.Error("an Ed25519 key passed as P-256")
	}
	if _, err := KeyOf(Ed25519, &p256Signer(t, "a").PublicKey); err == nil {
		t.Error("a P-256 key passed as Ed25519")
	}
	if (Key{}).Kind() != 0 || (Key{}).Raw() != nil || !(Key{}).IsZero() {
		t.Error("the zero key is not zero")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte{})
	f.Add(append([]byte{1}, ed25519Signer("a").Public().(ed25519.PublicKey)...))
	public, _ := p256Signer(f, "a").PublicKey.Bytes()
	f.Add(append([]byte{3}, public...))
	f.Fuzz(func(t *testing.T, tagged []byte) {
		key, err := ParseKey(tagged)
		if err != nil {
			return
		}
		if !bytes.Equal(key.Bytes(), tagged) {
			t.Errorf("%x came back as %x", tagged, key.Bytes())
		}
		ok := CheckKey(key) == nil
		if ok && key.Kind() == P256 && Verify(P256, key, nil, make([]byte, Size)) {
			t.Errorf("%x verifies the zero signature", tagged)
		}
	})
}

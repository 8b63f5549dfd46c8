package digest

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/internal/golden"
)

func TestOfIsPrefixedSHA256(t *testing.T) {
	for _, kind := range Kinds() {
		want := Digest(sha256.Sum256([]byte("lacre/" + kind.String() + "/v1\x00abc")))
		if got := Of(kind, []byte("ab"), []byte("c")); got != want {
			t.Errorf("Of(%v) = %v, want %v", kind, got, want)
		}
		want = sha256.Sum256([]byte("lacre/" + kind.String() + "/v1\x01" +
			"\x00\x00\x00\x00\x00\x00\x00\x02ab" + "\x00\x00\x00\x00\x00\x00\x00\x01c"))
		if got := OfFields(kind, []byte("ab"), []byte("c")); got != want {
			t.Errorf("OfFields(%v) = %v, want %v", kind, got, want)
		}
		h := New(kind)
		h.Write([]byte("a"))
		h.Digest() // must not disturb what follows
		h.Write([]byte("bc"))
		if got := h.Digest(); got != Of(kind, []byte("abc")) {
			t.Errorf("Hasher of %v gives %v", kind, got)
		}
	}
}

func TestKindsAndFormsNeverCollide(t *testing.T) {
	seen := map[Digest]string{}
	take := func(name string, d Digest) {
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[d] = name
	}
	for _, kind := range Kinds() {
		if strings.Trim(kind.String(), "abcdefghijklmnopqrstuvwxyz-") != "" || kind.String() == "" {
			t.Errorf("kind %d is named %q", kind, kind)
		}
		take(kind.String(), Of(kind))
		take(kind.String()+" of no fields", OfFields(kind))
		take(kind.String()+" of an empty field", OfFields(kind, nil))
		take(kind.String()+" of ab,c", OfFields(kind, []byte("ab"), []byte("c")))
		take(kind.String()+" of a,bc", OfFields(kind, []byte("a"), []byte("bc")))
	}
	if Plain([]byte("abc")).String() != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Error("Plain is not SHA-256 (FIPS 180-4 example)")
	}
}

func TestKindOutsideTheListPanics(t *testing.T) {
	for _, kind := range []Kind{0, kindEnd, 255} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Of(%v) did not panic", kind)
				}
			}()
			Of(kind)
		}()
	}
}

func TestTextForm(t *testing.T) {
	d := Of(Sample, []byte("x"))
	if back, err := Parse(d.String()); err != nil || back != d {
		t.Errorf("Parse(String) = %v, %v", back, err)
	}
	if !strings.HasPrefix(d.String(), strings.TrimSuffix(d.Short(), "..")) {
		t.Errorf("Short %q of %v", d.Short(), d)
	}
	for _, bad := range []string{"", "00", strings.ToUpper(d.String()), d.String() + "0", strings.Repeat("g", 64)} {
		if got, err := Parse(bad); err == nil || !got.IsZero() {
			t.Errorf("Parse(%q) = %v, %v", bad, got, err)
		}
	}
	var asJSON Digest
	text, _ := json.Marshal(d)
	if err := json.Unmarshal(text, &asJSON); err != nil || asJSON != d {
		t.Errorf("JSON %s gives %v, %v", text, asJSON, err)
	}
	if back, err := FromBytes(d.Bytes()); err != nil || back != d {
		t.Errorf("FromBytes = %v, %v", back, err)
	}
	var length *LengthError
	if _, err := FromBytes(make([]byte, 31)); !errors.As(err, &length) || length.Got != 31 || length.Want != 32 {
		t.Errorf("FromBytes of 31 bytes: %v", err)
	}
}

// vector is one line of testdata/digest.json.
type vector struct {
	Kind   string `json:"kind"`
	Empty  Digest `json:"of_nothing"`
	ABC    Digest `json:"of_abc"`
	Fields Digest `json:"of_fields_a_bc"`
}

func TestGoldenVectors(t *testing.T) {
	var vectors []vector
	for _, kind := range Kinds() {
		vectors = append(vectors, vector{
			Kind: kind.String(), Empty: Of(kind), ABC: Of(kind, []byte("abc")),
			Fields: OfFields(kind, []byte("a"), []byte("bc")),
		})
	}
	golden.JSON(t, "digest.json", vectors)
}

func FuzzParse(f *testing.F) {
	f.Add("")
	f.Add(Of(Sample).String())
	f.Add(strings.ToUpper(Of(Sample).String()))
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Parse(s); err == nil && d.String() != s {
			t.Errorf("Parse(%q) = %v: another form was accepted", s, d)
		}
	})
}

package sample

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/signature"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

func example() *Header {
	return &Header{
		NetworkID: digest.Plain([]byte("network")), MeterID: "meter-1", Counter: 42, Previous: digest.Plain([]byte("41")),
		CapturedAtUnixNano: 1_767_225_600_123_456_789, ClockSync: recordv1.ClockSync_CLOCK_SYNC_HOLDOVER,
		KnownHeight: 7, KnownBlock: digest.Plain([]byte("header 7")), Channels: 2, SamplesPerChannel: 512,
		SampleRateMillihertz: 2_000_000, Encoding: recordv1.Encoding_ENCODING_RICE, RawDigest: DigestRaw([]byte("raw")),
		Evidence: []Evidence{{digest.Plain([]byte("plate")), 5, "image/jpeg"}}, StatusFlags: 4,
	}
}

func key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, 32)) }

func TestEncodeAndParseAreInverse(t *testing.T) {
	first := example()
	first.Counter, first.Previous, first.Evidence, first.KnownHeight, first.StatusFlags = 1, digest.Zero, nil, 0, 0
	for _, h := range []*Header{example(), first} {
		b, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(&s.Header, h) || !bytes.Equal(s.Bytes, b) {
			t.Errorf("parsed %+v, want %+v", s.Header, h)
		}
	}
}

// What Sign makes is what a reader of its bytes sees, and shares nothing with the header.
func TestSignGivesWhatParseReads(t *testing.T) {
	most := example()
	most.Evidence = slices.Repeat([]Evidence{{digest.Plain(nil), MaxEvidenceBytes, strings.Repeat("a", MaxMediaType-2) + "/b"}}, MaxEvidence)
	first := example()
	first.Counter, first.Previous, first.Evidence = 1, digest.Zero, []Evidence{}
	for _, h := range []*Header{example(), most, first} {
		s, _, err := Sign(key(), h)
		if err != nil {
			t.Fatal(err)
		}
		read, err := Parse(s.Bytes)
		if err != nil || !reflect.DeepEqual(s, read) {
			t.Errorf("signed %+v, read %+v (%v)", s, read, err)
		}
		if len(h.Evidence) > 0 {
			if h.Evidence[0].Size++; s.Evidence[0].Size == h.Evidence[0].Size {
				t.Error("the sample's evidence is the header's")
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for name, change := range map[string]func(*Header){
		"no meter":          func(h *Header) { h.MeterID = "" },
		"bad meter":         func(h *Header) { h.MeterID = "a/b" },
		"no counter":        func(h *Header) { h.Counter = 0 },
		"no time":           func(h *Header) { h.CapturedAtUnixNano = 0 },
		"time before 1970":  func(h *Header) { h.CapturedAtUnixNano = -1 },
		"no clock":          func(h *Header) { h.ClockSync = 0 },
		"one channel":       func(h *Header) { h.Channels = 1 },
		"too many channels": func(h *Header) { h.Channels = MaxChannels + 1 },
		"no samples":        func(h *Header) { h.SamplesPerChannel = 0 },
		"too many samples":  func(h *Header) { h.SamplesPerChannel = MaxSamplesPerChannel + 1 },
		"no rate":           func(h *Header) { h.SampleRateMillihertz = 0 },
		"no encoding":       func(h *Header) { h.Encoding = 0 },
		"too much evidence": func(h *Header) { h.Evidence = slices.Repeat([]Evidence{{digest.Plain(nil), 1, "a/b"}}, MaxEvidence+1) },
	} {
		h := example()
		change(h)
		if _, err := h.Encode(); reason.Of(err) != reason.Malformed {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Sign(key(), h); reason.Of(err) != reason.Malformed {
			t.Errorf("%s: signed (%v)", name, err)
		}
	}
}

func TestB1_HeadersHaveOneForm(t *testing.T) {
	good, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	zero := example()
	zero.Previous = digest.Zero
	without, err := zero.Encode()
	if err != nil {
		t.Fatal(err)
	}
	// An all-zero predecessor, written out, would be a second form of none.
	at := bytes.Index(without, []byte{0x28}) // captured_at follows previous
	written := append(append(append([]byte(nil), without[:at]...), append([]byte{0x22, 0x20}, make([]byte, 32)...)...), without[at:]...)
	for name, c := range map[string]struct {
		bytes []byte
		want  reason.Reason
	}{
		"empty":            {nil, reason.Malformed},
		"trailing byte":    {append(append([]byte(nil), good...), 0), reason.NotCanonical},
		"cut":              {good[:len(good)-1], reason.NotCanonical},
		"zero predecessor": {written, reason.Malformed},
		"too long":         {make([]byte, MaxHeaderBytes+1), reason.TooLarge},
		"short digest":     {append([]byte{0x0a, 0x01, 0x07}, good[34:]...), reason.Malformed},
	} {
		if _, err := Parse(c.bytes); reason.Of(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := Parse(without); err != nil {
		t.Error(err)
	}
}

// Identity is of what was signed: one bit of the header changes it, another
// signature does not.
func TestIdentityIsOfTheSignedBytes(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var identity digest.Digest
	for _, signer := range []crypto.Signer{key(), p256} {
		s, sig, err := Sign(signer, example())
		if err != nil {
			t.Fatal(err)
		}
		kind, err := KindOf(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		public, err := signature.KeyOf(kind, signer.Public())
		if err != nil || !signature.Verify(kind, public, s.Signed(), sig) {
			t.Errorf("%T: does not verify (%v)", signer, err)
		}
		if identity.IsZero() {
			identity = s.Digest
		}
		if s.Digest != identity {
			t.Errorf("%T: identity %s, want %s", signer, s.Digest.Short(), identity.Short())
		}
	}
	h := example()
	h.StatusFlags++
	if s, _, err := Sign(key(), h); err != nil || s.Digest == identity {
		t.Errorf("another header has the same identity (%v)", err)
	}
	if _, err := KindOf(nil); err == nil {
		t.Error("nothing has a kind")
	}
}

func TestGolden(t *testing.T) {
	s, sig, err := Sign(key(), example())
	if err != nil {
		t.Fatal(err)
	}
	golden.JSON(t, "sample.json", map[string]any{
		"seed": make([]byte, 32), "header": s.Bytes, "signed": s.Signed(), "signature": sig,
		"digest": s.Digest, "rawDigestOfRaw": DigestRaw([]byte("raw")),
	})
}

func FuzzParse(f *testing.F) {
	good, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			if reason.Of(err) == "" {
				t.Fatalf("%v has no reason", err)
			}
			return
		}
		again, err := s.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is accepted and encodes as %x (%v)", b, again, err)
		}
	})
}

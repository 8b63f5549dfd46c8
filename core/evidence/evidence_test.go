package evidence_test

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"io"
	"testing"
	"testing/cryptotest"
	"testing/iotest"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/evidence"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/sample"
)

func key(t testing.TB, seed string) *ecdh.PrivateKey {
	t.Helper()
	d := digest.Plain([]byte(seed))
	k, err := ecdh.X25519().NewPrivateKey(d[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var where = evidence.Context{NetworkID: digest.Plain([]byte("network")), MeterID: "meter-1", MediaType: "image/jpeg"}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func seal(t testing.TB, content []byte) ([]byte, sample.Evidence) {
	t.Helper()
	var sealed bytes.Buffer
	piece, err := evidence.Seal(&sealed, key(t, "authority").PublicKey().Bytes(), where, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return sealed.Bytes(), piece
}

func open(key *ecdh.PrivateKey, c evidence.Context, sealed []byte) ([]byte, error) {
	var out bytes.Buffer
	err := evidence.Open(&out, key, c, bytes.NewReader(sealed))
	return out.Bytes(), err
}

func TestSealAndOpenAreInverse(t *testing.T) {
	for _, n := range []int{1, 100, evidence.ChunkBytes - 1, evidence.ChunkBytes, evidence.ChunkBytes + 1, 3 * evidence.ChunkBytes} {
		sealed, piece := seal(t, content(n))
		if want := digest.Of(digest.Evidence, sealed); piece.Digest != want || piece.Size != uint64(len(sealed)) || int64(len(sealed)) != evidence.SealedSize(int64(n)) {
			t.Errorf("%d bytes: piece %+v, sealed are %d bytes with digest %s", n, piece, len(sealed), want)
		}
		if d, size, err := evidence.Judge(bytes.NewReader(sealed)); d != piece.Digest || size != int64(piece.Size) || err != nil {
			t.Errorf("%d bytes: judged %s, %d (%v)", n, d, size, err)
		}
		got, err := open(key(t, "authority"), where, sealed)
		if err != nil || !bytes.Equal(got, content(n)) {
			t.Errorf("%d bytes: opened %d bytes (%v)", n, len(got), err)
		}
	}
}

// Sealed twice, a piece is not recognised as the same.
func TestSealingIsNotDeterministic(t *testing.T) {
	a, _ := seal(t, content(100))
	b, _ := seal(t, content(100))
	if bytes.Equal(a, b) {
		t.Error("one content sealed twice gives the same bytes")
	}
}

func TestSealRefuses(t *testing.T) {
	public := key(t, "authority").PublicKey().Bytes()
	broken := errors.New("camera is gone")
	for name, c := range map[string]struct {
		key     []byte
		context evidence.Context
		content io.Reader
		want    error
	}{
		"empty":           {public, where, bytes.NewReader(nil), reason.New(reason.EvidenceUnreadable, "")},
		"too large":       {public, where, bytes.NewReader(make([]byte, evidence.MaxContentBytes+1)), reason.New(reason.TooLarge, "")},
		"weak key":        {make([]byte, 32), where, bytes.NewReader([]byte("x")), reason.New(reason.WeakKey, "")},
		"short key":       {public[:31], where, bytes.NewReader([]byte("x")), reason.New(reason.Malformed, "")},
		"no meter":        {public, evidence.Context{MediaType: "image/jpeg"}, bytes.NewReader([]byte("x")), reason.New(reason.Malformed, "")},
		"no media type":   {public, evidence.Context{MeterID: "m"}, bytes.NewReader([]byte("x")), reason.New(reason.Malformed, "")},
		"a broken source": {public, where, iotest.ErrReader(broken), broken},
	} {
		if _, err := evidence.Seal(io.Discard, c.key, c.context, c.content); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if piece, err := evidence.Seal(io.Discard, public, where, bytes.NewReader(make([]byte, evidence.MaxContentBytes))); err != nil || piece.Size > sample.MaxEvidenceBytes {
		t.Errorf("the largest content gives %d bytes (%v)", piece.Size, err)
	}
}

// Every bit of a sealed piece counts, every cut shows, and so do key and context.
func TestOpenRefusesWhatWasChanged(t *testing.T) {
	sealed, _ := seal(t, content(100))
	refused := func(name string, key *ecdh.PrivateKey, c evidence.Context, b []byte) {
		t.Helper()
		if _, err := open(key, c, b); reason.Of(err) != reason.EvidenceUnreadable {
			t.Errorf("%s: %v, want %s", name, err, reason.EvidenceUnreadable)
		}
	}
	own := key(t, "authority")
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1 << (i % 8)
		// The top bit of an encapsulated X25519 key does not count in the secret, but in the key schedule it does.
		refused("a flipped bit", own, where, changed)
		refused("cut", own, where, sealed[:i])
	}
	refused("a byte more", own, where, append(bytes.Clone(sealed), 0))
	refused("another key", key(t, "other"), where, sealed)
	for name, change := range map[string]func(*evidence.Context){
		"network":    func(c *evidence.Context) { c.NetworkID = digest.Zero },
		"meter":      func(c *evidence.Context) { c.MeterID = "meter-2" },
		"media type": func(c *evidence.Context) { c.MediaType = "image/png" },
	} {
		c := where
		change(&c)
		refused("another "+name, own, c, sealed)
	}
	two, _ := seal(t, content(2*evidence.ChunkBytes))
	at := evidence.HeaderBytes + evidence.ChunkBytes + 16
	refused("cut between chunks", own, where, two[:at])
	refused("chunks exchanged", own, where, append(append(bytes.Clone(two[:evidence.HeaderBytes]), two[at:]...), two[evidence.HeaderBytes:at]...))
}

// TestGolden is what another implementation opens: key, context and sealed bytes.
func TestGolden(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	type vector struct {
		Name      string        `json:"name"`
		Private   []byte        `json:"privateKey"`
		Network   digest.Digest `json:"networkId"`
		Meter     string        `json:"meterId"`
		MediaType string        `json:"mediaType"`
		Content   []byte        `json:"content"`
		Sealed    []byte        `json:"sealed"`
		Digest    digest.Digest `json:"digest"`
		Size      uint64        `json:"size"`
	}
	var vectors []vector
	for _, c := range []struct {
		name    string
		content []byte
	}{{"one byte", []byte{7}}, {"a short text", []byte("the plate is in the picture")}, {"two chunks", make([]byte, evidence.ChunkBytes+1)}} {
		sealed, piece := seal(t, c.content)
		vectors = append(vectors, vector{c.name, key(t, "authority").Bytes(), where.NetworkID, where.MeterID, where.MediaType, c.content, sealed, piece.Digest, piece.Size})
	}
	golden.JSON(t, "evidence.json", vectors)
}

// FuzzOpen wants no panic, and no content but what was sealed.
func FuzzOpen(f *testing.F) {
	sealed, _ := seal(f, []byte("the plate is in the picture"))
	f.Add(sealed)
	f.Add(sealed[:evidence.HeaderBytes])
	f.Add([]byte("lacre evidence 1"))
	own := key(f, "authority")
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := open(own, where, b)
		if err != nil && reason.Of(err) != reason.EvidenceUnreadable {
			t.Fatalf("refused without its reason: %v", err)
		}
		if err == nil && !bytes.Equal(b, sealed) && len(got) == 0 {
			t.Fatal("an empty piece opened")
		}
	})
}

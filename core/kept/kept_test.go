package kept_test

import (
	"bytes"
	"errors"
	"maps"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/kept"
	"github.com/lacre-metrology/lacre/core/state"
)

const magic = "lacre/test-state/v1\n"

// parts are one of each.
type parts struct {
	number uint64
	field  string
	values map[string][]byte
	ref    state.BlockRef
	with   digest.Digest
}

func (p *parts) write() []byte {
	w := kept.NewWriter(magic)
	w.Number(p.number)
	w.Field([]byte(p.field))
	w.Values(p.values)
	w.Block(p.ref, p.with)
	return w.Bytes()
}

func read(b []byte) (*parts, error) {
	r, err := kept.Open(magic, b)
	if err != nil {
		return nil, err
	}
	p := &parts{number: r.Number(), field: string(r.Field()), values: r.Values()}
	p.ref = r.Block(&p.with)
	return p, r.End()
}

func example() *parts {
	d := func(s string) digest.Digest { return digest.Plain([]byte(s)) }
	return &parts{300, "field", map[string][]byte{"b": []byte("2"), "a": []byte("1"), "": nil},
		state.BlockRef{Height: 1 << 40, Header: d("h"), BlockTimeUnixNano: 5, FirstIndex: 6, Size: 7, Root: d("r"), Config: d("c"), Admin: d("a"), CertifiedHeight: 8}, d("w")}
}

func TestPartsAreReadAsTheyWereWritten(t *testing.T) {
	want := example()
	b := want.write()
	got, err := read(b)
	if err != nil || got.number != want.number || got.field != want.field || got.ref != want.ref || got.with != want.with ||
		!maps.EqualFunc(got.values, want.values, bytes.Equal) {
		t.Fatalf("%+v, %v", got, err)
	}
	for n := range b {
		if _, err := read(b[:n]); !errors.Is(err, kept.ErrForm) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	if _, err := kept.Open("lacre/other-state/v1\n", b); !errors.Is(err, kept.ErrForm) {
		t.Errorf("another reader's: %v", err)
	}
	w := kept.NewWriter(magic)
	w.Number(1 << 60)
	r, err := kept.Open(magic, w.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Count(1); n != 0 || !errors.Is(r.End(), kept.ErrForm) {
		t.Errorf("%d parts where none are", n)
	}
}

func FuzzReader(f *testing.F) {
	b := example().write()
	f.Add(b[len(magic) : len(b)-digest.Size])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		file := append([]byte(magic), body...)
		sum := digest.Plain(file)
		file = append(file, sum[:]...)
		p, err := read(file)
		if err != nil {
			if !errors.Is(err, kept.ErrForm) {
				t.Fatal(err)
			}
			return
		}
		// Whoever wants one form writes again and compares; that reads the same.
		again, err := read(p.write())
		if err != nil || again.ref != p.ref || again.number != p.number || !maps.EqualFunc(again.values, p.values, bytes.Equal) {
			t.Fatalf("%+v is written and read as %+v: %v", p, again, err)
		}
	})
}

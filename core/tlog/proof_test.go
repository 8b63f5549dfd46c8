package tlog_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
)

func TestProofVerifiesEveryRecord(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 8, 13} {
		net := newNetwork(t, 4, 3, size)
		certificate := net.certify(0, 1, 2)
		cache := signature.NewCache(64)
		for index := range uint64(size) {
			text := net.receipt(index, certificate).Text()
			p, err := tlog.ParseProof(text)
			if err != nil {
				t.Fatal(err)
			}
			record, err := p.VerifyRecord(cache, net.policy)
			if err != nil || !bytes.Equal(record, net.records[index]) {
				t.Errorf("record %d of %d: %q, %v", index, size, record, err)
			}
			for other := range uint64(size) {
				p.Index = other
				if _, err := p.VerifyRecord(cache, net.policy); (err == nil) != (other == index) {
					t.Errorf("record %d of %d proved at index %d: %v", index, size, other, err)
				}
			}
		}
	}
}

func TestProofErrorsShowBothSides(t *testing.T) {
	net := newNetwork(t, 4, 3, 7)
	p := net.receipt(4, net.certify(0, 1, 2))
	var root *tlog.RootError
	err := p.Verify(signature.Direct{}, net.policy, tlog.LeafHash([]byte("another record")))
	if !errors.As(err, &root) || !errors.Is(err, tlog.ErrProof) || root.Want != net.tree.Root() || root.Got == root.Want {
		t.Errorf("another record: %v", err)
	}
	p.Path = p.Path[1:]
	var shape *tlog.ProofShapeError
	if _, err := p.VerifyRecord(signature.Direct{}, net.policy); !errors.As(err, &shape) || !errors.Is(err, tlog.ErrProof) {
		t.Errorf("a short path: %v", err)
	}
	p = net.receipt(4, net.certify(0, 1))
	if _, err := p.VerifyRecord(signature.Direct{}, net.policy); !errors.Is(err, tlog.ErrNotCertified) {
		t.Errorf("two cosignatures: %v", err)
	}
}

// Any flipped bit and any cut of a receipt is refused: either it is not in the
// one form any more, or a signature, the path or the record no longer fits.
func TestB2_NoBitOfAReceiptCanChange(t *testing.T) {
	net := newNetwork(t, 4, 3, 7)
	text := net.receipt(4, net.certify(3, 0, 1)).Text()
	cache := signature.NewCache(64) // positive answers only, so a flipped one is computed
	accepted := func(text []byte) bool {
		p, err := tlog.ParseProof(text)
		if err != nil {
			if !errors.Is(err, tlog.ErrMalformed) {
				t.Errorf("untyped error %v", err)
			}
			return false
		}
		_, err = p.VerifyRecord(cache, net.policy)
		return err == nil
	}
	if !accepted(text) {
		t.Fatal("the receipt itself is refused")
	}
	parsed := 0
	for bit := range len(text) * 8 {
		flipped := bytes.Clone(text)
		flipped[bit/8] ^= 1 << (bit % 8)
		if accepted(flipped) {
			t.Errorf("bit %d flipped, accepted:\n%s", bit, flipped)
		}
		if _, err := tlog.ParseProof(flipped); err == nil {
			parsed++
		}
	}
	if parsed == 0 {
		t.Error("every flip failed in the parser: the test never reached the signatures")
	}
	for cut := range len(text) {
		if accepted(text[:cut]) || accepted(slices.Concat(text[:cut], text[cut+1:])) || accepted(slices.Concat(text[:cut], []byte("\n"), text[cut:])) {
			t.Errorf("cut, shortened or broken at %d, accepted", cut)
		}
	}
}

func TestB2_ProofHasOneForm(t *testing.T) {
	net := newNetwork(t, 4, 3, 7)
	certificate := net.certify(0, 1, 2)
	text := string(net.receipt(4, certificate).Text())
	lines := strings.SplitAfter(text, "\n")
	for name, bad := range map[string]string{
		"empty":            "",
		"header only":      tlog.ProofHeader + "\n\n",
		"no header":        strings.TrimPrefix(text, lines[0]),
		"another version":  strings.Replace(text, "@v1", "@v2", 1),
		"extra twice":      strings.Replace(text, lines[1], lines[1]+lines[1], 1),
		"extra empty":      strings.Replace(text, lines[1], "extra \n", 1),
		"extra after":      strings.Replace(text, lines[1]+lines[2], lines[2]+lines[1], 1),
		"no index":         strings.Replace(text, lines[2], "", 1),
		"index 04":         strings.Replace(text, "index 4", "index 04", 1),
		"index of size":    strings.Replace(text, "index 4", "index 7", 1),
		"hash of 31 bytes": strings.Replace(text, lines[3], strings.Repeat("A", 44)+"\n", 1),
		"no empty line":    strings.Replace(text, "\n\n", "\n", 1),
		"three newlines":   strings.Replace(text, "\n\n", "\n\n\n", 1),
		"many hashes":      strings.Replace(text, lines[3], strings.Repeat(lines[3], 65), 1),
		"too long":         text + strings.Repeat("x", tlog.MaxProofSize),
	} {
		if bad == text {
			t.Errorf("%s: the test changed nothing", name)
		}
		if p, err := tlog.ParseProof([]byte(bad)); !errors.Is(err, tlog.ErrMalformed) || p != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tlog.NewProof(make([]byte, tlog.MaxExtraSize+1), 0, nil, certificate); err == nil {
		t.Error("too much extra data accepted")
	}
	if _, err := tlog.NewProof(nil, 0, nil, nil); err == nil {
		t.Error("a proof without certificate accepted")
	}
}

func TestProofBounds(t *testing.T) {
	net := newNetwork(t, 4, 3, 7)
	p := net.receipt(4, net.certify(0, 1, 2))
	p.Extra = bytes.Repeat([]byte{0xff}, tlog.MaxExtraSize)
	p.Path = make([]digest.Digest, 64)
	if _, err := tlog.ParseProof(p.Text()); err != nil {
		t.Errorf("the longest proof cannot be read: %v", err)
	}
	p.Extra, p.Path = nil, nil
	if back, err := tlog.ParseProof(p.Text()); err != nil || back.Extra != nil || back.Path != nil {
		t.Errorf("the shortest proof: %+v, %v", back, err)
	}
}

func FuzzParseProof(f *testing.F) {
	net := newNetwork(f, 4, 3, 7)
	certificate := net.certify(0, 1, 2)
	f.Add(net.receipt(4, certificate).Text())
	without := net.receipt(6, certificate)
	without.Extra = nil
	f.Add(without.Text())
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := tlog.ParseProof(text)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Text(), text) {
			t.Errorf("%q came back as %q", text, p.Text())
		}
		record, err := p.VerifyRecord(signature.Direct{}, net.policy)
		if err == nil && !bytes.Equal(record, net.records[p.Index]) {
			t.Errorf("proved %q at %d", record, p.Index)
		}
	})
}

// proofOfMany is like the receipt of a measurement: 650 bytes of record, a path
// of 12 hashes, three cosignatures.
func proofOfMany(t testing.TB) *tlog.Proof {
	net := newNetwork(t, 4, 3, 4096)
	for i := range net.records {
		net.records[i] = bytes.Repeat(net.records[i], 65)
	}
	return net.receipt(1234, net.certify(0, 1, 2))
}

func BenchmarkParseProof(b *testing.B) {
	text := proofOfMany(b).Text()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tlog.ParseProof(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProofText(b *testing.B) {
	p := proofOfMany(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Text()
	}
}

func BenchmarkVerifyInclusion(b *testing.B) {
	p := proofOfMany(b)
	c, leaf := p.Certificate.Checkpoint, tlog.LeafHash([]byte("record 1234"))
	b.ReportAllocs()
	for b.Loop() {
		if err := tlog.VerifyInclusion(leaf, p.Index, c.Size, p.Path, c.Root); err != nil {
			b.Fatal(err)
		}
	}
}

package trust_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/internal/golden"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"github.com/lacre-metrology/lacre/core/trust"
)

const origin = "ledger.example/0011223344556677"

func signer(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func verifierKey(t testing.TB, name string, keyType tlog.KeyType, key ed25519.PrivateKey) tlog.VerifierKey {
	t.Helper()
	k, err := tlog.NewVerifierKey(name, keyType, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// policy of one generation of four replicas, q = 3.
func policy(t testing.TB, origin, generation string) *tlog.Policy {
	t.Helper()
	var logs, replicas []tlog.VerifierKey
	for i := range 4 {
		name := fmt.Sprintf("replica%d.%s", i, generation)
		logs = append(logs, verifierKey(t, origin, tlog.LogKey, signer("log "+name)))
		replicas = append(replicas, verifierKey(t, name, tlog.CosignerKey, signer(name)))
	}
	p, err := tlog.NewQuorumPolicy(logs, replicas, 3)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// certify signs some tree of this size by three replicas of a generation.
func certify(t testing.TB, generation string, size uint64) *tlog.Certificate {
	t.Helper()
	c := tlog.Checkpoint{Origin: origin, Size: size, Root: tlog.LeafHash(fmt.Append(nil, size))}
	log, err := tlog.SignLog(signer("log replica0."+generation), c)
	if err != nil {
		t.Fatal(err)
	}
	var cosignatures []tlog.Cosignature
	for i := range 3 {
		name := fmt.Sprintf("replica%d.%s", i, generation)
		s, err := tlog.Cosign(signer(name), name, c, 1_700_000_000)
		if err != nil {
			t.Fatal(err)
		}
		cosignatures = append(cosignatures, s)
	}
	certificate, err := tlog.NewCertificate(c, log, cosignatures)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// example has generations a to 100, b to 200, and c, open.
func example(t testing.TB) *trust.Bundle {
	t.Helper()
	b, err := trust.New(trust.Epoch{Policy: policy(t, origin, "a")})
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range []struct {
		last       uint64
		generation string
	}{{100, "b"}, {200, "c"}} {
		if b, err = b.Extend(next.last, policy(t, origin, next.generation)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestEpochIsChosenByTreeSize(t *testing.T) {
	b := example(t)
	for _, size := range []uint64{1, 99, 100, 101, 199, 200, 201, 1_000_000} {
		want := "a"
		if size > 100 {
			want = "b"
		}
		if size > 200 {
			want = "c"
		}
		for _, generation := range []string{"a", "b", "c"} {
			err := b.Check(signature.Direct{}, certify(t, generation, size))
			if (err == nil) != (generation == want) {
				t.Errorf("size %d certified by %s: %v", size, generation, err)
			}
			if err != nil && !errors.Is(err, tlog.ErrNotCertified) {
				t.Errorf("size %d certified by %s: untyped error %v", size, generation, err)
			}
		}
	}
}

func TestClosedBundleCertifiesNothingAfterItsEnd(t *testing.T) {
	b, err := trust.New(trust.Epoch{Policy: policy(t, origin, "a"), LastSize: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(signature.Direct{}, certify(t, "a", 100)); err != nil {
		t.Error(err)
	}
	var refused *tlog.PolicyError
	if err := b.Check(signature.Direct{}, certify(t, "a", 101)); !errors.As(err, &refused) {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := b.Extend(150, policy(t, origin, "b")); !errors.Is(err, trust.ErrMalformed) {
		t.Errorf("extended a closed bundle: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	a, b := policy(t, origin, "a"), policy(t, origin, "b")
	for name, epochs := range map[string][]trust.Epoch{
		"none":            nil,
		"no policy":       {{LastSize: 1}},
		"two open":        {{Policy: a}, {Policy: b}},
		"open, then not":  {{Policy: a}, {Policy: b, LastSize: 5}},
		"descending":      {{Policy: a, LastSize: 5}, {Policy: b, LastSize: 4}},
		"the same size":   {{Policy: a, LastSize: 5}, {Policy: b, LastSize: 5}},
		"above 2^63-1":    {{Policy: a, LastSize: 1 << 63}},
		"another origin":  {{Policy: a, LastSize: 5}, {Policy: policy(t, "other.example/00", "b")}},
		"too many epochs": make([]trust.Epoch, trust.MaxEpochs+1),
	} {
		if bundle, err := trust.New(epochs...); !errors.Is(err, trust.ErrMalformed) || bundle != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	open := example(t)
	for _, last := range []uint64{0, 150, 200} {
		if bundle, err := open.Extend(last, a); !errors.Is(err, trust.ErrMalformed) || bundle != nil {
			t.Errorf("extended at %d: %v", last, err)
		}
	}
}

func TestExtendLeavesTheOldBundle(t *testing.T) {
	old := example(t)
	before := old.Digest()
	longer, err := old.Extend(300, policy(t, origin, "d"))
	if err != nil {
		t.Fatal(err)
	}
	if old.Digest() != before || longer.Digest() == before || len(longer.Epochs()) != 4 {
		t.Error("Extend changed its receiver, or made nothing new")
	}
	if old.Check(signature.Direct{}, certify(t, "c", 301)) != nil || longer.Check(signature.Direct{}, certify(t, "c", 301)) == nil {
		t.Error("the last size does not bind")
	}
}

func TestB2_BundleHasOneForm(t *testing.T) {
	b := example(t)
	text := string(b.Bytes())
	back, err := trust.Parse([]byte(text))
	if err != nil || back.Digest() != b.Digest() || back.Origin() != origin {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(text, "\n")
	for name, bad := range map[string]string{
		"empty":             "",
		"header alone":      lines[0],
		"no header":         strings.TrimPrefix(text, lines[0]),
		"no final newline":  strings.TrimSuffix(text, "\n"),
		"line after":        text + "\n",
		"comment":           strings.Replace(text, lines[1], "# hello\n"+lines[1], 1),
		"leading zero":      strings.Replace(text, "epoch 100 ", "epoch 0100 ", 1),
		"signed":            strings.Replace(text, "epoch 100 ", "epoch +100 ", 1),
		"two spaces":        strings.Replace(text, "epoch 100 ", "epoch 100  ", 1),
		"lines too few":     strings.Replace(text, "epoch 100 10", "epoch 100 9", 1),
		"lines too many":    strings.Replace(text, "epoch 0 10", "epoch 0 11", 1),
		"lines 010":         strings.Replace(text, "epoch 100 10", "epoch 100 010", 1),
		"middle open":       strings.Replace(text, "epoch 200 ", "epoch 0 ", 1),
		"order":             strings.Replace(strings.Replace(text, "epoch 100 ", "epoch 300 ", 1), "epoch 200 ", "epoch 100 ", 1),
		"carriage returns":  strings.ReplaceAll(text, "\n", "\r\n"),
		"policy with space": strings.Replace(text, "quorum replicas", "quorum  replicas", 1),
		"too long":          text + strings.Repeat("#", trust.MaxSize),
	} {
		if bad == text {
			t.Errorf("%s: the test changed nothing", name)
		}
		if got, err := trust.Parse([]byte(bad)); !errors.Is(err, trust.ErrMalformed) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestB2_EveryFlippedBitShowsInTheDigest(t *testing.T) {
	b, err := trust.New(trust.Epoch{Policy: policy(t, origin, "a")})
	if err != nil {
		t.Fatal(err)
	}
	text, pinned := b.Bytes(), b.Digest()
	for bit := range len(text) * 8 {
		flipped := bytes.Clone(text)
		flipped[bit/8] ^= 1 << (bit % 8)
		if got, err := trust.Parse(flipped); err == nil && got.Digest() == pinned {
			t.Errorf("bit %d flipped, digest unchanged", bit)
		}
	}
}

func TestGoldenBundle(t *testing.T) {
	b := example(t)
	golden.Bytes(t, "trust.bundle", b.Bytes())
	golden.JSON(t, "trust.json", map[string]any{
		"bundle": "trust.bundle", "digest": b.Digest(), "origin": b.Origin(),
		"digest_rule": "SHA-256 of lacre/trustbundle/v1, one zero byte, and the bundle's bytes: " + digest.Of(digest.TrustBundle, b.Bytes()).String(),
	})
}

func FuzzParse(f *testing.F) {
	f.Add(example(f).Bytes())
	f.Add([]byte("lacre/trust/v1\nepoch 0 0\n"))
	certificate := certify(f, "a", 7)
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := trust.Parse(text)
		if err != nil {
			if !errors.Is(err, trust.ErrMalformed) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(b.Bytes(), text) {
			t.Errorf("%q came back as %q", text, b.Bytes())
		}
		_ = b.Check(signature.Direct{}, certificate) // must not panic
	})
}

package conformance

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/envelope"
	"github.com/lacre-metrology/lacre/core/sample"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/trust"
	"github.com/lacre-metrology/lacre/core/vector"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/meter"
	"github.com/lacre-metrology/lacre/meter/internal/outbox"
)

// keys are one of each kind that meters have.
func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ed25519": ed25519.NewKeyFromSeed(Vectors().Seed), "p256": p256}
}

func tagged(t *testing.T, key crypto.Signer) Hex {
	t.Helper()
	kind, err := sample.KindOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := signature.KeyOf(kind, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return public.Bytes()
}

// answer is what firmware with a key makes of the challenge.
func answer(t *testing.T, key crypto.Signer, change func(i int, h *sample.Header)) *Submission {
	t.Helper()
	challenge, err := Challenge()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(challenge)
	if err != nil {
		t.Fatal(err)
	}
	s.PublicKey = tagged(t, key)
	var previous digest.Digest
	for i := range s.Samples {
		given := &s.Samples[i]
		var values [][]int16
		if err := json.Unmarshal([]byte(given.Values), &values); err != nil {
			t.Fatal(err)
		}
		raw, err := vector.Encode(recordv1.Encoding(*given.Encoding), values)
		if err != nil {
			t.Fatal(err)
		}
		h := &sample.Header{
			NetworkID: digest.Digest(s.NetworkID), MeterID: s.MeterID, Counter: s.FirstCounter + uint64(i), Previous: previous,
			CapturedAtUnixNano: *given.CapturedAtUnixNano, ClockSync: recordv1.ClockSync(*given.ClockSync),
			KnownHeight: *given.KnownHeight, KnownBlock: digestOf(given.KnownBlock), Channels: s.Channels,
			SamplesPerChannel: uint32(len(values[0])), SampleRateMillihertz: s.SampleRateMillihertz,
			Encoding: recordv1.Encoding(*given.Encoding), RawDigest: sample.DigestRaw(raw), StatusFlags: *given.StatusFlags,
		}
		for _, e := range *given.Evidence {
			h.Evidence = append(h.Evidence, e.evidence())
		}
		if change != nil {
			change(i, h)
		}
		signed, sig, err := sample.Sign(key, h)
		if err != nil {
			t.Fatal(err)
		}
		given.RawVector, given.Header, given.Signature = raw, signed.Bytes, sig
		previous = signed.Digest
	}
	return s
}

// again signs a sample's header anew, whatever its bytes are.
func again(t *testing.T, key crypto.Signer, s *Sample) {
	t.Helper()
	kind, err := sample.KindOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if s.Signature, err = signature.Sign(key, kind, envelope.PAE(sample.PayloadType, s.Header)); err != nil {
		t.Fatal(err)
	}
}

// The vectors conform to themselves, to the bit.
func TestVectorsConform(t *testing.T) {
	r := JudgeVectors(Vectors())
	if r.Verdict != OK || len(r.Samples) != 5 {
		t.Fatalf("%s", r)
	}
	for _, s := range r.Samples {
		for _, c := range s.Checks {
			if c.Verdict != OK {
				t.Errorf("sample %s: %+v", s.Name, c)
			}
		}
	}
}

func TestAnswersToTheChallenge(t *testing.T) {
	for name, key := range keys(t) {
		s := answer(t, key, nil)
		for mode, r := range map[string]*Report{"by itself": Judge(s), "against the vectors": JudgeVectors(s)} {
			if r.Verdict != OK {
				t.Errorf("%s, %s:\n%s", name, mode, r)
			}
		}
		if name == "ed25519" && !bytes.Equal(s.Samples[4].Signature, Vectors().Samples[4].Signature) {
			t.Error("Ed25519 gives another signature")
		}
	}
	// An encoder of one's own choice: each sample as it is.
	key := ed25519.NewKeyFromSeed(Vectors().Seed)
	s := answer(t, key, nil)
	last := &s.Samples[4]
	last.RawVector = Hex{0xff, 0xff, 0x00, 0x01} // one sample has no block to choose
	if r := JudgeVectors(s); r.Verdict != OK {
		t.Errorf("%s", r)
	}
}

// What our own SDK puts into its outbox conforms, over a restart too.
func TestOurMeterConforms(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "core", "testdata", "receipts", "trust.bundle"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := trust.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	var network digest.Digest // the bundle's origin names its first half
	if _, err := hex.Decode(network[:8], []byte(bundle.Origin()[len(bundle.Origin())-16:])); err != nil {
		t.Fatal(err)
	}
	for name, key := range keys(t) {
		dir := t.TempDir()
		config := meter.Config{
			NetworkID: network, TLS: &tls.Config{MinVersion: tls.VersionTLS13}, MeterID: "m-1", Channels: 2, SampleRateMillihertz: 1_000_000, Signer: key,
			Endpoints: []string{"127.0.0.1:1"}, Trust: bundle, Dir: dir, // nobody answers there
			KnownBlock: meter.KnownBlock{Height: 7, Header: digest.Of(digest.BlockHeader, []byte("7")), CertifiedAt: time.Unix(1_700_000_000, 0)},
		}
		const passes = 6
		for i := range passes {
			m, err := meter.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			capture := meter.Capture{CapturedAt: time.Unix(1_700_000_100+int64(i), 5), ClockSync: recordv1.ClockSync_CLOCK_SYNC_SYNCHRONISED, Channels: [][]int16{{1, 2, int16(i)}, {3, 4, 5}}}
			if _, err := m.Record(t.Context(), capture); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
		files, err := outbox.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		box, err := outbox.Open(files, outbox.Options{NetworkID: config.NetworkID, MeterID: "m-1", MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		s := &Submission{NetworkID: config.NetworkID.Bytes(), MeterID: "m-1", FirstCounter: 1, Channels: 2, SampleRateMillihertz: 1_000_000, PublicKey: tagged(t, key)}
		for counter := uint64(1); counter <= passes; counter++ {
			e, err := box.Read(counter)
			if err != nil {
				t.Fatal(err)
			}
			s.Samples = append(s.Samples, Sample{
				Header: e.Sample.Bytes, Signature: e.Signature, RawVector: e.RawVector,
				Values: fmt.Sprintf("[[1,2,%d],[3,4,5]]", counter-1),
			})
		}
		if err := files.Close(); err != nil {
			t.Fatal(err)
		}
		if r := Judge(s); r.Verdict != OK {
			t.Errorf("%s:\n%s", name, r)
		}
	}
}

// Each fault is found under its own name, and under no other.
func TestEachFaultHasItsName(t *testing.T) {
	type firmware struct {
		key    crypto.Signer
		s      *Submission
		header func(i int, change func(h *sample.Header)) // makes and signs a header anew, the chain after it stays
	}
	flip := func(h Hex, at int) Hex {
		out := bytes.Clone(h)
		out[at] ^= 1
		return out
	}
	for _, c := range []struct {
		name   string
		change func(f *firmware)
		want   []string
		p256   bool
		alone  bool // judged without the vectors
	}{
		{name: "a key of small order", change: func(f *firmware) { f.s.PublicKey = append(Hex{2, 1}, make([]byte, 31)...) }, want: []string{CheckKey}},
		{name: "a key with the tag of statements", change: func(f *firmware) { f.s.PublicKey = append(Hex{1}, f.s.PublicKey[1:]...) }, want: []string{CheckKey}},
		{name: "a compressed point", p256: true, change: func(f *firmware) { f.s.PublicKey = append(Hex{3, 2}, f.s.PublicKey[2:34]...) }, want: []string{CheckKey}},
		{name: "no first counter", alone: true, change: func(f *firmware) { f.s.FirstCounter = 0 }, want: []string{CheckFirst, CheckCounter}},
		{name: "a sample is missing", change: func(f *firmware) { f.s.Samples = f.s.Samples[:4] }, want: []string{CheckAgainstAll}},
		{name: "no header", change: func(f *firmware) { f.s.Samples[4].Header = nil }, want: []string{CheckHeaderSize}},
		{name: "a header too long", change: func(f *firmware) { f.s.Samples[4].Header = make(Hex, sample.MaxHeaderBytes+1) }, want: []string{CheckHeaderSize}},
		{name: "a padded varint", change: func(f *firmware) {
			h := f.s.Samples[4].Header
			at := bytes.Index(h, []byte{0x18, 45}) // counter
			f.s.Samples[4].Header = slices.Concat(h[:at], Hex{0x18, 45 | 0x80, 0}, h[at+2:])
			again(t, f.key, &f.s.Samples[4])
		}, want: []string{CheckHeaderEncoding}},
		{name: "a default value written out", change: func(f *firmware) {
			f.s.Samples[4].Header = append(bytes.Clone(f.s.Samples[4].Header), 0x78, 0) // status_flags 0
			again(t, f.key, &f.s.Samples[4])
		}, want: []string{CheckHeaderEncoding}},
		{name: "an unknown field", change: func(f *firmware) {
			f.s.Samples[4].Header = append(bytes.Clone(f.s.Samples[4].Header), 0xa0, 0x06, 1)
			again(t, f.key, &f.s.Samples[4])
		}, want: []string{CheckHeaderEncoding}},
		{name: "fields out of order", change: func(f *firmware) {
			h := f.s.Samples[4].Header
			f.s.Samples[4].Header = slices.Concat(h[34:], h[:34]) // network_id last
			again(t, f.key, &f.s.Samples[4])
		}, want: []string{CheckHeaderEncoding}},
		{name: "no network id", change: func(f *firmware) {
			f.s.Samples[4].Header = f.s.Samples[4].Header[34:]
			again(t, f.key, &f.s.Samples[4])
		}, want: []string{CheckHeaderFields}},
		{name: "an id with a capital", change: func(f *firmware) {
			f.s.Samples[4].Header = bytes.Replace(f.s.Samples[4].Header, []byte("m-1"), []byte("M-1"), 1)
			again(t, f.key, &f.s.Samples[4])
		}, want: []string{CheckHeaderFields}},
		{name: "another network", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.NetworkID[0] ^= 1 }) }, want: []string{CheckNetwork}},
		{name: "another meter", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.MeterID = "m-2" }) }, want: []string{CheckMeter}},
		{name: "another rate", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.SampleRateMillihertz = 2000 }) }, want: []string{CheckShape}},
		{name: "a counter left out", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.Counter++ }) }, want: []string{CheckCounter, CheckInputs}},
		{name: "a counter used again", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.Counter-- }) }, want: []string{CheckCounter, CheckInputs}},
		{name: "a predecessor in the first sample", change: func(f *firmware) {
			f.s.Samples = f.s.Samples[:1]
			f.header(0, func(h *sample.Header) { h.Previous = digest.Plain(nil) })
		}, alone: true, want: []string{CheckPrevious}},
		{name: "no predecessor later", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.Previous = digest.Zero }) }, want: []string{CheckPrevious}},
		{name: "the predecessor's header hashed plainly", change: func(f *firmware) {
			f.header(4, func(h *sample.Header) { h.Previous = digest.Plain(f.s.Samples[3].Header) })
		}, want: []string{CheckPrevious}},
		{name: "a clock that goes back", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.CapturedAtUnixNano = 1 }) }, alone: true, want: []string{CheckTime, CheckInputs}},
		{name: "microseconds", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.CapturedAtUnixNano += 1000 }) }, want: []string{CheckInputs}},
		{name: "status flags dropped", change: func(f *firmware) { f.header(2, func(h *sample.Header) { h.StatusFlags = 0 }) }, want: []string{CheckInputs, CheckPrevious}},
		{name: "evidence dropped", change: func(f *firmware) { f.header(2, func(h *sample.Header) { h.Evidence = nil }) }, want: []string{CheckInputs, CheckPrevious}},
		{name: "a zero block", change: func(f *firmware) { f.header(4, func(h *sample.Header) { h.KnownBlock = digest.Zero }) }, want: []string{CheckKnown, CheckInputs}},
		{name: "two blocks at one height", change: func(f *firmware) {
			f.header(4, func(h *sample.Header) { h.KnownHeight = *f.s.Samples[3].KnownHeight })
		}, want: []string{CheckKnown, CheckInputs}},
		{name: "a raw vector without its prefix hashed", change: func(f *firmware) {
			f.header(4, func(h *sample.Header) { h.RawDigest = digest.Plain(f.s.Samples[4].RawVector) })
		}, want: []string{CheckRawDigest}},
		{name: "a bit of the raw vector", change: func(f *firmware) { f.s.Samples[0].RawVector = flip(f.s.Samples[0].RawVector, 3) }, want: []string{CheckRawDigest, CheckValues}},
		{name: "big-endian samples", change: func(f *firmware) {
			raw := bytes.Clone(f.s.Samples[0].RawVector)
			for i := 0; i < len(raw); i += 2 {
				raw[i], raw[i+1] = raw[i+1], raw[i]
			}
			f.s.Samples[0].RawVector = raw
			f.header(0, func(h *sample.Header) { h.RawDigest = sample.DigestRaw(raw) })
		}, want: []string{CheckValues, CheckPrevious}},
		{name: "a byte too many", change: func(f *firmware) {
			raw := append(bytes.Clone(f.s.Samples[4].RawVector), 0)
			f.s.Samples[4].RawVector = raw
			f.header(4, func(h *sample.Header) { h.RawDigest = sample.DigestRaw(raw) })
		}, want: []string{CheckRawVector}},
		{name: "too few samples told", change: func(f *firmware) { f.header(1, func(h *sample.Header) { h.SamplesPerChannel-- }) }, want: []string{CheckRawVector, CheckPrevious}},
		{name: "no signature", change: func(f *firmware) { f.s.Samples[4].Signature = nil }, want: []string{CheckSignatureForm}},
		{name: "DER", p256: true, change: func(f *firmware) { f.s.Samples[4].Signature = append(Hex{0x30, 0x46, 2, 0x21, 0}, make([]byte, 67)...) }, want: []string{CheckSignatureForm}},
		{name: "high S", p256: true, change: func(f *firmware) {
			high, ok := withOtherS(f.s.Samples[4].Signature)
			if !ok {
				t.Fatal("no other s")
			}
			f.s.Samples[4].Signature = high
		}, want: []string{CheckSignatureForm}},
		{name: "a bit of the signature", change: func(f *firmware) { f.s.Samples[4].Signature = flip(f.s.Samples[4].Signature, 40) }, want: []string{CheckSignature, CheckDeterministic}},
		{name: "another key", p256: true, change: func(f *firmware) { f.s.PublicKey = Vectors().PublicKey }, want: []string{CheckSignature, CheckDeterministic}},
		{name: "the header signed without PAE", change: func(f *firmware) {
			f.s.Samples[4].Signature = ed25519.Sign(f.key.(ed25519.PrivateKey), f.s.Samples[4].Header)
		}, want: []string{CheckSignature, CheckDeterministic}},
		{name: "another PAE told", change: func(f *firmware) { f.s.Samples[4].Signed = f.s.Samples[4].Header }, want: []string{CheckSigned}},
		{name: "another digest told", change: func(f *firmware) { f.s.Samples[4].Digest = digest.Plain(f.s.Samples[4].Header).Bytes() }, want: []string{CheckSampleDigest}},
		{name: "a nonce in Ed25519", change: func(f *firmware) {
			sig, err := f.key.Sign(rand.Reader, f.s.Samples[4].Header, &ed25519.Options{Context: "x"})
			if err != nil {
				t.Fatal(err)
			}
			f.s.Samples[4].Signature = sig
		}, want: []string{CheckSignature, CheckDeterministic}},
	} {
		f := &firmware{key: keys(t)[map[bool]string{false: "ed25519", true: "p256"}[c.p256]]}
		f.s = answer(t, f.key, nil)
		f.header = func(i int, change func(h *sample.Header)) {
			parsed, err := sample.Parse(f.s.Samples[i].Header)
			if err != nil {
				t.Fatal(err)
			}
			h := parsed.Header
			change(&h)
			signed, sig, err := sample.Sign(f.key, &h)
			if err != nil {
				t.Fatal(err)
			}
			f.s.Samples[i].Header, f.s.Samples[i].Signature = signed.Bytes, sig
		}
		c.change(f)
		judge := JudgeVectors
		if c.alone {
			judge = Judge
		}
		r := judge(f.s)
		got := r.Failures()
		slices.Sort(got)
		slices.Sort(c.want)
		if r.Verdict != Failed || !slices.Equal(got, c.want) {
			t.Errorf("%s: %s, failed are %q, want %q\n%s", c.name, r.Verdict, got, c.want, r)
		}
	}
}

// What is not given is not checked, and is not passed.
func TestWhatIsMissingIsNotChecked(t *testing.T) {
	key := ed25519.NewKeyFromSeed(Vectors().Seed)
	for name, change := range map[string]func(s *Submission){
		"no samples":    func(s *Submission) { s.Samples = nil },
		"no raw vector": func(s *Submission) { s.Samples[2].RawVector = nil },
	} {
		s := answer(t, key, nil)
		change(s)
		if r := Judge(s); r.Verdict != NotChecked {
			t.Errorf("%s: %s\n%s", name, r.Verdict, r)
		}
	}
	s := answer(t, key, nil)
	for i := range s.Samples {
		s.Samples[i] = Sample{Header: s.Samples[i].Header, Signature: s.Samples[i].Signature, RawVector: s.Samples[i].RawVector}
	}
	if r := Judge(s); r.Verdict != OK {
		t.Errorf("only what a meter sends: %s\n%s", r.Verdict, r)
	}
}

func TestParseRefusesOtherForms(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "a list": "[]", "an unknown field": `{"metre_id":"m"}`, "upper case": `{"network_id":"AA"}`,
		"half a byte": `{"network_id":"a"}`, "two objects": "{}{}", "no hex": `{"samples":[{"header":"zz"}]}`,
	} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	challenge, err := Challenge()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(challenge)
	f.Add([]byte(`{"samples":[{"header":"00","signature":"00","values":"[[1]]"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		for _, r := range []*Report{Judge(s), JudgeVectors(s)} {
			if r.Verdict == OK {
				t.Errorf("accepted: %s", b)
			}
		}
	})
}

package tlog_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/tlog"
	"golang.org/x/mod/sumdb/note"
)

// The example of C2SP tlog-checkpoint.
const c2spBody = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

// The cosignature line of the example in C2SP tlog-cosignature.
const c2spCosignature = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="

func TestC2SPExamples(t *testing.T) {
	c, err := tlog.ParseCheckpoint([]byte(c2spBody))
	if err != nil || c.Origin != "example.com/behind-the-sofa" || c.Size != 20852163 || c.Root[0] != 0x0a || string(c.Body()) != c2spBody {
		t.Errorf("checkpoint: %+v, %v", c, err)
	}
	s, err := tlog.ParseCosignature(c2spCosignature)
	if err != nil || s.Name != "witness.example.com/w1" || s.KeyID != 0x8d66cf3f || s.TimestampUnix != 1679315147 || s.Line() != c2spCosignature {
		t.Errorf("cosignature: %+v, %v", s, err)
	}
}

func TestB2_CheckpointHasOneForm(t *testing.T) {
	root := "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	for name, body := range map[string]string{
		"empty":              "",
		"no final newline":   strings.TrimSuffix(c2spBody, "\n"),
		"extension line":     c2spBody + "extension\n",
		"empty line":         c2spBody + "\n",
		"no origin":          "\n1\n" + root + "\n",
		"origin with space":  "a b\n1\n" + root + "\n",
		"origin with plus":   "a+b\n1\n" + root + "\n",
		"origin not ASCII":   "é\n1\n" + root + "\n",
		"origin with return": "a\r\n1\n" + root + "\n",
		"long origin":        strings.Repeat("a", tlog.MaxNameSize+1) + "\n1\n" + root + "\n",
		"no size":            "a\n\n" + root + "\n",
		"leading zero":       "a\n01\n" + root + "\n",
		"signed size":        "a\n+1\n" + root + "\n",
		"size above 2^63-1":  "a\n9223372036854775808\n" + root + "\n",
		"size above 2^64":    "a\n18446744073709551616\n" + root + "\n",
		"empty tree's size":  "a\n0\n" + root + "\n",
		"empty tree's root":  "a\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
		"short root":         "a\n1\nAAAA\n",
		"root, loose bits":   "a\n1\n" + strings.TrimSuffix(root, "I=") + "J=\n",
		"root, URL-safe":     "a\n1\n" + strings.ReplaceAll(root, "/", "_") + "\n",
		"root, no padding":   "a\n1\n" + strings.TrimSuffix(root, "=") + "\n",
		"root, return":       "a\n1\n" + root + "\r\n",
	} {
		c, err := tlog.ParseCheckpoint([]byte(body))
		var format *tlog.FormatError
		if !errors.Is(err, tlog.ErrMalformed) || !errors.As(err, &format) || c != (tlog.Checkpoint{}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	longest := tlog.Checkpoint{Origin: strings.Repeat("a", tlog.MaxNameSize), Size: tlog.MaxTreeSize, Root: digest.Digest{1}}
	if back, err := tlog.ParseCheckpoint(longest.Body()); err != nil || back != longest {
		t.Errorf("the longest checkpoint cannot be read: %v", err)
	}
	if empty := (tlog.Checkpoint{Origin: "a", Root: tlog.EmptyRoot()}); empty.Check() != nil {
		t.Error("the empty tree was refused")
	}
}

func TestOriginCarriesGenesis(t *testing.T) {
	one, two := digest.Of(digest.Statement, []byte("1")), digest.Of(digest.Statement, []byte("2"))
	origin, err := tlog.Origin("ledger.example", one)
	if err != nil || origin != "ledger.example/"+one.String()[:16] {
		t.Fatalf("%q, %v", origin, err)
	}
	if err := tlog.CheckOrigin(origin, one); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "ledger.example", "/" + one.String()[:16], "a b/" + one.String()[:16], origin + "0"} {
		if tlog.CheckOrigin(bad, one) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	if err := tlog.CheckOrigin(origin, two); err == nil {
		t.Error("the origin of another network accepted")
	}
	for _, bad := range []string{"", "a b", "a+b", "a\nb", strings.Repeat("a", tlog.MaxNameSize-16)} {
		if _, err := tlog.Origin(bad, one); err == nil {
			t.Errorf("name %q accepted", bad)
		}
	}
}

func TestVerifierKeyForms(t *testing.T) {
	net := newNetwork(t, 1, 1, 1)
	for _, key := range []tlog.VerifierKey{net.policy.Logs[0], net.policy.Witnesses[0].Key} {
		vkey := key.String()
		back, err := tlog.ParseVerifierKey(vkey)
		if err != nil || back != key {
			t.Fatalf("%s gives %v, %v", vkey, back, err)
		}
		parts := strings.SplitN(vkey, "+", 3)
		for name, bad := range map[string]string{
			"empty":        "",
			"another name": "x" + vkey,
			"another ID":   parts[0] + "+00000000+" + parts[2],
			"ID capitals":  parts[0] + "+" + strings.ToUpper(parts[1]) + "F+" + parts[2],
			"no key":       parts[0] + "+" + parts[1],
			"space":        vkey + " ",
			"empty name":   "+" + parts[1] + "+" + parts[2],
			"long":         strings.Repeat("a", 300) + vkey,
		} {
			if got, err := tlog.ParseVerifierKey(bad); err == nil {
				t.Errorf("%s: %v accepted", name, got)
			}
		}
	}
	small := make([]byte, 32)
	small[0] = 1 // the identity
	var keyError *signature.KeyError
	if _, err := tlog.NewVerifierKey("a", tlog.LogKey, small); !errors.As(err, &keyError) {
		t.Errorf("a key of small order: %v", err)
	}
	if _, err := tlog.NewVerifierKey("a", 0x06, public(signer("a"))); err == nil {
		t.Error("key type 0x06 accepted")
	}
}

// Other people's tools open what we write: here the Go project's note package.
func TestNotePackageOpensACertificate(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	certificate := net.certify(0, 1, 2)
	log := net.key(net.origin, tlog.LogKey, net.logs[0])
	verifier, err := note.NewVerifier(log.String())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open(certificate.Text(), note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if opened.Text != string(net.checkpoint().Body()) || len(opened.Sigs) != 1 || len(opened.UnverifiedSigs) != 3 {
		t.Errorf("opened as %+v", opened)
	}
	if opened.UnverifiedSigs[1].Name != net.names[1] || opened.UnverifiedSigs[1].Hash != net.key(net.names[1], tlog.CosignerKey, net.replicas[1]).ID() {
		t.Errorf("a cosignature reads as %+v", opened.UnverifiedSigs[1])
	}
}

func TestSignaturesVerifyUnderTheirKeyOnly(t *testing.T) {
	net := newNetwork(t, 4, 3, 5)
	c := net.checkpoint()
	other := c
	other.Size++
	v := signature.Direct{}
	logKey, replicaKey := net.key(net.origin, tlog.LogKey, net.logs[0]), net.key(net.names[0], tlog.CosignerKey, net.replicas[0])
	log, cosignature := net.signLog(0, c), net.cosign(0, c)
	if err := log.Verify(v, logKey, c); err != nil {
		t.Error(err)
	}
	if err := cosignature.Verify(v, replicaKey, c); err != nil {
		t.Error(err)
	}
	asCosigner := logKey
	asCosigner.Type = tlog.CosignerKey
	forged := log
	forged.KeyID = net.key(net.origin, tlog.LogKey, net.logs[1]).ID()
	later := cosignature
	later.TimestampUnix++
	for name, err := range map[string]error{
		"log, another checkpoint":         log.Verify(v, logKey, other),
		"log, another key":                log.Verify(v, net.key(net.origin, tlog.LogKey, net.logs[1]), c),
		"log, key of another type":        log.Verify(v, asCosigner, c),
		"log, another key's ID":           forged.Verify(v, net.key(net.origin, tlog.LogKey, net.logs[1]), c),
		"cosignature, another checkpoint": cosignature.Verify(v, replicaKey, other),
		"cosignature, another key":        cosignature.Verify(v, net.key(net.names[0], tlog.CosignerKey, net.replicas[1]), c),
		"cosignature, another name":       cosignature.Verify(v, net.key("x", tlog.CosignerKey, net.replicas[0]), c),
		"cosignature, another time":       later.Verify(v, replicaKey, c),
	} {
		if !errors.Is(err, tlog.ErrNotCertified) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSigningRefusesWhatCannotBeWritten(t *testing.T) {
	net := newNetwork(t, 1, 1, 1)
	c := net.checkpoint()
	key := net.replicas[0]
	for name, timestamp := range map[string]uint64{"zero": 0, "above 2^63-1": math.MaxInt64 + 1} {
		if _, err := tlog.Cosign(key, "a", c, timestamp); err == nil {
			t.Errorf("time stamp %s signed", name)
		}
	}
	if _, err := tlog.Cosign(key, "a b", c, 1); err == nil {
		t.Error("a name with a space signed")
	}
	if _, err := tlog.Cosign(key, "a", tlog.Checkpoint{Origin: "a", Size: 0, Root: c.Root}, 1); err == nil {
		t.Error("an empty tree with a root signed")
	}
	if _, err := tlog.SignLog(key, tlog.Checkpoint{Origin: "a\nb", Size: 1, Root: c.Root}); err == nil {
		t.Error("an origin of two lines signed")
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.Cosign(p256, "a", c, 1); err == nil {
		t.Error("cosigned with P-256")
	}
}

func TestB2_SignatureLinesHaveOneForm(t *testing.T) {
	net := newNetwork(t, 1, 1, 1)
	c := net.checkpoint()
	log, cosignature := net.signLog(0, c), net.cosign(0, c)
	if back, err := tlog.ParseLogSignature(log.Line()); err != nil || back != log {
		t.Errorf("%+v, %v", back, err)
	}
	if back, err := tlog.ParseCosignature(cosignature.Line()); err != nil || back != cosignature {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := tlog.ParseLogSignature(cosignature.Line()); err == nil {
		t.Error("a cosignature passed as a log signature")
	}
	if _, err := tlog.ParseCosignature(log.Line()); err == nil {
		t.Error("a log signature passed as a cosignature")
	}
	line := cosignature.Line()
	zero := cosignature
	zero.TimestampUnix = 0
	for _, bad := range []string{"", "—", "— a", "— a ", line + " ", line + "\n", line + "\r", " " + line, strings.Replace(line, "—", "-", 1),
		strings.Replace(line, " ", "  ", 1), strings.TrimSuffix(line, "="), zero.Line(), "— " + strings.Repeat("a", 500)} {
		if _, err := tlog.ParseCosignature(bad); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add([]byte(c2spBody))
	f.Add([]byte("a\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if c, err := tlog.ParseCheckpoint(body); err == nil && !bytes.Equal(c.Body(), body) {
			t.Errorf("%q came back as %q", body, c.Body())
		}
	})
}

func FuzzParseVerifierKey(f *testing.F) {
	net := newNetwork(f, 1, 1, 1)
	f.Add(net.policy.Logs[0].String())
	f.Add("a+00000000+AAAA")
	f.Fuzz(func(t *testing.T, vkey string) {
		if k, err := tlog.ParseVerifierKey(vkey); err == nil && k.String() != vkey {
			t.Errorf("%q came back as %q", vkey, k)
		}
	})
}

func FuzzParseSignatureLines(f *testing.F) {
	f.Add(c2spCosignature)
	f.Add("— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=")
	f.Add("— a " + strings.Repeat("0", 89) + "A==") // as long as a log signature, and one byte short of it
	f.Fuzz(func(t *testing.T, line string) {
		if s, err := tlog.ParseCosignature(line); err == nil && s.Line() != line {
			t.Errorf("%q came back as %q", line, s.Line())
		}
		if s, err := tlog.ParseLogSignature(line); err == nil && s.Line() != line {
			t.Errorf("%q came back as %q", line, s.Line())
		}
	})
}

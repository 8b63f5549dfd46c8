package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// vector reads a golden vector of core.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "core", "testdata", filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func lines(b []byte) []string { return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") }

// lastPolicy is the text of the policy of a trust bundle's last epoch.
func lastPolicy(t *testing.T, bundle []byte) []byte {
	t.Helper()
	all := lines(bundle)
	if all[0] != "lacre/trust/v1" {
		t.Fatalf("not a trust bundle: %q", all[0])
	}
	for i := len(all) - 1; i > 0; i-- {
		if strings.HasPrefix(all[i], "epoch ") {
			return []byte(strings.Join(all[i+1:], "\n") + "\n")
		}
	}
	t.Fatal("a trust bundle without an epoch")
	return nil
}

// oneLog leaves one of a policy's log keys. The network has one for each
// replica, and the specification asks for a signature by any one of them;
// torchwood v0.9.0 asks for all of them (TestPolicyOfSeveralLogKeys).
func oneLog(t *testing.T, policy []byte, logKeyID string) []byte {
	t.Helper()
	var kept []string
	logs := 0
	for _, line := range lines(policy) {
		if strings.HasPrefix(line, "log ") {
			if !strings.Contains(line, "+"+logKeyID+"+") {
				continue
			}
			logs++
		}
		kept = append(kept, line)
	}
	if logs != 1 {
		t.Fatalf("%d log keys have the ID %s", logs, logKeyID)
	}
	return []byte(strings.Join(kept, "\n") + "\n")
}

// signedBy is the ID of the log key that signed a checkpoint.
func signedBy(t *testing.T, checkpoint []byte) string {
	t.Helper()
	_, signatures, ok := bytes.Cut(checkpoint, []byte("\n\n"))
	if !ok {
		t.Fatalf("no signatures in %q", checkpoint)
	}
	fields := strings.Fields(lines(signatures)[0])
	b, err := base64.StdEncoding.DecodeString(fields[len(fields)-1])
	if err != nil || len(b) != 4+64 {
		t.Fatalf("the log's signature line is %q (%v)", fields, err)
	}
	return hex.EncodeToString(b[:4])
}

func parsePolicy(t *testing.T, text []byte) torchwood.Policy {
	t.Helper()
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		t.Fatalf("torchwood refuses the policy: %v\n%s", err, text)
	}
	return policy
}

// proof is a tlog-proof with its policy.
type proof struct {
	name         string
	text, policy []byte
	index        int64
}

func (p *proof) checkpoint(t *testing.T) []byte {
	t.Helper()
	_, checkpoint, ok := bytes.Cut(p.text, []byte("\n\n"))
	if !ok {
		t.Fatalf("%s has no checkpoint", p.name)
	}
	return checkpoint
}

func proofs(t *testing.T) []proof {
	t.Helper()
	list := []proof{
		{name: "tlog.proof", text: vector(t, "tlog.proof"), policy: vector(t, "tlog.policy")},
		{name: "receipts/measurement.receipt", text: vector(t, "receipts/measurement.receipt"), policy: lastPolicy(t, vector(t, "receipts/trust.bundle"))},
	}
	for i := range list {
		list[i].index = indexOf(t, &list[i])
	}
	return list
}

// indexOf is the number in a proof's index line.
func indexOf(t *testing.T, p *proof) (index int64) {
	t.Helper()
	for _, line := range lines(p.text) {
		if number, ok := strings.CutPrefix(line, "index "); ok {
			if err := json.Unmarshal([]byte(number), &index); err != nil {
				t.Fatal(err)
			}
			return index
		}
	}
	t.Fatalf("%s has no index line", p.name)
	return 0
}

// Each signature of a checkpoint verifies on its own, as a note: the log's with
// sumdb/note, the cosignatures with torchwood.
func TestCheckpointSignatures(t *testing.T) {
	for _, p := range proofs(t) {
		checkpoint := p.checkpoint(t)
		var verifiers []note.Verifier
		for _, line := range lines(p.policy) {
			fields := strings.Fields(line)
			switch fields[0] {
			case "log":
				v, err := note.NewVerifier(fields[1])
				if err != nil {
					t.Fatalf("%s: sumdb refuses log key %q: %v", p.name, fields[1], err)
				}
				verifiers = append(verifiers, v)
			case "witness":
				v, err := torchwood.NewCosignatureVerifier(fields[2])
				if err != nil {
					t.Fatalf("%s: torchwood refuses cosigner key %q: %v", p.name, fields[2], err)
				}
				if v.String() != fields[2] || v.Name() != fields[1] {
					t.Errorf("%s: cosigner key %q is written %q there", p.name, fields[2], v)
				}
				verifiers = append(verifiers, v)
			}
		}
		opened, err := note.Open(checkpoint, note.VerifierList(verifiers...))
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if len(opened.Sigs) != 4 || len(opened.UnverifiedSigs) != 0 {
			t.Errorf("%s: %d signatures verify and %d do not, want the log's and three cosignatures", p.name, len(opened.Sigs), len(opened.UnverifiedSigs))
		}
		parsed, err := torchwood.ParseCheckpoint(opened.Text)
		if err != nil || parsed.Extension != "" || parsed.String() != opened.Text {
			t.Errorf("%s: checkpoint %+v (%v)", p.name, parsed, err)
		}
		for _, s := range opened.Sigs {
			if s.Name == parsed.Origin {
				continue
			}
			if at, err := torchwood.CosignatureTimestamp(s); err != nil || at < 1_600_000_000 {
				t.Errorf("%s: time of %s is %d (%v)", p.name, s.Name, at, err)
			}
		}
	}
}

// A receipt is verified by torchwood alone, given its policy.
func TestProofsVerify(t *testing.T) {
	for _, p := range proofs(t) {
		checkpoint := p.checkpoint(t)
		policy := parsePolicy(t, oneLog(t, p.policy, signedBy(t, checkpoint)))
		record, err := torchwood.ProofExtraData(p.text)
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(record), p.text); err != nil {
			t.Errorf("%s: torchwood refuses the proof: %v", p.name, err)
		}
		// And it writes the same bytes.
		var path tlog.RecordProof
		for _, line := range lines(p.text)[3:] {
			if line == "" {
				break
			}
			b, err := base64.StdEncoding.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			path = append(path, tlog.Hash(b))
		}
		if again := torchwood.FormatProofWithExtraData(p.index, record, path, checkpoint); !bytes.Equal(again, p.text) {
			t.Errorf("%s: torchwood writes the proof as\n%s", p.name, again)
		}
		// Another record, and a policy of other keys, are refused.
		var mismatch *torchwood.VerifyRecordError
		if err := torchwood.VerifyProof(policy, tlog.RecordHash([]byte("another")), p.text); !errors.As(err, &mismatch) {
			t.Errorf("%s: another record: %v", p.name, err)
		}
	}
	all := proofs(t)
	stranger := parsePolicy(t, oneLog(t, all[1].policy, signedBy(t, all[1].checkpoint(t))))
	record, err := torchwood.ProofExtraData(all[0].text)
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(stranger, tlog.RecordHash(record), all[0].text); err == nil {
		t.Error("a policy of other keys accepts the proof")
	}
}

// torchwood v0.9.0 asks for a signature by every log that a policy lists; the
// C2SP specification asks for any one. A network lists the log key of each
// replica and a checkpoint bears one, so that library needs a policy with only
// that key in it. This test fails when it changes: then docs/formats.md may
// drop its sentence on it.
func TestPolicyOfSeveralLogKeys(t *testing.T) {
	for _, p := range proofs(t) {
		checkpoint := p.checkpoint(t)
		if _, _, err := torchwood.VerifyCheckpoint(checkpoint, parsePolicy(t, p.policy)); err == nil {
			t.Errorf("%s: torchwood accepts one of several log keys now, as the specification says", p.name)
		}
		one := oneLog(t, p.policy, signedBy(t, checkpoint))
		c, _, err := torchwood.VerifyCheckpoint(checkpoint, parsePolicy(t, one))
		if err != nil {
			t.Errorf("%s: one log key: %v", p.name, err)
		}
		// The quorum is three: with one cosignature less it is refused.
		text := lines(checkpoint)
		fewer := strings.Join(text[:len(text)-1], "\n") + "\n"
		if _, _, err := torchwood.VerifyCheckpoint([]byte(fewer), parsePolicy(t, one)); err == nil {
			t.Errorf("%s: accepted with two cosignatures of three", p.name)
		}
		if c.Origin == "" {
			t.Errorf("%s: no origin", p.name)
		}
	}
}

// Whatever bit of a proof is flipped (every bit of the short one, one of each
// byte of the receipt), the other library refuses it too, unless it is a bit of
// the base64 that means nothing: those our own verifier refuses (rule B2).
func TestFlippedProofsAreRefused(t *testing.T) {
	for _, p := range proofs(t) {
		policy := parsePolicy(t, oneLog(t, p.policy, signedBy(t, p.checkpoint(t))))
		var meaningless, flips int
		for i := range p.text {
			for bit := range 8 {
				if len(p.text) > 1000 && bit != i%8 {
					continue
				}
				flips++
				flipped := bytes.Clone(p.text)
				flipped[i] ^= 1 << bit
				record, err := torchwood.ProofExtraData(flipped)
				if err != nil || torchwood.VerifyProof(policy, tlog.RecordHash(record), flipped) != nil {
					continue
				}
				meaningless++
				if !bytes.Equal(rewritten(flipped), p.text) {
					t.Errorf("%s: accepted with bit %d of byte %d flipped: %q", p.name, bit, i, flipped[max(0, i-20):min(len(flipped), i+20)])
				}
			}
		}
		t.Logf("%s: %d flips of %d change unused bits of base64 only", p.name, meaningless, flips)
	}
}

// rewritten is a text with each line's last word decoded and encoded again, if
// it is base64.
func rewritten(text []byte) []byte {
	var out []string
	for _, line := range strings.Split(string(text), "\n") {
		space := strings.LastIndexByte(line, ' ') + 1
		if b, err := base64.StdEncoding.DecodeString(line[space:]); err == nil && len(b) > 0 {
			line = line[:space] + base64.StdEncoding.EncodeToString(b)
		}
		out = append(out, line)
	}
	return []byte(strings.Join(out, "\n"))
}

// The tree of tlog.json is the one that sumdb/tlog computes, and it accepts our
// consistency proof.
func TestTreeIsTheirTree(t *testing.T) {
	var golden struct {
		Records     []string `json:"records"`
		LeafHashes  []string `json:"leaf_hashes"`
		Roots       []string `json:"roots_of_1_to_7"`
		EmptyRoot   string   `json:"empty_root"`
		Consistency []string `json:"consistency_of_3_in_7"`
	}
	if err := json.Unmarshal(vector(t, "tlog.json"), &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Records) != 7 || len(golden.Roots) != 7 {
		t.Fatalf("%d records and %d roots", len(golden.Records), len(golden.Roots))
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	roots := make([]tlog.Hash, 8)
	for i, record := range golden.Records {
		if got := tlog.RecordHash([]byte(record)); hex.EncodeToString(got[:]) != golden.LeafHashes[i] {
			t.Errorf("leaf %d has hash %x there, %s here", i, got[:], golden.LeafHashes[i])
		}
		hashes, err := tlog.StoredHashes(int64(i), []byte(record), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
		if roots[i+1], err = tlog.TreeHash(int64(i+1), reader); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(roots[i+1][:]); got != golden.Roots[i] {
			t.Errorf("root of %d is %s there, %s here", i+1, got, golden.Roots[i])
		}
	}
	empty, err := tlog.TreeHash(0, reader)
	if err != nil || hex.EncodeToString(empty[:]) != golden.EmptyRoot {
		t.Errorf("the empty root is %x there (%v), %s here", empty[:], err, golden.EmptyRoot)
	}
	var consistency tlog.TreeProof
	for _, h := range golden.Consistency {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		consistency = append(consistency, tlog.Hash(b))
	}
	if err := tlog.CheckTree(consistency, 7, roots[7], 3, roots[3]); err != nil {
		t.Errorf("consistency of 3 in 7: %v", err)
	}
	consistency[0][0] ^= 1
	if err := tlog.CheckTree(consistency, 7, roots[7], 3, roots[3]); err == nil {
		t.Error("a wrong consistency proof is accepted")
	}
}

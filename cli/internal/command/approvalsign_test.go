package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
)

// signingNetwork founds a network whose notified body has three keys, of which
// two must sign, and drafts a withdrawal there.
func signingNetwork(t *testing.T) (dir, digest string) {
	t.Helper()
	dir = t.TempDir()
	n := statetest.New(t, statetest.Options{})
	body := n.Config.NotifiedBodies[0]
	body.Keys, body.Threshold = nil, 2
	for _, name := range []string{"a", "b", "c", "stranger"} {
		key, err := statement.GenerateKey(filepath.Join(dir, name), statement.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		if name != "stranger" {
			body.Keys = append(body.Keys, statetest.Tagged(signature.Ed25519, key))
		}
	}
	sortBytes(body.Keys)
	genesis := wire.MustEncode(&recordv1.Genesis{Records: n.GenesisRecords(), BlockTimeUnixNano: statetest.GenesisUnix * statetest.Second})
	subject := record.SubjectAlgorithm(n.Algorithm)
	m := &recordv1.AlgorithmStatus{
		Header:    &recordv1.StatementHeader{NetworkId: n.ID.Bytes(), Subject: subject, Sequence: 2, Predecessor: n.Algorithm.Bytes(), IssuedAtUnixNano: 1},
		Algorithm: n.Algorithm.Bytes(), Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW, Reason: "recalled",
	}
	payload := wire.MustEncode(m)
	draft, err := json.Marshal(draftFile{PayloadType: record.TypeAlgorithmStatus, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"genesis": genesis, "draft": draft} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, record.StatementDigest(record.TypeAlgorithmStatus, payload).String()
}

func sortBytes(list [][]byte) {
	for i := range list {
		for j := i; j > 0 && bytes.Compare(list[j-1], list[j]) > 0; j-- {
			list[j-1], list[j] = list[j], list[j-1]
		}
	}
}

// The file travels from one keeper of a key to the next; each is told how many
// are missing, and a key that may not sign is refused.
func TestSigningTravelsUntilNobodyIsMissing(t *testing.T) {
	dir, digest := signingNetwork(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, step := range []struct {
		in, key, typed, out string
		code                int
		says                string
	}{
		{"draft", "a", digest + "\n", "one", ExitOK, "1 signed, 1 missing, of 3 keys that may sign"},
		{"one", "stranger", digest, "no", ExitFailed, "may not sign this"},
		{"one", "a", digest, "again", ExitOK, "1 signed, 1 missing"},
		{"one", "c", strings.Repeat("0", 64), "no", ExitRefuted, "not what you meant to sign"},
		{"one", "c", digest[:63], "no", ExitRefuted, "not what you meant to sign"},
		{"one", "c", "", "no", ExitUsage, "nothing is signed without"},
		{"one", "c", digest, "two", ExitOK, "nobody is missing"},
	} {
		var stdout, stderr bytes.Buffer
		code := Main([]string{"approval", "sign", at(step.in), "--key", at(step.key), "--genesis", at("genesis"), "--out", at(step.out)},
			strings.NewReader(step.typed), &stdout, &stderr)
		if code != step.code || !strings.Contains(stderr.String(), step.says) {
			t.Errorf("%s signs %s: code %d, want %d with %q:\n%s", step.key, step.in, code, step.code, step.says, stderr.String())
		}
		if _, err := os.Stat(at(step.out)); (err == nil) != (step.code == ExitOK) {
			t.Errorf("%s signs %s: the file %s is there: %v", step.key, step.in, step.out, err == nil)
		}
		if step.code == ExitOK && !strings.Contains(stderr.String(), `reason: "recalled"`) {
			t.Errorf("%s did not read what it signs:\n%s", step.key, stderr.String())
		}
	}
}

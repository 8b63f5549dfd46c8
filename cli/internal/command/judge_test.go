package command

import (
	"bytes"
	"crypto"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/lacre-metrology/lacre/cli/internal/statement"
	"github.com/lacre-metrology/lacre/core/record"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/state/statetest"
	"github.com/lacre-metrology/lacre/core/wire"
	recordv1 "github.com/lacre-metrology/lacre/gen/lacre/record/v1"
	"github.com/lacre-metrology/lacre/platform/ledgertest"
)

// With --follow the configuration in force judges, not the founding one: a key
// that came later signs, one that went does not, and the output says by which.
func TestFollowJudgesByTheConfigurationInForce(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	keys := make(map[string]crypto.Signer)
	for _, name := range []string{"before", "after"} {
		key, err := statement.GenerateKey(at(name), statement.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	files := make(map[string][]byte)
	draft := func(name string, m proto.Message) {
		var err error
		if files[name], err = json.Marshal(draftFile{PayloadType: record.TypeOf(m), Payload: wire.MustEncode(m)}); err != nil {
			t.Fatal(err)
		}
	}
	ledger := ledgertest.New(t, statetest.Options{})
	ledger.Do(func(n *statetest.Network) {
		files["genesis"] = wire.MustEncode(&recordv1.Genesis{Records: n.GenesisRecords(), BlockTimeUnixNano: statetest.GenesisUnix * statetest.Second})
		for _, name := range []string{"before", "after"} {
			config := proto.CloneOf(n.Config)
			config.Header = n.Header(record.SubjectNetwork)
			config.NotifiedBodies[0].Keys = [][]byte{statetest.Tagged(signature.Ed25519, keys[name])}
			n.Accept(n.Sign(config, statetest.Root("org-00"), statetest.Root("org-01"), statetest.Root("org-02"), keys[name]))
		}
		draft("withdrawal", &recordv1.AlgorithmStatus{Header: n.Header(record.SubjectAlgorithm(n.Algorithm)), Algorithm: n.Algorithm.Bytes(),
			Action: recordv1.AlgorithmAction_ALGORITHM_ACTION_WITHDRAW})
		draft("reveal", &recordv1.CanaryReveal{Header: &recordv1.StatementHeader{NetworkId: n.ID.Bytes(), Subject: record.SubjectCanary("c-1"), Sequence: 2, Predecessor: n.Algorithm.Bytes(), IssuedAtUnixNano: 1},
			CanaryId: "c-1", NotifiedBody: "nb", Expectation: []byte{1}, Verdicts: []recordv1.CanaryVerdict{1}})
	})
	for name, content := range files {
		if err := os.WriteFile(at(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replica := ledger.Serve(t, "replica-a")
	follow := []string{"--follow", "--server", replica.Address, "--spki", replica.SPKI}
	for _, c := range []struct {
		file, key string
		follow    bool
		code      int
		says      string
	}{
		{"withdrawal", "before", false, ExitFailed, "may not sign this (by the founding configuration"},
		{"withdrawal", "before", true, ExitFailed, "may not sign this (by configuration 3,"},
		{"withdrawal", "after", false, ExitFailed, "for which --follow asks"},
		{"withdrawal", "after", true, ExitOK, "judged by configuration 3, "},
		{"reveal", "before", true, ExitFailed, "may not sign this"},
		{"reveal", "after", true, ExitOK, "notified body nb: 1 signed, complete"},
	} {
		e, err := readDraft(at(c.file))
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"approval", "sign", at(c.file), "--key", at(c.key), "--genesis", at("genesis"), "--digest", e.Digest().String(), "--out", at("out")}
		if c.follow {
			args = append(args, follow...)
		}
		var stdout, stderr bytes.Buffer
		if code := Main(args, strings.NewReader(""), &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s signs %s, follow %v: code %d, want %d with %q:\n%s", c.key, c.file, c.follow, code, c.code, c.says, stderr.String())
		}
		written := os.Remove(at("out")) == nil
		if written != (c.code == ExitOK) {
			t.Errorf("%s signs %s, follow %v: a file was written: %v", c.key, c.file, c.follow, written)
		}
	}
	var stdout, stderr bytes.Buffer
	args := append([]string{"approval", "sign", at("withdrawal"), "--key", at("after"), "--network", at("nowhere"), "--out", at("out")}, follow...)
	if code := Main(args, strings.NewReader(""), &stdout, &stderr); code == ExitOK {
		t.Errorf("--follow without a genesis: %s", stderr.String())
	}
}

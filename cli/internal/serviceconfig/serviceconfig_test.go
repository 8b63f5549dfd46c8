package serviceconfig

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/platform/identity"
)

var update = flag.Bool("update", false, "write deploy/config")

const deployed = "../../../deploy/config"

// The committed examples are what Example writes, and the services accept them.
func TestDeployExamples(t *testing.T) {
	for _, service := range Names {
		text, err := Example(service)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(deployed, service+".yaml")
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		committed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, text) {
			t.Errorf("%s is not what lacre config example %s writes; run: cd cli && go test ./internal/serviceconfig -update", path, service)
		}
		for _, name := range []string{service, "auto"} {
			if name == "auto" {
				if name, err = Detect(text); err != nil || name != service {
					t.Errorf("%s is detected as %q: %v", service, name, err)
				}
			}
			if problems, err := Validate(name, text, false); err != nil || len(problems) > 0 {
				t.Errorf("the example of %s is refused: %v, %v", service, problems, err)
			}
		}
	}
	var unknown *UnknownError
	if _, err := Example("ledgr"); !errors.As(err, &unknown) {
		t.Errorf("an unknown service: %v", err)
	}
	if _, err := Validate("ledgr", nil, false); !errors.As(err, &unknown) {
		t.Errorf("an unknown service: %v", err)
	}
}

// Every port of the table is in the service's example, but that of tiles, which
// are off.
func TestPortsAreThoseOfTheExamples(t *testing.T) {
	for _, p := range Ports {
		text, err := Example(p.Service)
		if err != nil {
			t.Fatal(err)
		}
		if shown := strings.Contains(string(text), fmt.Sprintf(":%d\n", p.Number)); shown != (p.Key != "tiles.listen") {
			t.Errorf("the example of %s has port %d of %s: %v", p.Service, p.Number, p.Key, shown)
		}
	}
}

func TestDetectWantsOneService(t *testing.T) {
	for text, says := range map[string]string{
		"": "0 services", "modules: x\nendorsers: []\n": "[compute ingest]", "node_id: x\n": "0 services", "a: [": "did not find",
	} {
		if service, err := Detect([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is detected as %q: %v, want %q", text, service, err, says)
		}
	}
}

// All that is wrong is said at once: keys that no field names, rules, and every
// file that cannot be used.
func TestValidateReportsEverythingAtOnce(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if _, err := identity.Generate(at("good.pem")); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(at("good.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"open.pem": 0o644, "twin.pem": 0o600} {
		if err := os.WriteFile(at(name), good, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("text"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	ledger := func(tls, cosigner, genesis string) string {
		return "node_id: Replica\ndata_dir: " + at("data") + "\ngenesis: " + genesis + "\ntls_key: " + tls + "\nsigning_key: " + at("absent.pem") +
			"\ncosigner_key: " + cosigner + "\nlog_key: " + at("text") + "\nraft_listn: :1\nserver: {listen: 127.0.0.1:1, max_streams: many}\n"
	}
	for name, c := range map[string]struct {
		service, text string
		want          []string // "line: text" or "0: text"
	}{
		"ledger": {"ledger", ledger(at("open.pem"), at("good.pem"), at("text")), []string{
			"0: raft_listen: is missing", "1: node_id: ", "8: field raft_listn not found", "9: cannot unmarshal",
			"0: tls_key: unusable key file: " + at("open.pem") + " has mode 0644", "0: signing_key: ", "0: log_key: unusable key file",
			"0: genesis: " + at("text"), "0: data_dir: the replica is not initialised",
		}},
		"one key twice": {"ledger", ledger(at("good.pem"), at("twin.pem"), at("absent")), []string{"0: signing_key, cosigner_key, log_key, tls_key: " + at("twin.pem")}},
		"a certificate of nothing": {"approval", "node_id: a\ntls_key: " + at("good.pem") + "\ntls_certificate: " + at("text") + "\n", []string{
			"0: tls_certificate: unusable certificate file"}},
		"modules is a file": {"compute", "node_id: a\ntls_key: " + at("good.pem") + "\nsigning_key: " + at("good.pem") + "\nmodules: " + at("text") + "\n", []string{"0: modules: "}},
		"tracing to nobody trusted": {"compute", "node_id: a\ntracing:\n  endpoint: collector\n  ca: " + at("absent") + "\n", []string{
			"3: tracing: endpoint: address collector", "0: tracing: ca: open " + at("absent")}},
		"an endorser twice": {"ingest", "node_id: a\nendorsers:\n  - {node_id: b}\n  - {node_id: b}\n", []string{
			"4: endorsers[1].node_id: \"b\" is listed twice", "3: endorsers[0].spki"}},
	} {
		problems, err := Validate(c.service, []byte(c.text), true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, p := range problems {
			got = append(got, fmt.Sprintf("%d: %s", p.Line, p.Text))
		}
		for _, want := range c.want {
			if !contains(got, want) {
				t.Errorf("%s: no problem begins with %q:\n%s", name, want, strings.Join(got, "\n"))
			}
		}
	}
}

func contains(list []string, prefix string) bool {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

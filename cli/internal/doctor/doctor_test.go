package doctor_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lacre-metrology/lacre/cli/internal/devnet"
	"github.com/lacre-metrology/lacre/cli/internal/doctor"
	"github.com/lacre-metrology/lacre/platform/identity"
	"github.com/lacre-metrology/lacre/platform/loopback"
)

const (
	replica  = "replica-institute"
	endorser = "endorser-institute"
)

// TestDoctorNamesWhatIsWrong runs a network, and examines it as it is and after
// one thing was changed in the files, which the running nodes have read already.
func TestDoctorNamesWhatIsWrong(t *testing.T) {
	n := network(t)
	start(t, n)
	other, created, err := devnet.LoadOrCreate(t.TempDir(), time.Now())
	if err != nil || !created {
		t.Fatalf("another network: created %v, %v", created, err)
	}
	config := func(id string) string { return filepath.Join(n.NodeDir(id), "config.yaml") }
	file := func(id, name string) string { return filepath.Join(n.NodeDir(id), name) }
	free := unused(t)
	for _, c := range []struct {
		name        string
		change      func(t *testing.T)
		now         func() time.Time
		node, check string // "" for a sound network
		level       doctor.Level
		says        string
	}{
		{name: "nothing"},
		{"key that others read", func(t *testing.T) { mode(t, file(replica, "signing.pem"), 0o644) }, nil, replica, "signing_key", doctor.Fail, "mode 0644"},
		{"no key", func(t *testing.T) { rename(t, file(endorser, "signing.pem")) }, nil, endorser, "signing_key", doctor.Fail, "no such file"},
		{"no key in the file", func(t *testing.T) { rewrite(t, file(replica, "cosigner.pem"), func(string) string { return "-----" }) }, nil, replica, "cosigner_key", doctor.Fail, "PEM"},
		{"another TLS key", func(t *testing.T) { newKey(t, file(endorser, "tls.pem")) }, nil, endorser, "registration", doctor.Fail, "tls_key is "},
		{"another signing key", func(t *testing.T) { newKey(t, file(endorser, "signing.pem")) }, nil, endorser, "registration", doctor.Fail, "signing_key is "},
		{"another cosigner key", func(t *testing.T) { newKey(t, file(replica, "cosigner.pem")) }, nil, replica, "registration", doctor.Fail, "cosigner_key is "},
		{"genesis of another network", func(t *testing.T) { swap(t, filepath.Join(n.Dir, "genesis"), filepath.Join(other.Dir, "genesis")) }, nil, replica, "network_id", doctor.Fail, other.NetworkID},
		{"genesis that begins nothing", func(t *testing.T) {
			rewrite(t, filepath.Join(n.Dir, "genesis"), func(s string) string { return s[:len(s)-7] })
		}, nil, replica, "genesis", doctor.Fail, "genesis"},
		{"trust bundle of another network", func(t *testing.T) { swap(t, filepath.Join(n.Dir, "trust"), filepath.Join(other.Dir, "trust")) }, nil, replica, "checkpoint", doctor.Fail, "policy"},
		{"unknown key in the configuration", func(t *testing.T) { rewrite(t, config(endorser), func(s string) string { return s + "modlues: x\n" }) }, nil, endorser, "config", doctor.Fail, "modlues"},
		{"a node id that is not registered", func(t *testing.T) {
			rewrite(t, config(endorser), func(s string) string { return strings.Replace(s, "node_id: "+endorser, "node_id: stranger", 1) })
		}, nil, "stranger", "registration", doctor.Fail, "registers no node"},
		{"no ledger in the data directory", func(t *testing.T) {
			rewrite(t, config(replica), func(s string) string { return strings.Replace(s, "/data\n", "/date\n", 1) })
		}, nil, replica, "data_dir", doctor.Fail, "no ledger was begun"},
		{"a wrong SPKI in the address book", func(t *testing.T) {
			book(t, n, func(node map[string]any) { node["spki"] = strings.Repeat("ab", 32) })
		}, nil, replica, "port", doctor.Fail, strings.Repeat("ab", 32)},
		{"a node that is down", func(t *testing.T) { book(t, n, func(node map[string]any) { node["address"] = free }) }, nil, replica, "port", doctor.Fail, "refused"},
		{"a clock that is an hour late", nil, func() time.Time { return time.Now().Add(-time.Hour) }, replica, "clock", doctor.Fail, "ahead"},
		{"a clock that is ahead a little", nil, func() time.Time { return time.Now().Add(30 * time.Second) }, replica, "clock", doctor.Warn, "behind"},
		{"another's admin port", func(t *testing.T) {
			rewrite(t, config(endorser), func(s string) string {
				return strings.Replace(s, adminOf(t, config(endorser)), adminOf(t, config(replica)), 1)
			})
		}, nil, endorser, "admin", doctor.Fail, replica},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.change != nil {
				c.change(t)
			}
			report := examine(t, doctor.Options{Dir: n.Dir, Now: c.now})
			if c.node == "" {
				sound(t, report, doctor.Sound)
				return
			}
			want := doctor.Sound
			if c.level == doctor.Fail {
				want = doctor.Unsound
			}
			if report.Verdict != want {
				t.Errorf("verdict %s, want %s", report.Verdict, want)
			}
			named(t, report, c.node, c.check, c.level, c.says)
		})
	}
	t.Run("one replica's configuration alone", func(t *testing.T) {
		report := examine(t, doctor.Options{Configs: []string{config(replica)}})
		sound(t, report, doctor.Sound)
		for _, peer := range []string{"replica-authority", "replica-operator", "replica-university"} {
			named(t, report, peer, "checkpoint", doctor.OK, "root")
		}
	})
}

// A network that is down is not said to be broken, nor to be sound.
func TestDoctorCannotDecideWhenNothingAnswers(t *testing.T) {
	n := network(t)
	report := examine(t, doctor.Options{Dir: n.Dir})
	sound(t, report, doctor.Undecided)
	named(t, report, replica, "lock", doctor.Warn, "nobody")
	named(t, report, replica, "port", doctor.Skipped, "refused")
	mode(t, filepath.Join(n.NodeDir(replica), "tls.pem"), 0o640)
	if report := examine(t, doctor.Options{Dir: n.Dir}); report.Verdict != doctor.Unsound {
		t.Errorf("with a key that others read the verdict is %s", report.Verdict)
	}
}

func TestDoctorNeedsSomethingToLookAt(t *testing.T) {
	if report, err := doctor.Run(t.Context(), doctor.Options{}); err == nil {
		t.Errorf("examined nothing as %+v", report)
	}
}

func network(t *testing.T) *devnet.Network {
	t.Helper()
	n, created, err := devnet.LoadOrCreate(t.TempDir(), time.Now())
	if err != nil || !created {
		t.Fatalf("created %v: %v", created, err)
	}
	return n
}

// start runs the network until the test ends.
func start(t *testing.T, n *devnet.Network) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	if err := n.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func examine(t *testing.T, o doctor.Options) *doctor.Report {
	t.Helper()
	report, err := doctor.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range report.Items {
		if (i.Level == doctor.Warn || i.Level == doctor.Fail) && i.Remedy == "" {
			t.Errorf("%+v comes without a remedy", i)
		}
	}
	return report
}

func sound(t *testing.T, report *doctor.Report, want doctor.Verdict) {
	t.Helper()
	if report.Verdict != want {
		t.Errorf("verdict %s, want %s:\n%s", report.Verdict, want, report.Text())
	}
}

func named(t *testing.T, report *doctor.Report, node, check string, level doctor.Level, says string) {
	t.Helper()
	for _, i := range report.Items {
		if i.Node == node && i.Check == check && i.Level == level && strings.Contains(i.Found, says) {
			return
		}
	}
	t.Errorf("no item %s %s %s with %q:\n%s", level, node, check, says, report.Text())
}

// The changes, each undone when the test ends.

func mode(t *testing.T, path string, m os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Chmod(path, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Error(err)
		}
	})
}

// rename takes a file away.
func rename(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(path+".away", path); err != nil {
			t.Error(err)
		}
	})
}

func rewrite(t *testing.T, path string, change func(string) string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	after := change(string(before))
	if after == string(before) {
		t.Fatalf("%s is not changed", path)
	}
	if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Error(err)
		}
	})
}

func swap(t *testing.T, path, by string) {
	t.Helper()
	content, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, path, func(string) string { return string(content) })
}

func newKey(t *testing.T, path string) {
	t.Helper()
	fresh := filepath.Join(t.TempDir(), "key.pem")
	if _, err := identity.Generate(fresh); err != nil {
		t.Fatal(err)
	}
	swap(t, path, fresh)
}

// book changes the replica's entry in the address book.
func book(t *testing.T, n *devnet.Network, change func(node map[string]any)) {
	t.Helper()
	rewrite(t, filepath.Join(n.Dir, "network.json"), func(text string) string {
		var b map[string]any
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			t.Fatal(err)
		}
		for _, entry := range b["nodes"].([]any) {
			if node := entry.(map[string]any); node["id"] == replica {
				change(node)
			}
		}
		after, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(after)
	})
}

// adminOf is the admin port that a configuration names: the last listen key.
func adminOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\nadmin:\n")
	_, after, listens := strings.Cut(after, "listen: ")
	address, _, _ := strings.Cut(after, "\n")
	if !found || !listens || address == "" {
		t.Fatalf("%s names no admin port", path)
	}
	return address
}

// unused is an address where nothing listens.
func unused(t *testing.T) string {
	t.Helper()
	addresses, err := loopback.Addresses(1)
	if err != nil {
		t.Fatal(err)
	}
	return addresses[0]
}

// The screen has a line for each replica, one leader, and no problem in a sound network; with a replica that its
// network's book does not reach, the remedy.
func TestScreenShowsTheNetwork(t *testing.T) {
	n := network(t)
	start(t, n)
	report := examine(t, doctor.Options{Dir: n.Dir})
	leaders := 0
	for _, r := range report.Replicas {
		if r.Leads {
			leaders++
		}
		if !r.Answers || r.Cosigned == nil || r.Version == "" {
			t.Errorf("replica %+v", r)
		}
	}
	screen := report.Screen(time.Now())
	if len(report.Replicas) != 4 || leaders != 1 || !strings.Contains(screen, "4 of 4 replicas answer") || !strings.Contains(screen, replica) {
		t.Errorf("%d leaders:\n%s", leaders, screen)
	}
	// An hour later, with nobody signing meanwhile, all are missing.
	later := examine(t, doctor.Options{Dir: n.Dir, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	named(t, later, replica, "cosigner", doctor.Warn, "1h0m")
	for _, want := range []string{"cosigner", "Remedy: start it"} {
		if screen := later.Screen(time.Now()); !strings.Contains(screen, want) {
			t.Errorf("the screen lacks %q:\n%s", want, screen)
		}
	}
}

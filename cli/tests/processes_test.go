package tests

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lacre-metrology/lacre/platform/loopback"
)

// TestSeparateProcesses founds a network of four organisations, each in a
// directory of its own, and runs it as 4 + 3 + 1 + 1 processes of the real
// binaries for a day: approve, register, measure, kill -9 and start again every
// process in turn, stop all, start all. Every receipt verifies at the end. What
// it runs is docs/tutorials/founding.sh, which docs/runbooks/founding.md
// explains; with -short one process of each kind is killed.
func TestSeparateProcesses(t *testing.T) {
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+string(filepath.Separator),
		"./cli/cmd/lacre", "./services/ledger/cmd/lacre-ledger", "./services/compute/cmd/lacre-compute",
		"./services/ingest/cmd/lacre-ingest", "./services/approval/cmd/lacre-approval")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	script, err := filepath.Abs("../../docs/tutorials/founding.sh")
	if err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), script, bin)
	run.Cancel = func() error { return run.Process.Signal(os.Interrupt) } // so that it ends its processes
	run.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "LACRE_PORTS="+strings.Join(freePorts(t, 22), " "))
	if testing.Short() {
		run.Env = append(run.Env, "LACRE_SHORT=1")
	}
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		" receipts verified\n", "verified: every block is valid and certified", "0 problems", "all of it held\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the script does not say %q:\n%s", want, out)
		}
	}
	t.Logf("%s", lastLines(string(out), 12))
}

// freePorts are loopback ports that nobody uses now, nor while this process lives.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	addresses, err := loopback.Addresses(n)
	if err != nil {
		t.Fatal(err)
	}
	ports := make([]string, n)
	for i, address := range addresses {
		if _, ports[i], err = net.SplitHostPort(address); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

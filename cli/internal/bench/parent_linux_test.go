package bench

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestKilledRunLeavesNoProcess: a run that gets SIGKILL takes its nodes along.
// The run is this test again, in a process of its own; its node says that it is
// up, waits for a line, and would then say that it is alive.
func TestKilledRunLeavesNoProcess(t *testing.T) {
	const variable = "LACRE_BENCH_PIPES"
	if os.Getenv(variable) != "" {
		started(t, `exec 3>"$`+variable+`/out"; echo up >&3; read line <"$`+variable+`/in"; echo alive >&3`)
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or who started it ends
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"in", "out"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in, err := os.OpenFile(filepath.Join(dir, "in"), os.O_RDWR, 0) // both ways, so that it blocks nowhere
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	run.Env = append(os.Environ(), variable+"="+dir, "TMPDIR="+dir)
	stdin, err := run.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	said := make(chan string)
	go func() {
		defer close(said)
		out, err := os.Open(filepath.Join(dir, "out")) // waits for the node
		if err != nil {
			return
		}
		defer out.Close()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said <- lines.Text()
		}
	}()
	select {
	case <-said:
	case err := <-ended:
		t.Fatalf("the run ended by itself: %v", err)
	}
	if err := run.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if _, err := in.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if line, alive := <-said; alive {
		t.Errorf("the run was killed, and its node is %s", line)
	}
}
